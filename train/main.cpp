/* moba: one program. Subcommands, options, errors; the work is elsewhere. */
#include "train/bench.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/file.h"
#include "train/info.h"
#include "train/options.h"
#include "train/sample.h"
#include "train/trainer.h"
#include "train/version.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <unistd.h>

using nlohmann::json;

static void parse(CLI::App& app, std::vector<std::string> words) {
    std::reverse(words.begin(), words.end());  // CLI11 reads them from the back
    try {
        app.parse(std::move(words));
    } catch (const CLI::CallForHelp&) {
        std::printf("%s", app.help().c_str());
        throw;
    }
}

/* --resume: all settings are the run's own. An option given now must say the same, but for those that do not change
   what is learnt. */
static std::vector<std::string> resume_words(const TrainOptions& o, const CLI::App& given) {
    static const std::vector<std::string> free = {"out",        "device",       "save-every",
                                                  "eval-every", "eval-samples", "log-every"};
    const json saved = read_state(open_model(o.out))["options"], now = option_values(given);
    json merged = saved;
    for (const std::string& name : options_given(given)) {
        const bool changed = !saved.contains(name) || saved[name] != now[name];
        if (changed && std::find(free.begin(), free.end(), name) == free.end()) {
            throw Error("--" + name + " " + now[name].dump() + " contradicts the run in " + o.out + " (" +
                        (saved.contains(name) ? saved[name].dump() : "not set") +
                        "); --resume keeps its settings");
        }
        merged[name] = now[name];
    }
    std::vector<std::string> words = option_words(merged);
    words.push_back("--resume");
    return words;
}

static int train(const std::vector<std::string>& words) {
    const char* about = "train a model from scratch";
    TrainOptions first;
    CLI::App app(about, "moba train");
    add_train_options(app, first);
    parse(app, words);
    const std::string file =
        app.get_option("--config")->count() ? app.get_option("--config")->as<std::string>() : "";
    if (file.empty() && !first.resume) { return run_train(first, option_values(app)); }

    TrainOptions merged;
    CLI::App with_config(about, "moba train");
    add_train_options(with_config, merged);
    std::vector<std::string> all = file.empty() ? std::vector<std::string>{} : config_words(app, file);
    all.insert(all.end(), words.begin(), words.end());
    parse(with_config, all);
    if (!merged.resume) { return run_train(merged, option_values(with_config)); }

    TrainOptions resumed;
    CLI::App as_before(about, "moba train");
    add_train_options(as_before, resumed);
    parse(as_before, resume_words(merged, with_config));
    return run_train(resumed, option_values(as_before));
}

template <class Options, class Add, class Run>
static int command(const char* name, const char* about, const std::vector<std::string>& words, Add add,
                   Run run) {
    Options o;
    CLI::App app(about, name);
    add(app, o);
    parse(app, words);
    return run(o);
}

static const char* usage =
    "moba: train small transformers with Mixture of Block Attention, compare them with full attention\n"
    "\n"
    "  moba train    train a model from scratch       moba sample   let a model go on with a prompt\n"
    "  moba eval     accuracy by length and depth     moba bench    time attention, a step, every operation\n"
    "  moba info     what a model folder holds\n"
    "\n"
    "  moba <command> --help tells its options; moba --version the version and commit\n";

static int run(std::vector<std::string> words) {
    const std::string name = words.empty() ? "" : words[0];
    if (!words.empty()) { words.erase(words.begin()); }
    if (name == "--version") {
        std::printf("moba %s (%s)\n", program_version(), program_commit());
        return 0;
    }
    if (name == "--help" || name == "-h") {
        std::printf("%s", usage);
        return 0;
    }
    if (name == "train") { return train(words); }
    if (name == "eval") {
        return command<EvalOptions>("moba eval", "accuracy by length and depth", words, add_eval_options,
                                    run_eval);
    }
    if (name == "sample") {
        return command<SampleOptions>("moba sample", "let a model go on with a prompt", words,
                                      add_sample_options, run_sample);
    }
    if (name == "bench") {
        return command<BenchOptions>("moba bench", "time attention, a training step, or every operation",
                                     words, add_bench_options, run_bench);
    }
    if (name == "info") {
        return command<InfoOptions>("moba info", "what a model folder holds", words, add_info_options,
                                    run_info);
    }
    std::fprintf(stderr, "%s%s", name.empty() ? "" : ("moba: no such command: " + name + "\n\n").c_str(),
                 usage);
    return 2;
}

/* OpenMP's threads spin while they wait, which stalls everybody as soon as another program wants a core: a step took
   240-840 ms beside a compiler, 45 ms alone. Waiting asleep after a short spin: 114 ms and 45 ms. The runtime reads
   this before main(), so the program starts itself once more. */
static void wait_asleep(char** argv) {
    if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) { return; }
    setenv("GOMP_SPINCOUNT", "1000", 1);
    setenv("KMP_BLOCKTIME", "0", 0);
    execv("/proc/self/exe", argv);  // comes back only where there is no /proc: then threads spin
}

// Names and text from hostile files end up in messages: nothing in them may be a control character.
static std::string one_line(std::string text) {
    for (char& c : text) {
        if ((unsigned char)c < 32 || c == 127) { c = '?'; }
    }
    return text.size() > 1000 ? text.substr(0, 1000) + " ..." : text;
}

int main(int argc, char** argv) {
    wait_asleep(argv);
    std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is a write that fails, and says so
    try {
        return run({argv + 1, argv + argc});
    } catch (const CLI::CallForHelp&) { return 0; } catch (const CLI::ParseError& e) {
        std::fprintf(stderr, "moba: %s (see --help)\n", e.what());
        return 2;
    } catch (const Error& e) {
        std::fprintf(stderr, "moba: %s\n", one_line(e.what()).c_str());
        return 1;
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "moba: out of memory\n");
        return 1;
    } catch (const std::exception& e) {  // e.g. a file name that is not UTF-8, which JSON cannot hold
        std::fprintf(stderr, "moba: %s\n", one_line(e.what()).c_str());
        return 1;
    }
}

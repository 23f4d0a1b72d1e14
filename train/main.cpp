/* moba: one program. Subcommands, options, errors; the work is elsewhere. */
#include "train/bench/bench.h"
#include "train/compare/compare.h"
#include "train/core/file.h"
#include "train/core/version.h"
#include "train/eval/evaluate.h"
#include "train/inspect/inspect.h"
#include "train/options/options.h"
#include "train/run/info.h"
#include "train/run/sample.h"
#include "train/run/train_command.h"
#include "train/run/trainer.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace moba {
namespace {

using nlohmann::json;

template <class Options, class Add, class Run>
int command(const char* name, const char* about, const std::vector<std::string>& words, Add add, Run run) {
    Options o;
    CLI::App app(about, name);
    add(app, o);
    parse_words(app, words);
    return run(o);
}

const char* usage =
    "moba: train small transformers with Mixture of Block Attention, compare them with full attention\n"
    "\n"
    "  moba train    train a model from scratch       moba sample   let a model go on with a prompt\n"
    "  moba eval     accuracy by length and depth     moba bench    time attention, a step, every operation\n"
    "  moba compare  MoBA against full attention      moba inspect  shows which blocks were chosen\n"
    "  moba info     what a model folder holds\n"
    "\n"
    "  moba <command> --help tells its options; moba --version the version and commit\n";

int run(std::vector<std::string> words) {
    for (const std::string& w : words) {
        try {
            json(w).dump();  // checkpoints and logs remember what was said
        } catch (const json::exception&) { throw Error("'" + w + "': words must be UTF-8"); }
    }
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
    if (name == "train") { return run_train(parse_train(words)); }
    if (name == "compare") {
        return command<CompareOptions>("moba compare", "train variants of a model and compare them", words,
                                       add_compare_options, run_compare);
    }
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
    if (name == "inspect") {
        return command<InspectOptions>("moba inspect", "a page that shows which blocks each query chose",
                                       words, add_inspect_options, run_inspect);
    }
    std::fprintf(stderr, "%s%s", name.empty() ? "" : ("moba: no such command: " + name + "\n\n").c_str(),
                 usage);
    return 2;
}

/* OpenMP's threads spin while they wait, which stalls everybody as soon as another program wants a core: a step took
   240-840 ms beside a compiler, 45 ms alone. Waiting asleep after a short spin: 114 ms and 45 ms. The runtime reads
   this before main(), so the program starts itself once more. */
void wait_asleep(char** argv) {
    if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) { return; }
    setenv("GOMP_SPINCOUNT", "1000", 1);
    setenv("KMP_BLOCKTIME", "0", 0);
    execv("/proc/self/exe", argv);  // comes back only where there is no /proc: then threads spin
}

}  // namespace
}  // namespace moba

int main(int argc, char** argv) {
    using namespace moba;
    wait_asleep(argv);
    std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow is a write that fails, and says so
    try {
        return run({argv + 1, argv + argc});
    } catch (const CLI::CallForHelp&) { return 0; } catch (const CLI::ParseError& e) {
        std::fprintf(stderr, "moba: %s (see --help)\n", one_line(e.what()).c_str());
        return 2;
    } catch (const Error& e) {
        std::fprintf(stderr, "moba: %s\n", one_line(e.what()).c_str());
        return 1;
    } catch (const std::bad_alloc&) {
        std::fprintf(stderr, "moba: out of memory\n");
        return 1;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "moba: %s\n", one_line(e.what()).c_str());
        return 1;
    }
}

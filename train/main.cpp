/* moba: one program. Subcommands, options, errors; the work is elsewhere. */
#include "train/bench/bench.h"
#include "train/compare/compare.h"
#include "train/core/file.h"
#include "train/core/shell_text.h"
#include "train/core/version.h"
#include "train/eval/evaluate.h"
#include "train/eval/swap.h"
#include "train/inspect/inspect.h"
#include "train/lab/lab.h"
#include "train/options/options.h"
#include "train/options/suggest.h"
#include "train/plan/plan.h"
#include "train/plot/plot.h"
#include "train/run/info.h"
#include "train/run/launch.h"
#include "train/run/sample.h"
#include "train/run/tokens.h"
#include "train/run/train_command.h"
#include "train/run/trainer.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <csignal>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace moba {
namespace {

using nlohmann::json;

using Words = std::vector<std::string>;

struct Command {
    const char *name, *summary;
    int (*run)(const Command&, const Words&);
};

template <class Options, auto add>
Options parsed(const Command& c, const Words& words, json* values = nullptr) {
    const std::string name = std::string("moba ") + c.name;
    Options o;
    CLI::App app(name + ": " + c.summary, name);
    add(app, o);
    parse_words(app, words);
    if constexpr (requires { o.given; }) { o.given = options_given(app); }
    if (values) { *values = option_values(app); }
    return o;
}
template <class Options, auto add, auto run_command>
int parse_and_run(const Command& c, const Words& words) {
    refuse_ranks(c.name);
    return run_command(parsed<Options, add>(c, words));
}

int train(const Command&, const Words& words) {
    return as_rank([&](Comm& comm) { return run_train(comm, words); });
}

int eval(const Command& c, const Words& words) {
    return as_rank([&](Comm& comm) {
        EvalOptions o;
        json values;
        together(comm, [&] { o = parsed<EvalOptions, add_eval_options>(c, words, &values); });
        check_same_values(comm, options_of(values));
        return run_eval(comm, o);
    });
}

const Command commands[] = {
    {"train", "train a model", train},
    {"eval", "accuracy by length and depth, or the loss of a text", eval},
    {"swap", "what a model loses when full attention becomes MoBA",
     parse_and_run<SwapOptions, add_swap_options, run_swap>},
    {"sample", "generate text or answers after a prompt",
     parse_and_run<SampleOptions, add_sample_options, run_sample>},
    {"compare", "train MoBA and full attention alike, and write a report",
     parse_and_run<CompareOptions, add_compare_options, run_compare>},
    {"plan", "memory, bytes sent and time of a training step, on paper",
     [](const Command&, const Words& words) { return run_plan(words); }},
    {"inspect", "a page that shows which blocks each query chose",
     parse_and_run<InspectOptions, add_inspect_options, run_inspect>},
    {"plot", "a page with the curves of training runs; CSV, TensorBoard",
     parse_and_run<PlotOptions, add_plot_options, run_plot>},
    {"bench", "time attention, a training step, decoding, or every operation",
     parse_and_run<BenchOptions, add_bench_options, run_bench>},
    {"lab", "what a GPU profiler counts, per line of a kernel, without a GPU",
     parse_and_run<LabOptions, add_lab_options, run_lab>},
    {"tokens", "the token ids of a text, or the text of token ids",
     parse_and_run<TokensOptions, add_tokens_options, run_tokens>},
    {"info", "what a model folder contains", parse_and_run<InfoOptions, add_info_options, run_info>},
};

std::string usage() {
    std::string text = "moba: train small transformers with Mixture of Block Attention, and compare them\n"
                       "with full attention\n\n";
    for (const Command& c : commands) {
        const std::string name = c.name;
        text += "  moba " + name + std::string(10 - name.size(), ' ') + c.summary + "\n";
    }
    return text + "\nmoba <command> --help explains its options.\n"
                  "moba --version prints version and commit.\n";
}

int run(Words words) {
    for (const std::string& w : words) {
        try {
            json(w).dump();  // options are stored as JSON, which must be UTF-8
        } catch (const json::exception&) { throw Error("'" + w + "': words must be UTF-8"); }
    }
    const std::string name = words.empty() ? "" : words[0];
    if (!words.empty()) { words.erase(words.begin()); }
    if (name == "--version") {
        std::printf("moba %s (%s)\n", program_version(), program_commit());
        return 0;
    }
    if (name == "--help" || name == "-h") {
        std::printf("%s", usage().c_str());
        return 0;
    }
    std::vector<std::string> known;
    for (const Command& c : commands) {
        if (name == c.name) { return c.run(c, words); }
        known.push_back(c.name);
    }
    if (!name.empty()) {
        std::fprintf(stderr, "moba: no such command: %s%s\n\n", name.c_str(),
                     did_you_mean(name, known).c_str());
    }
    std::fprintf(stderr, "%s", usage().c_str());
    return 2;
}

/* OpenMP's threads spin while they wait, which stalls everybody as soon as another program wants a core: a
   step took 240-840 ms beside a compiler, 45 ms alone. Waiting asleep after a short spin: 114 ms and 45 ms.
   The runtime reads this before main(), so the program starts itself once more. */
void wait_asleep(char** argv) {
    if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) { return; }
    setenv("GOMP_SPINCOUNT", "1000", 1);
    setenv("KMP_BLOCKTIME", "0", 0);
    execv("/proc/self/exe", argv);  // comes back only where there is no /proc: then threads spin
}

/* If standard output is closed, the next opened file would get its descriptor, and printed text would go into
   log.jsonl. */
void hold_standard_files() {
    int fd;
    while ((fd = open("/dev/null", O_RDONLY)) >= 0 && fd <= STDERR_FILENO) {}
    if (fd >= 0) { close(fd); }
}

/* Checks that everything printed was written; otherwise a script would take an empty file for a result. */
void finish_output() {
    const bool failed = std::ferror(stdout) != 0;
    if (std::fflush(stdout) != 0) { throw_errno("standard output"); }
    if (failed) { throw Error("standard output: a part could not be written (disk full?)"); }
    if (close(STDOUT_FILENO) != 0) { throw_errno("standard output"); }
}

}  // namespace
}  // namespace moba

int main(int argc, char** argv) {
    using namespace moba;
    hold_standard_files();
    wait_asleep(argv);
    set_program_path(argv[0]);
    std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // lines come when they are printed, also in a pipe
    // A write beyond the file size limit then fails with an error, not with a signal.
    std::signal(SIGXFSZ, SIG_IGN);
    try {
        int status = 0;
        try {
            status = run({argv + 1, argv + argc});
        } catch (const CLI::CallForHelp&) {}  // has been printed
        finish_output();
        return status;
    } catch (const CLI::ParseError& e) {
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

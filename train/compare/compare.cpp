#include "train/compare/compare.h"
#include "moba/op_table.h"
#include "train/compare/child.h"
#include "train/compare/compare_lengths.h"
#include "train/compare/compare_plan.h"
#include "train/compare/report.h"
#include "train/compare/train_figures.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/joined.h"
#include "train/core/progress.h"
#include "train/core/shell_text.h"
#include "train/data/fingerprint.h"
#include "train/display/numbers.h"
#include "train/eval/evaluate.h"
#include "train/files/run_folder.h"
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <unistd.h>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;
using Run = ComparePlan::Run;

namespace {

struct Stopped {};  // thrown after SIGINT or SIGTERM

// The model with the attention that it has at the end of the training.
Config final_config(const Run& r) {
    const Switch s = parse_switch(r.options.switch_to);
    return s.attention.empty() ? r.plan.config : switched(r.plan.config, s);
}

class Comparison {
  public:
    Comparison(const CompareOptions& o, ComparePlan plan) : o_(o), plan_(std::move(plan)) {}
    void print_plan() const;
    int run();

  private:
    void lock();
    void check_settings() const;
    void check_memory();
    void load_results();
    std::string folder(const Run& r) const { return o_.out + "/runs/" + r.name; }
    std::vector<std::string> train_words(const Run&) const;
    std::vector<std::string> eval_settings(const Run&) const;
    std::vector<std::string> eval_words(const Run&) const;
    bool done(const Run&) const;
    void do_run(const Run&);
    json measure(const Run&);
    double best_lr(const Run&) const;
    const Run& first_run(size_t task, size_t variant) const;
    ChildResult child(const std::vector<std::string>& words, const std::string& log, const std::string& what);
    std::vector<TaskFigures> write_results(const RunBench& bench);
    std::string place() const;

    const CompareOptions& o_;
    const ComparePlan plan_;
    int number_ = 0, total_ = 0;  // the current run, and how many there are
    int done_now_ = 0;            // runs that this process has finished
    const double begin_ms_ = now_ms();
    StatusLine status_;
    FolderLock lock_;
    std::map<std::string, json> results_;  // result.json by the run's name; {} = there is none
};

// "[3/12, about 4m10s left]"
std::string Comparison::place() const {
    std::string eta;
    if (done_now_ > 0) {
        const double each = (now_ms() - begin_ms_) / done_now_;
        eta = ", about " + readable_seconds(each * (total_ - number_ + 1) / 1000) + " left";
    }
    return "[" + std::to_string(number_) + "/" + std::to_string(total_) + eta + "] ";
}

std::vector<std::string> Comparison::train_words(const Run& r) const {
    std::vector<std::string> words = {"train"};
    words.insert(words.end(), r.words.begin(), r.words.end());
    words.push_back("--out=" + folder(r));
    return words;
}

// The options that decide what is evaluated. If they change, a finished run is evaluated again.
std::vector<std::string> Comparison::eval_settings(const Run& r) const {
    std::vector<std::string> words = {"--seq-len=" + joined(r.eval.lengths, ",")};
    if (r.options.data.empty()) {
        if (task_of(r.options)->has_depth()) { words.push_back("--depths=" + std::to_string(r.eval.depths)); }
        words.push_back("--samples=" + joined(r.eval.samples, ","));
        if (final_config(r).has(AttentionKind::moba)) { words.push_back("--router"); }
    } else {
        words.push_back("--windows=" + std::to_string(r.eval.windows));
    }
    if (o_.precision != "fp32") { words.push_back("--precision=" + o_.precision); }
    return words;
}

std::vector<std::string> Comparison::eval_words(const Run& r) const {
    std::vector<std::string> words = {"eval", "--model=" + folder(r)};
    for (const std::string& word : eval_settings(r)) { words.push_back(word); }
    if (o_.device != "auto") { words.push_back("--device=" + o_.device); }
    words.push_back("--json=" + folder(r) + "/eval.json");
    return words;
}

void Comparison::print_plan() const {
    for (const Run& r : plan_.runs) {
        if (r.seed > 1 && plan_.lr.size() > 1) {
            if (r.lr != plan_.lr[0]) { continue; }
            std::printf("# with the learning rate that has the lowest last validation loss with seed 1:\n");
        }
        std::printf("%s\n%s\n", program_text(train_words(r)).c_str(), program_text(eval_words(r)).c_str());
    }
}

// Child processes inherit the lock, so a comparison that is still shutting down keeps it.
void Comparison::lock() {
    if (o_.out.empty()) { throw Error("--out is empty: name a folder for the results"); }
    std::error_code error;
    fs::create_directories(o_.out + "/runs", error);
    if (error) { throw Error("--out " + o_.out + ": " + error.message()); }
    for (int i = 0; !lock_.take(o_.out); i++) {
        if (i == 0) {
            status_.line("another comparison is running in " + o_.out + "; waiting up to a minute");
        }
        if (i == 600) {
            throw Error("--out " + o_.out + ": another comparison is running there; choose another folder");
        }
        usleep(100000);
    }
}

// A plan may grow by variants, tasks and seeds, but the settings of a run that has begun must not change.
void Comparison::check_settings() const {
    const json defaults = default_train_options();
    for (const Run& r : plan_.runs) {
        const std::string file = folder(r) + "/settings.json";
        if (!fs::exists(file)) { continue; }
        const json before = read_json(file);
        for (const auto& [name, value] : r.settings.items()) {
            // an option that did not exist when the run began
            if (!before.contains(name) && defaults.contains(name) && value == defaults[name]) { continue; }
            if (before.contains(name) && before[name] == value) { continue; }
            throw Error(folder(r) + " holds a run with other settings: --" + name + " was " +
                        (before.contains(name) ? before[name].dump() : "not set") + ", now it is " +
                        value.dump() + "; choose another --out, or delete that folder");
        }
        check_same_data(before, r.plan.fingerprint, folder(r));
    }
}

// The memory that can be had now; on a CPU by what Linux says, SIZE_MAX where it says nothing.
size_t memory_available(const DeviceOps& device) {
    if (device.available() != SIZE_MAX) {
        return device.available() - std::min(device.available(), device.reserve());
    }
    std::ifstream in("/proc/meminfo");
    for (std::string line; std::getline(in, line);) {
        size_t kib = 0;
        if (std::sscanf(line.c_str(), "MemAvailable: %zu kB", &kib) == 1) { return kib << 10; }
    }
    return SIZE_MAX;
}

// Says what the runs that are left need, or refuses them, before the first one begins.
void Comparison::check_memory() {
    struct Need {
        size_t bytes = 0;
        std::string what, advice;
    } most;
    EvalOptions options;
    options.device = o_.device, options.precision = o_.precision;
    for (const Run& r : plan_.runs) {
        if (done(r)) { continue; }
        const auto need = [&](size_t bytes, const std::string& what, const std::string& advice) {
            if (bytes > most.bytes) { most = {bytes, what + " of " + r.name, advice}; }
        };
        if (results_.at(r.name).value("status", "") != "done") {
            need(r.plan.memory_bytes, "the training", "; a smaller batch-size needs less");
        }
        if (!r.options.data.empty()) { continue; }
        const auto task = task_of(r.options);
        options.router = final_config(r).has(AttentionKind::moba);
        for (size_t i = 0; i < r.eval.lengths.size(); i++) {
            const int T = r.eval.lengths[i], samples = r.eval.samples[r.eval.samples.size() > 1 ? i : 0];
            const size_t bytes = with_precision(options.precision, [&](auto e) {
                return evaluation_bytes<decltype(e)>(options, final_config(r), *task, T, samples);
            });
            need(bytes, "the evaluation at " + std::to_string(T) + " tokens",
                 "; shorter 'lengths' in 'eval' need less");
        }
    }
    const std::string needs = readable_bytes(most.bytes) + " for " + most.what;
    const size_t free = memory_available(*find_device(parse_device(o_.device)));
    if (most.bytes > free) {
        throw Error("not enough memory: " + readable_bytes(free) + " free, needed " + needs + most.advice);
    }
    if (most.bytes > (size_t)1 << 30) { status_.line("memory: at most " + needs); }
}

void Comparison::load_results() {
    for (const Run& r : plan_.runs) {
        const std::string file = folder(r) + "/result.json";
        results_[r.name] = fs::exists(file) ? read_json(file) : json::object();
    }
}

bool Comparison::done(const Run& r) const {
    const json& result = results_.at(r.name);
    return result.value("status", "") == "done" &&
           result.value("eval_settings", "") == joined(eval_settings(r), " ");
}

ChildResult Comparison::child(const std::vector<std::string>& words, const std::string& log,
                              const std::string& what) {
    status_.show(place() + what);
    const ChildResult result =
        run_child(words, log, [&](const std::string& l) { status_.show(place() + what + ": " + l); });
    if (child_stopped()) { throw Stopped(); }
    return result;
}

json Comparison::measure(const Run& r) {
    const std::string dir = folder(r);
    std::error_code ignore;
    std::vector<std::string> words = train_words(r);
    if (!latest_checkpoint(dir).empty()) {
        words = {"train", "--resume", "--out=" + dir};
    } else {  // a new run, or one that was stopped before its first checkpoint
        fs::remove_all(dir, ignore);
        results_[r.name] = json::object();
        fs::create_directories(dir, ignore);
        json settings = r.settings;
        if (!r.plan.fingerprint.empty()) { settings["fingerprint"] = r.plan.fingerprint; }
        replace_file(dir + "/settings.json", settings.dump(1) + "\n");
    }
    const ChildResult train = child(words, dir + "/train.txt", r.name);
    if (train.status != 0) { throw Error(train.last_line); }
    const ChildResult eval = child(eval_words(r), dir + "/eval.txt", r.name + ": evaluation");
    if (eval.status != 0) { throw Error(eval.last_line); }
    json out = {{"train", train_figures(dir + "/log.jsonl")}, {"eval", read_json(dir + "/eval.json")}};
    out["train"]["plan_bytes"] = r.plan.memory_bytes;
    // A finished run that is only evaluated again does not train: keep the peak that was measured before.
    const size_t before = results_.at(r.name).value(json::json_pointer("/train/peak_bytes"), (size_t)0);
    out["train"]["peak_bytes"] = std::max(before, train.peak_bytes);
    return out;
}

// "99.8% at 256, 95.7% at 512"; for a text "loss 1.5140 at 256"
std::string eval_text(const json& eval) {
    std::string text;
    for (const json& l : eval.at("lengths")) {
        text += text.empty() ? "" : ", ";
        text += l.contains("all") ? formatted("%.1f%%", 100 * l["all"]["accuracy"].get<double>())
                                  : formatted("loss %.4f", l["loss"].get<double>());
        text += formatted(" at %d", l["seq_len"].get<int>());
    }
    return text;
}

void Comparison::do_run(const Run& r) {
    const double begin = now_ms();
    json result = {{"kind", "run"},
                   {"task", plan_.tasks[r.task].name},
                   {"variant", plan_.variants[r.variant]},
                   {"seed", r.seed},
                   {"lr", r.options.lr.peak},
                   {"command", "moba " + shell_text(train_words(r))},
                   {"eval_command", "moba " + shell_text(eval_words(r))},
                   {"eval_settings", joined(eval_settings(r), " ")},
                   {"block_size", r.plan.config.block_size},
                   {"top_k", r.plan.config.top_k},
                   {"gate", gate_name(r.plan.config.gate)},
                   {"shared_gate", r.plan.config.shared_gate},
                   {"num_blocks", r.plan.config.num_block_sizes},
                   {"seq_len", r.options.seq_len},
                   {"parameters", r.plan.parameters},
                   {"device", find_device(parse_device(r.options.device))->name()}};
    result["layers"] = layer_names(final_config(r));
    try {
        result.update(measure(r));
        result["status"] = "done";
    } catch (const Error& e) {
        result["status"] = "failed";
        result["error"] = e.what();
    }
    replace_file(folder(r) + "/result.json", result.dump() + "\n");
    results_[r.name] = result;
    done_now_++;
    status_.line("[" + std::to_string(number_) + "/" + std::to_string(total_) + "] " + r.name + ": " +
                 (result["status"] == "done" ? eval_text(result["eval"])
                                             : "FAILED, " + result["error"].get<std::string>()) +
                 ", " + readable_seconds((now_ms() - begin) / 1000));
}

/* The learning rate with the lowest last validation loss of the variant's first seed; 0 if all failed. */
double Comparison::best_lr(const Run& run) const {
    double best = 0, lowest = INFINITY;
    for (const Run& r : plan_.runs) {
        if (r.task != run.task || r.variant != run.variant || r.seed != 1 || !done(r)) { continue; }
        const json validation =
            results_.at(r.name).value(json::json_pointer("/train/validation"), json::array());
        if (validation.empty()) {
            throw Error(o_.config +
                        ": 'lr' needs a validation at the end of each run, so eval-every must not be 0");
        }
        const double loss = validation.back()["loss"];
        if (loss < lowest) { best = r.lr, lowest = loss; }
    }
    return best;
}

const Run& Comparison::first_run(size_t task, size_t variant) const {
    return *std::find_if(plan_.runs.begin(), plan_.runs.end(),
                         [=](const Run& r) { return r.task == task && r.variant == variant; });
}

// Returns what results.jsonl and the report show. An empty `bench` times no attention.
std::vector<TaskFigures> Comparison::write_results(const RunBench& bench) {
    std::vector<json> lines;
    std::string text;
    for (const Run& r : plan_.runs) {
        const json& result = results_.at(r.name);
        if (result.empty()) { continue; }
        lines.push_back(result);
        // The names become file names: take those of the plan, which have been checked.
        lines.back()["task"] = plan_.tasks[r.task].name;
        lines.back()["variant"] = plan_.variants[r.variant];
    }
    for (size_t t = 0; t < plan_.tasks.size(); t++) {
        for (size_t v = 0; v < plan_.variants.size() && !plan_.bench_lengths.empty(); v++) {
            const Run& r = first_run(t, v);
            std::string problem;
            json rows = attention_by_length(r.options, final_config(r), plan_.bench_lengths,
                                            o_.out + "/bench", bench, problem);
            if (!problem.empty()) { status_.line("attention was not timed: " + problem); }
            if (rows.empty()) { continue; }
            lines.push_back({{"kind", "lengths"},
                             {"task", plan_.tasks[t].name},
                             {"variant", plan_.variants[v]},
                             {"rows", std::move(rows)}});
        }
    }
    for (const json& l : lines) { text += l.dump() + "\n"; }
    replace_file(o_.out + "/results.jsonl", text);
    const std::vector<TaskFigures> tasks = summarize(lines);
    replace_file(o_.out + "/report.html", report_page(tasks, plan_.title.empty() ? o_.config : plan_.title));
    for (const auto& [name, svg] : chart_files(tasks)) {
        const fs::path file = o_.out + "/charts/" + name;
        std::error_code ignore;
        fs::create_directories(file.parent_path(), ignore);
        replace_file(file, svg);
    }
    return tasks;
}

int Comparison::run() {
    lock();
    check_settings();
    load_results();
    check_memory();
    const int lrs = std::max<int>(1, (int)plan_.lr.size());
    for (const Run& r : plan_.runs) { total_ += lrs == 1 || r.seed == 1 || r.lr == plan_.lr[0]; }
    try {
        for (const Run& r : plan_.runs) {
            if (lrs > 1 && r.seed > 1 && r.lr != best_lr(r)) { continue; }
            number_++;
            if (done(r)) { continue; }
            do_run(r);
            write_results({});
        }
        print_comparison(write_results([&](const auto& words, const std::string& log, int T) {
            return child(words, log, "timing attention alone at T = " + std::to_string(T));
        }));
    } catch (const Stopped&) {
        status_.line("stopped; run the same command again to continue");
        return 0;
    }
    const int failed = (int)std::count_if(plan_.runs.begin(), plan_.runs.end(), [&](const Run& r) {
        return !results_.at(r.name).empty() && !done(r);
    });
    if (failed) { status_.line(std::to_string(failed) + " of " + std::to_string(total_) + " runs failed"); }
    status_.line("results: " + o_.out + "/results.jsonl, as a page: " + o_.out + "/report.html");
    return failed ? 1 : 0;
}

}  // namespace

int run_compare(const CompareOptions& o) {
    ComparePlan plan = read_plan(o);
    Comparison comparison(o, std::move(plan));
    if (o.dry_run) {
        comparison.print_plan();
        return 0;
    }
    return comparison.run();
}

}  // namespace moba

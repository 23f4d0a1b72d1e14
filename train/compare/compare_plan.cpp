#include "train/compare/compare_plan.h"
#include "train/core/file.h"
#include "train/core/joined.h"
#include "train/core/scratch_folder.h"
#include "train/display/numbers.h"
#include "train/options/suggest.h"
#include "train/run/train_command.h"
#include <CLI/Error.hpp>
#include <algorithm>
#include <set>

namespace moba {

using nlohmann::json;

namespace {

const json default_eval = {{"lengths", {1, 2, 4, 8}}, {"depths", 10}, {"samples", 100}, {"windows", 0}};

// 3, and also 3.0: JSON has only one kind of number.
bool is_whole(const json& x) { return x.is_number() && x.get<double>() == std::floor(x.get<double>()); }

class Reader {
  public:
    explicit Reader(const CompareOptions& o) : o_(o), file_(o.config), j_(read_json_of_user(o.config)) {}
    ComparePlan read();

  private:
    [[noreturn]] void wrong(const std::string& what) const { throw Error(file_ + ": " + what); }
    const json& object(const json& parent, const char* key, const json& fallback) const;
    void check_keys(const json& object, const std::set<std::string>& known, const std::string& where) const;
    std::vector<json> named(const char* key, const std::string& marks) const;
    std::vector<double> numbers(const json& parent, const char* key, double lo, double hi) const;
    int whole(const json& parent, const char* key, int lo, int hi) const;
    ComparePlan::Eval read_eval(const json& eval, const TrainOptions&) const;
    void add_switch(std::vector<json>& variants, const std::vector<json>& tasks) const;
    ComparePlan::Run make_run(const json& task, const json& variant, int seed, double lr) const;

    const CompareOptions& o_;
    const std::string file_;
    const json j_;
    const ScratchFolder encoded_;  // texts that must be encoded; --dry-run leaves no files
};

const json& Reader::object(const json& parent, const char* key, const json& fallback) const {
    const auto it = parent.find(key);
    if (it == parent.end()) { return fallback; }
    if (!it->is_object()) { wrong(std::string("'") + key + "' must be an object"); }
    return *it;
}

void Reader::check_keys(const json& object, const std::set<std::string>& known,
                        const std::string& where) const {
    for (const auto& [key, value] : object.items()) {
        if (known.count(key)) { continue; }
        wrong("unknown key '" + key + "'" + where + did_you_mean(key, {known.begin(), known.end()}) +
              "; the known keys are " + joined(known, ", "));
    }
}

// A list of objects with different names. The names become parts of folder names, so they may only have
// letters, digits and `marks`.
std::vector<json> Reader::named(const char* key, const std::string& marks) const {
    const auto it = j_.find(key);
    if (it == j_.end() || !it->is_array() || it->empty()) {
        wrong(std::string("'") + key + "' must be a list of objects with a name");
    }
    std::set<std::string> names;
    for (const json& x : *it) {
        if (!x.is_object() || !x.contains("name") || !x["name"].is_string()) {
            wrong(std::string("'") + key + "' must be a list of objects with a name");
        }
        const std::string name = x["name"];
        const std::string letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
        const bool plain = name.find_first_not_of(letters + marks) == std::string::npos;
        if (name.empty() || name.size() > 40 || !plain || name[0] == '.') {
            wrong("name '" + name + "' in '" + key + "': must be 1 to 40 letters, digits or " + marks +
                  ", without a dot in front");
        }
        if (!names.insert(name).second) { wrong("name '" + name + "' appears twice in '" + key + "'"); }
    }
    return *it;
}

std::vector<double> Reader::numbers(const json& parent, const char* key, double lo, double hi) const {
    std::vector<double> out;
    const auto it = parent.find(key);
    if (it == parent.end()) { return out; }
    bool good = it->is_array();
    for (size_t i = 0; good && i < it->size(); i++) {
        good = (*it)[i].is_number() && (*it)[i] >= lo && (*it)[i] <= hi;
        if (good) { out.push_back((*it)[i]); }
    }
    if (!good) { wrong(formatted("'%s' must be a list of numbers from %g to %g", key, lo, hi)); }
    return out;
}

int Reader::whole(const json& parent, const char* key, int lo, int hi) const {
    const json& x = parent.at(key);
    if (!is_whole(x) || x < lo || x > hi) {
        wrong(std::string("'") + key + "' must be a whole number from " + std::to_string(lo) + " to " +
              std::to_string(hi));
    }
    return x;
}

ComparePlan::Eval Reader::read_eval(const json& eval, const TrainOptions& o) const {
    const int seq_len = o.seq_len;
    const bool text = !o.data.empty();
    ComparePlan::Eval out;
    check_keys(eval, {"lengths", "depths", "samples", "windows"}, " in 'eval'");
    const std::vector<double> multiples = numbers(eval, "lengths", 1, 1 << 16);
    if (multiples.empty()) { wrong("'lengths' in 'eval' is empty"); }
    for (double m : multiples) {
        if (m * seq_len > 1 << 24) {
            wrong(formatted("'lengths' in 'eval': %g times %d tokens is more than 2^24", m, seq_len));
        }
        out.lengths.push_back((int)std::lround(m * seq_len));
    }
    out.depths = whole(eval, "depths", 1, 1000);
    if (eval.at("samples").is_array()) {
        for (double n : numbers(eval, "samples", 1, 1 << 24)) {
            if (!is_whole(n)) { wrong("'samples' in 'eval' must be whole numbers"); }
            out.samples.push_back((int)n);
        }
        if (!text && out.samples.size() != out.lengths.size()) {
            wrong("'samples' in 'eval' has " + std::to_string(out.samples.size()) + " numbers for " +
                  std::to_string(out.lengths.size()) + " lengths");
        }
    } else {
        out.samples = {whole(eval, "samples", 1, 1 << 24)};
    }
    out.windows = whole(eval, "windows", 0, 1 << 30);
    if (!text) {
        const auto task = task_of(o);
        for (int T : out.lengths) {
            check_test_length(*task, T, file_ + ": 'lengths' in 'eval': " + std::to_string(T) + " tokens");
        }
    }
    return out;
}

// --switch: adds a copy of the first variant that has moba layers, with the switch.
void Reader::add_switch(std::vector<json>& variants, const std::vector<json>& tasks) const {
    for (const json& v : variants) {
        if (!make_run(tasks[0], v, 1, 0).plan.config.has(AttentionKind::moba)) { continue; }
        json added = v;
        added["name"] = v["name"].get<std::string>() + "," + o_.switch_to;
        added["switch"] = o_.switch_to;
        variants.push_back(added);
        return;
    }
    wrong("--switch: no variant has moba layers");
}

ComparePlan::Run Reader::make_run(const json& task, const json& variant, int seed, double lr) const {
    json options = object(j_, "base", json::object());
    const auto add = [&](const json& layer) {
        for (const auto& [key, value] : layer.items()) {
            if (key != "name" && key != "eval") { options[key] = value; }
        }
    };
    add(task);
    const json shared = options;  // by all variants of the task
    add(variant);
    const std::string variant_name = variant["name"], task_name = task["name"];
    const std::string where = file_ + ": variant '" + variant_name + "' of task '" + task_name + "': ";
    for (const char* key : {"task", "data", "seq-len"}) {
        if (variant.contains(key)) {
            throw Error(where + "'" + key + "' must be the same for all variants: set it in the task");
        }
    }
    for (const char* key : {"out", "resume", "seed", "help"}) {
        if (options.contains(key)) { throw Error(where + "'" + key + "' is not allowed in a plan"); }
    }
    for (const auto& [key, value] : options.items()) {
        if (value.is_object() || value.is_null()) {
            throw Error(where + "'" + key + "' must not be null or an object");
        }
    }
    ComparePlan::Run run{.task = 0,
                         .variant = 0,
                         .seed = seed,
                         .lr = lr,
                         .name = task_name + "." + variant_name + ".s" + std::to_string(seed)};
    if (lr > 0) {
        options["lr"] = lr;
        run.name += ".lr" + json(lr).dump();
    }
    options["seed"] = seed;
    if (o_.device != "auto") { options["device"] = o_.device; }
    if (o_.precision != "fp32") { options["precision"] = o_.precision; }
    run.words = option_words(options);
    try {
        TrainCommand command = parse_train(run.words);
        // Defaults that depend on what the variants change, and must be the same for all of them.
        const json of_task = parse_train(option_words(shared)).values;
        for (const char* name : {"seq-len", "batch-size", "grad-accum"}) {
            if (!command.options.has(name)) { options[name] = of_task[name]; }
        }
        for (const IdleOption& idle : idle_options(command.options)) {
            // "base" is for all tasks and may hold more than this one needs
            if (!task.contains(idle.name) && !variant.contains(idle.name)) { options.erase(idle.name); }
        }
        run.words = option_words(options);
        command = parse_train(run.words);
        refuse_idle_options(command.options);
        run.options = command.options;
        run.settings = command.values;
        for (const char* key : {"out", "device", "log-every", "save-every", "recompute"}) {
            run.settings.erase(key);
        }
        const std::vector<std::string> tasks = task_names();
        const bool is_task = std::find(tasks.begin(), tasks.end(), task_name) != tasks.end();
        const std::string& name = run.options.task.name;
        const std::string learnt = !run.options.data.empty() ? "text"
                                   : name.empty()            ? TaskSettings{}.name
                                                             : name;
        if (is_task && learnt != task_name) {
            throw Error("the task is named " + task_name + ", but the model learns " + learnt +
                        "; set 'task', or change the name");
        }
        // Every run is evaluated on its validation text, also where it does not validate itself.
        TrainOptions validating = run.options;
        validating.eval_every = std::max(1, validating.eval_every);
        validating.out = encoded_.path() + "/run";
        run.plan = plan_training(validating);
        if (lr > 0 && variant.contains("lr")) {
            throw Error("the variant sets 'lr', but the plan has a list 'lr' for all variants; remove one");
        }
        if (lr > 0 && run.options.eval_every == 0) {
            throw Error("'lr' is chosen by the last validation, so eval-every must not be 0");
        }
    } catch (const CLI::ParseError& e) { throw Error(where + e.what()); } catch (const Error& e) {
        throw Error(where + e.what());
    }
    return run;
}

ComparePlan Reader::read() {
    if (!j_.is_object()) { wrong("must be a JSON object"); }
    check_keys(j_, {"title", "seeds", "lr", "base", "tasks", "variants", "eval", "bench-lengths"}, "");
    ComparePlan plan;
    if (j_.contains("title")) {
        if (!j_["title"].is_string()) { wrong("'title' must be a string"); }
        plan.title = j_["title"];
    }
    plan.lr = numbers(j_, "lr", 1e-12, 1e3);
    if (std::set<double>(plan.lr.begin(), plan.lr.end()).size() != plan.lr.size()) {
        wrong("'lr' contains a learning rate twice");
    }
    for (double T : numbers(j_, "bench-lengths", 1, 1 << 24)) {
        if (!is_whole(T)) { wrong("'bench-lengths' must be whole numbers"); }
        plan.bench_lengths.push_back((int)T);
    }
    const int seeds = o_.seeds ? o_.seeds : j_.contains("seeds") ? whole(j_, "seeds", 1, 1000) : 1;
    json eval = default_eval;
    eval.update(object(j_, "eval", json::object()));

    const std::vector<json> tasks = named("tasks", "+-_=@,");
    std::vector<json> variants = named("variants", "+-_=@,.");
    if (!o_.switch_to.empty()) {
        parse_switch(o_.switch_to);
        add_switch(variants, tasks);
    }
    for (const json& v : variants) { plan.variants.push_back(v["name"]); }
    for (size_t t = 0; t < tasks.size(); t++) {
        for (int seed = 1; seed <= seeds; seed++) {
            for (size_t v = 0; v < variants.size(); v++) {
                for (double lr : plan.lr.empty() ? std::vector<double>{0} : plan.lr) {
                    ComparePlan::Run run = make_run(tasks[t], variants[v], seed, lr);
                    run.task = t;
                    run.variant = v;
                    json own = eval;
                    own.update(object(tasks[t], "eval", json::object()));
                    own.update(object(variants[v], "eval", json::object()));
                    run.eval = read_eval(own, run.options);
                    plan.runs.push_back(run);
                }
            }
        }
        plan.tasks.push_back({tasks[t]["name"]});
    }
    return plan;
}

}  // namespace

std::unique_ptr<Task> task_of(const TrainOptions& o) {
    TaskSettings settings = o.task;
    if (settings.name.empty()) { settings.name = TaskSettings{}.name; }
    return make_task(settings, "");
}

ComparePlan read_plan(const CompareOptions& o) { return Reader(o).read(); }

}  // namespace moba

#include "train/plot/run_curves.h"
#include "train/core/file.h"
#include "train/files/run_folder.h"
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

namespace moba {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

constexpr const char* log_name = "log.jsonl";

// null, which stands for what is not finite, is NaN
double number(const json& line, const char* key) {
    const json& x = line.at(key);
    return x.is_null() ? NAN : x.get<double>();
}

void add_line(RunCurves& run, const json& j) {
    if (j.contains("val_loss")) {
        run.validations.push_back({j.at("step"), number(j, "val_loss"), number(j, "val_accuracy"),
                                   j.value("prompt", ""), j.value("sample", "")});
        return;
    }
    StepLine s{.step = j.at("step"),
               .seq_len = j.at("seq_len"),
               .loss = number(j, "loss"),
               .accuracy = number(j, "accuracy"),
               .lr = number(j, "lr"),
               .grad_norm = number(j, "grad_norm"),
               .tokens_per_s = number(j, "tokens_per_s"),
               .ms = number(j, "ms")};
    if (!run.steps.empty()) { s.tokens = run.steps.back().tokens, s.seconds = run.steps.back().seconds; }
    s.tokens += number(j, "tokens");
    s.seconds += s.ms / 1000;
    run.steps.push_back(s);
}

void read_log(RunCurves& run, const std::string& path) {
    std::ifstream in(path);
    std::string line;
    for (int number = 1; std::getline(in, line); number++) {
        if (in.eof()) { break; }  // without its end: the run is writing it
        try {
            add_line(run, json::parse(line));
        } catch (const json::exception&) {
            throw Error(path + ": line " + std::to_string(number) + " is not a line of a training log");
        }
    }
}

void read_options(RunCurves& run) {
    const std::string checkpoint = latest_checkpoint(run.folder);
    if (checkpoint.empty()) { return; }
    try {
        const json state = read_json(checkpoint + "/state.json");
        for (const auto& [name, value] : state.at("options").items()) {
            run.options[name] = value.is_string() ? value.get<std::string>() : value.dump();
        }
    } catch (const json::exception&) { throw Error(checkpoint + "/state.json has no options"); }
}

// The folders with a log at or below `folder`: one run, or the runs of a comparison.
std::vector<std::string> folders_of_runs(const std::string& folder) {
    if (fs::exists(fs::path(folder) / log_name)) { return {folder}; }
    std::vector<std::string> out;
    const fs::path runs = fs::path(folder) / "runs";
    std::error_code error;
    for (const auto& entry : fs::recursive_directory_iterator(runs, error)) {
        if (entry.path().filename() == log_name) { out.push_back(entry.path().parent_path().string()); }
    }
    std::sort(out.begin(), out.end());
    if (out.empty()) { throw Error(folder + ": no training run: it has no " + log_name); }
    return out;
}

// The last `parts` parts of a path.
std::string end_of_path(const fs::path& path, int parts) {
    const std::vector<fs::path> all(path.begin(), path.end());
    fs::path out;
    for (size_t i = all.size() - std::min<size_t>(all.size(), parts); i < all.size(); i++) { out /= all[i]; }
    return out.string();
}

void name_runs(std::vector<RunCurves>& runs) {
    for (int parts = 1; parts < 100; parts++) {
        std::set<std::string> names;
        for (RunCurves& r : runs) {
            r.name = end_of_path(fs::weakly_canonical(r.folder), parts);
            names.insert(r.name);
        }
        if (names.size() == runs.size()) { return; }
    }
}

}  // namespace

std::vector<RunCurves> read_runs(const std::vector<std::string>& folders) {
    std::set<std::string> seen;
    std::vector<RunCurves> runs;
    for (const std::string& folder : folders) {
        if (!fs::is_directory(folder)) { throw Error(folder + ": no such folder"); }
        for (const std::string& f : folders_of_runs(folder)) {
            if (!seen.insert(fs::weakly_canonical(f).string()).second) { continue; }
            RunCurves run;
            run.folder = f;
            read_log(run, f + "/" + log_name);
            if (run.steps.empty()) { throw Error(f + "/" + log_name + ": no step yet"); }
            read_options(run);
            runs.push_back(std::move(run));
        }
    }
    name_runs(runs);
    return runs;
}

std::vector<LogPoint> thinned(const std::vector<StepLine>& steps, double StepLine::*value, size_t most) {
    std::vector<LogPoint> out;
    const size_t n = steps.size(), bins = std::min(n, most);
    for (size_t b = 0; b < bins; b++) {
        const size_t begin = b * n / bins, end = (b + 1) * n / bins;
        LogPoint p{(double)steps[end - 1].step, 0, INFINITY, -INFINITY};
        for (size_t i = begin; i < end; i++) {
            const double x = steps[i].*value;
            p.mean += x / (double)(end - begin);
            p.low = std::min(p.low, x), p.high = std::max(p.high, x);
        }
        out.push_back(p);
    }
    return out;
}

std::vector<LogPoint> smoothed(std::vector<LogPoint> curve) {
    const double keep = std::exp2(-100.0 / (double)std::max<size_t>(curve.size(), 100));
    double sum = 0, weight = 0;
    for (LogPoint& p : curve) {
        if (!std::isfinite(p.mean)) { continue; }
        sum = keep * sum + p.mean, weight = keep * weight + 1;
        p.mean = sum / weight;
    }
    return curve;
}

}  // namespace moba

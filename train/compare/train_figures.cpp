#include "train/compare/train_figures.h"
#include "moba/core/base.h"
#include "train/core/statistics.h"
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

namespace moba {

using nlohmann::json;

namespace {

constexpr size_t max_points = 200;

// Sums up to the current step.
struct Sums {
    int step = 0;
    double tokens = 0, seconds = 0, flop = 0;
    json at(double loss, double accuracy) const {
        return {{"step", step}, {"tokens", tokens}, {"seconds", seconds},
                {"flop", flop}, {"loss", loss},     {"accuracy", accuracy}};
    }
};

}  // namespace

json train_figures(const std::string& path) {
    std::ifstream in(path);
    std::vector<json> steps;
    Sums now;
    json validation = json::array();
    std::string line;
    int number = 0;
    try {
        while (std::getline(in, line)) {
            number++;
            const json j = json::parse(line);
            if (j.contains("val_loss")) {
                validation.push_back(now.at(j.at("val_loss"), j.at("val_accuracy")));
                continue;
            }
            const double ms = j.at("ms");
            now.step = j.at("step");
            now.tokens += j.at("tokens").get<double>();
            now.seconds += ms / 1000;
            now.flop += j.at("gflops").get<double>() * 1e9 * ms / 1000;
            json row = now.at(j.at("loss"), j.at("accuracy"));
            row["ms"] = ms;
            row["seq_len"] = j.at("seq_len");
            row["tokens_per_s"] = j.at("tokens_per_s");
            steps.push_back(row);
        }
    } catch (const json::exception&) {
        throw Error(path + ": line " + std::to_string(number) + " is not a line of a training log");
    }
    if (steps.empty()) { throw Error(path + ": the log has no steps"); }

    std::vector<double> ms, speed;
    for (const json& s : steps) {
        if (s["seq_len"] != steps.back()["seq_len"]) { continue; }
        ms.push_back(s["ms"]);
        speed.push_back(s["tokens_per_s"]);
    }
    json curve = json::array();
    const size_t n = steps.size(), bins = std::min(n, max_points);
    for (size_t b = 0; b < bins; b++) {
        const size_t begin = b * n / bins, end = (b + 1) * n / bins;
        double loss = 0, accuracy = 0;
        for (size_t i = begin; i < end; i++) {
            loss += steps[i]["loss"].get<double>();
            accuracy += steps[i]["accuracy"].get<double>();
        }
        json point = steps[end - 1];
        for (const char* key : {"ms", "seq_len", "tokens_per_s"}) { point.erase(key); }
        point["loss"] = loss / (double)(end - begin);
        point["accuracy"] = accuracy / (double)(end - begin);
        curve.push_back(point);
    }
    return {{"steps", now.step}, {"tokens", now.tokens},      {"seconds", now.seconds},
            {"flop", now.flop},  {"ms_per_step", median(ms)}, {"tokens_per_s", median(speed)},
            {"curve", curve},    {"validation", validation}};
}

}  // namespace moba

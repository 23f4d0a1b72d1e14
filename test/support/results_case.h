/* Invented results of a comparison: plausible numbers, the same in every run. */
#pragma once
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moba {

struct RunCase {
    std::string task = "needle", variant = "moba";
    int seed = 1;
    double lr = 0.003, accuracy = 0.998, loss = 0.02, ms = 48;
    std::vector<int> lengths = {256, 512, 1024};
    int block_size = 16, top_k = 3, layers = 2, heads = 2;
};

inline nlohmann::json run_case(const RunCase& c) {
    using nlohmann::json;
    const bool text = c.task == "text", moba = c.variant.find("full") == std::string::npos;
    uint32_t state = 77u * c.seed + 1000003u * (uint32_t)c.variant.size();
    const auto noise = [&] {  // -1..1
        state = state * 1664525u + 1013904223u;
        return (double)(state >> 8) / (1 << 23) - 1;
    };
    const double steps = 1000, tokens = 9e6, flop = 3e12;
    json curve = json::array(), validation = json::array();
    const auto point = [&](double share, double loss) {
        return json{{"step", steps * share},
                    {"tokens", tokens * share},
                    {"seconds", c.ms * share},
                    {"flop", flop * share},
                    {"loss", loss},
                    {"accuracy", std::exp(-loss)}};
    };
    const auto loss_at = [&](double share) {
        return c.loss + (4.7 - c.loss) * std::exp(-6 * share) * (1 + 0.05 * c.seed * share);
    };
    for (int i = 1; i <= 200; i++) {
        curve.push_back(point(i / 200.0, loss_at(i / 200.0) * (1 + 0.1 * noise())));
    }
    for (int i = 1; i <= 10; i++) {
        validation.push_back(point(i / 10.0, i < 10 ? loss_at(i / 10.0) : c.loss));
    }
    json lengths = json::array();
    for (int T : c.lengths) {
        const double sparsity = moba ? 1 - (double)c.block_size * c.top_k / T * 1.5 : 0;
        json l = {{"seq_len", T}, {"sparsity", std::max(0.0, sparsity)}};
        const double share = c.accuracy - 0.1 * std::log2((double)T / c.lengths[0]);
        if (text) {
            l["loss"] = c.loss, l["accuracy"] = 0.55, l["tokens"] = 100000;
            for (int p = 0; p < T; p++) {
                l["loss_by_position"].push_back(
                    {{"position", p}, {"loss", c.loss + 2 / (1.0 + p) + 0.03 * noise()}, {"count", 100}});
            }
        } else {
            for (int d = 0; d < 10; d++) {
                const double a = std::fmin(1, std::fmax(0, share + 0.02 * noise()));
                l["depths"].push_back({{"depth", d / 9.0},
                                       {"accuracy", a},
                                       {"low", a - 0.01},
                                       {"high", a + 0.01},
                                       {"right", 1000 * a},
                                       {"answers", 1000}});
            }
            l["all"] = {{"accuracy", share},
                        {"low", share - 0.01},
                        {"high", std::fmin(1, share + 0.01)},
                        {"right", 10000 * share},
                        {"answers", 10000}};
            l["loss_by_position"] = {{{"position", T - 1}, {"loss", 0.01}, {"count", 1000}}};
            if (moba) {
                l["reach"] = std::fmin(1, share + 0.01);
                for (int i = 0; i < c.layers * c.heads; i++) {
                    const double p = std::fmin(0.95, (i + 1.0) / (c.layers * c.heads) * 256 / T * 0.95),
                                 r = std::fmin(1, std::fmax(0, p + 0.05 * noise()));
                    l["router"].push_back({{"layer", i / c.heads},
                                           {"head", i % c.heads},
                                           {"queries", 1000},
                                           {"recall", r},
                                           {"low", r - 0.02},
                                           {"high", r + 0.02},
                                           {"snr", 1.7},
                                           {"predicted", p}});
                }
            }
        }
        lengths.push_back(l);
    }
    json layers = json::array();
    for (int i = 0; i < c.layers; i++) { layers.push_back(moba ? "moba:rope" : "full:rope"); }
    const std::string out = "out/compare/" + c.task + "-" + c.variant + "-" + std::to_string(c.seed);
    json eval = {{"lengths", lengths}};
    if (!text) { eval["chance"] = 0.03, eval["task"] = {{"name", c.task}}; }
    return {
        {"kind", "run"},
        {"task", c.task},
        {"variant", c.variant},
        {"seed", c.seed},
        {"lr", c.lr},
        {"status", "done"},
        {"command", "moba train --task " + c.task + " --seed " + std::to_string(c.seed) + " --out " + out},
        {"eval_command", "moba eval --model " + out},
        {"layers", layers},
        {"block_size", c.block_size},
        {"top_k", c.top_k},
        {"seq_len", c.lengths[0]},
        {"parameters", 100672},
        {"device", "CPU, 2 cores"},
        {"train",
         {{"steps", steps},
          {"tokens", tokens},
          {"seconds", c.ms},
          {"ms_per_step", c.ms},
          {"tokens_per_s", 9e6 / c.ms},
          {"flop", flop},
          {"peak_bytes", 123456789},
          {"plan_bytes", 120000000},
          {"curve", curve},
          {"validation", validation}}},
        {"eval", eval}};
}

inline nlohmann::json failed_case(const RunCase& c, const std::string& error) {
    nlohmann::json run = run_case(c);
    run["status"] = "failed", run["error"] = error;
    run.erase("train"), run.erase("eval");
    return run;
}

/* Costs for each sequence length T: attention takes ms(T); 100 KB of memory for each token. */
template <class Ms>
nlohmann::json lengths_case(const std::string& task, const std::string& variant, Ms ms,
                            const std::vector<int>& lengths = {256, 1024, 4096, 16384}) {
    nlohmann::json rows = nlohmann::json::array();
    for (int T : lengths) {
        rows.push_back(
            {{"seq_len", T}, {"forward_ms", ms(T) / 3}, {"attention_ms", ms(T)}, {"memory_bytes", 1e5 * T}});
    }
    return {{"kind", "lengths"}, {"task", task}, {"variant", variant}, {"rows", rows}};
}

/* Results for one task and one text, with two variants and three seeds each, and the costs of both
   variants. */
inline std::vector<nlohmann::json> comparison_case() {
    std::vector<nlohmann::json> lines;
    for (const char* variant : {"moba", "full"}) {
        const bool full = std::string(variant) == "full";
        for (int seed = 1; seed <= 3; seed++) {
            lines.push_back(run_case({.variant = variant,
                                      .seed = seed,
                                      .accuracy = (full ? 0.9995 : 0.998) + 0.0002 * seed,
                                      .ms = full ? 46. : 48.}));
            lines.push_back(run_case({.task = "text",
                                      .variant = variant,
                                      .seed = seed,
                                      .loss = (full ? 1.51 : 1.514) + 0.002 * seed,
                                      .ms = 300}));
        }
        for (const char* task : {"needle", "text"}) {
            lines.push_back(
                lengths_case(task, variant, [=](int T) { return full ? 1e-5 * T * T : 0.004 * T; }));
        }
    }
    return lines;
}

}  // namespace moba

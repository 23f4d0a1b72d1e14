#include "train/eval/router_recall.h"
#include "train/eval/tally.h"
#include <cmath>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

static double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

// P(Bin(n, p) <= most)
static double binomial_cdf(int n, double p, int most) {
    if (p <= 0 || most >= n) { return 1; }
    if (p >= 1) { return 0; }
    double sum = 0;
    for (int i = 0; i <= most; i++) {
        sum += std::exp(std::lgamma(n + 1.0) - std::lgamma(i + 1.0) - std::lgamma(n - i + 1.0) +
                        i * std::log(p) + (n - i) * std::log1p(-p));
    }
    return std::min(sum, 1.0);
}

double predicted_recall(double snr, int other_blocks, int top_k) {
    const int most = top_k - 2;
    if (most < 0) { return 0; }
    const int steps = 800;  // trapezoidal rule from -8 to 8
    double sum = 0, weight = 0;
    for (int i = 0; i <= steps; i++) {
        const double x = -8 + 16.0 * i / steps, density = std::exp(-x * x / 2);
        sum += density * binomial_cdf(other_blocks, normal_cdf(-x - std::sqrt(2.0) * snr), most);
        weight += density;
    }
    return sum / weight;
}

void RouterRecall::add_query(Head& head, const AttentionView& v, int t, int h, int source) {
    const BlockTable& blocks = v.blocks(h);
    const int own = blocks.own[t], wanted = blocks.own[source];
    if (wanted == own) { return; }
    const double score = v.score(t, h, wanted);
    for (int n = blocks.first[own]; n < own; n++) {
        if (n == wanted) { continue; }
        const double d = score - v.score(t, h, n);
        head.sum += d;
        head.squares += d * d;
        head.pairs++;
    }
    head.queries++;
    head.chosen += v.is_chosen(t, h, wanted);
    head.of_others[own - blocks.first[own] - 1]++;
}

void RouterRecall::add(int layer, const AttentionView& v, const std::vector<int>& sources) {
    if (v.chosen.empty()) { return; }
    for (int h = 0; h < v.shape.H; h++) {
        Head& head = heads_[{layer, h}];
        head.K = v.shape.gate.slots(v.seqs, h);
        for (size_t t = 0; t < sources.size(); t++) {
            if (sources[t] >= 0) { add_query(head, v, (int)t, h, sources[t]); }
        }
    }
}

json RouterRecall::to_json() const {
    json out = json::array();
    for (const auto& [at, head] : heads_) {
        if (head.queries == 0) { continue; }
        json row = Tally{head.chosen, head.queries}.to_json();
        row["recall"] = row["accuracy"];
        row["queries"] = row["answers"];
        for (const char* key : {"accuracy", "answers", "right"}) { row.erase(key); }
        row["layer"] = at.first;
        row["head"] = at.second;
        const double mean = head.sum / (double)head.pairs,
                     variance = head.squares / (double)head.pairs - mean * mean;
        if (head.pairs > 0 && variance > 0) {  // else there is no SNR
            const double snr = mean / std::sqrt(variance);
            double predicted = 0;
            for (const auto& [others, queries] : head.of_others) {
                predicted += (double)queries * predicted_recall(snr, others, head.K);
            }
            row["snr"] = snr;
            row["predicted"] = predicted / (double)head.queries;
        }
        out.push_back(row);
    }
    return out;
}

}  // namespace moba

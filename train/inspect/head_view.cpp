#include "train/inspect/head_view.h"
#include "moba/core/parallel.h"
#include "train/display/numbers.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

static double dot(const float* a, const float* b, int D) {
    double sum = 0;
    for (int d = 0; d < D; d++) { sum += (double)a[d] * b[d]; }
    return sum;
}

static HeadView::Query view_query(const AttentionView& v, int t, int h) {
    const BlockTable& blocks = v.blocks(h);
    HeadView::Query q{.own = blocks.own[t], .first = blocks.first[blocks.own[t]]};
    if (!v.chosen.empty()) {
        for (int n = q.first; n <= q.own; n++) {
            if (v.is_chosen(t, h, n)) { q.chosen.push_back(n); }
            if (n < q.own) { q.scores.push_back(v.score(t, h, n)); }
        }
    }
    const int begin = blocks.start[q.first];
    const bool moba = v.shape.kind == AttentionKind::moba, window = v.shape.kind == AttentionKind::window;
    const auto is_seen = [&](int j, int block) {
        return moba ? q.chose(block) : !window || t - j < v.shape.window;
    };
    std::vector<double> s(t + 1 - begin);
    double top = -INFINITY, top_seen = -INFINITY;
    for (int j = begin; j <= t; j++) {
        s[j - begin] = dot(v.query(t, h), v.key(j, h), v.shape.D) / std::sqrt((double)v.shape.D);
        top = std::max(top, s[j - begin]);
        if (is_seen(j, blocks.own[j])) { top_seen = std::max(top_seen, s[j - begin]); }
    }
    std::vector<double> full(q.own - q.first + 1), seen(full.size());
    double sum_full = 0, sum_seen = 0;
    for (int j = begin; j <= t; j++) {
        const int n = blocks.own[j];
        const double e = std::exp(s[j - begin] - top);
        full[n - q.first] += e;
        sum_full += e;
        if (!is_seen(j, n)) { continue; }
        const double e_seen = std::exp(s[j - begin] - top_seen);
        seen[n - q.first] += e_seen;
        sum_seen += e_seen;
        q.kept += e;
    }
    q.kept /= sum_full;
    for (size_t n = 0; n < full.size(); n++) {
        q.full_weights.push_back((float)(full[n] / sum_full));
        q.weights.push_back((float)(seen[n] / sum_seen));
    }
    return q;
}

int HeadView::Query::rank(int past_block) const {
    const float score = scores[past_block - first];
    int rank = 1;
    for (int n = first; n < own; n++) {
        rank += scores[n - first] > score || (scores[n - first] == score && n < past_block);
    }
    return rank;
}

double HeadView::mass_kept() const {
    double sum = 0;
    for (const Query& q : queries) { sum += q.kept; }
    return sum / (double)queries.size();
}

HeadView view_head(const AttentionView& v, int layer, int head) {
    const AttentionShape& s = v.shape;
    HeadView view{.layer = layer,
                  .head = head,
                  .kind = s.kind,
                  .block_size = v.blocks(head).size,
                  .top_k = s.kind == AttentionKind::moba ? s.gate.slots(v.seqs, head) : 0,
                  .window = s.kind == AttentionKind::window ? s.window : 0,
                  .queries = std::vector<HeadView::Query>(v.seqs.num_tokens)};
    parallel_for(view.queries.size(), [&](size_t t, int) { view.queries[t] = view_query(v, (int)t, head); });
    return view;
}

bool sees(const HeadView& v, int question, int source) {
    if (v.kind == AttentionKind::window) { return question - source < v.window; }
    return v.kind == AttentionKind::full || v.queries[question].chose(v.queries[source].own);
}

static json rounded(const std::vector<float>& values) {
    json out = json::array();
    for (float x : values) {
        out.push_back(std::isnan(x) ? json() : json(std::strtod(printed("%.5g", x).c_str(), nullptr)));
    }
    return out;
}

json to_json(const HeadView& v, int question, int source) {
    const bool moba = v.kind == AttentionKind::moba;
    json out = {{"layer", v.layer},
                {"head", v.head},
                {"kind", moba                            ? "moba"
                         : v.kind == AttentionKind::full ? "full"
                                                         : "window"},
                {"block_size", v.block_size},
                {"mass_kept", v.mass_kept()},
                {"queries", json::array()}};
    if (moba) { out["top_k"] = v.top_k; }
    if (v.window) { out["window"] = v.window; }
    if (question >= 0 && source >= 0) { out["answer_chosen"] = sees(v, question, source); }
    for (size_t t = 0; t < v.queries.size(); t++) {
        const HeadView::Query& q = v.queries[t];
        json row = {{"t", t},
                    {"own", q.own},
                    {"weights", rounded(q.weights)},
                    {"full_weights", rounded(q.full_weights)}};
        if (moba) {
            row["chosen"] = q.chosen;
            row["scores"] = rounded(q.scores);
        }
        out["queries"].push_back(std::move(row));
    }
    return out;
}

}  // namespace moba

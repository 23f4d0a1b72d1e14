#include "train/inspect/head_view.h"
#include "moba/core/parallel.h"
#include "train/display/numbers.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

static HeadView::Query view_query(const AttentionView& v, int t, int h) {
    const BlockTable& blocks = v.blocks(h);
    HeadView::Query q{.own = blocks.own[t], .first = blocks.first[blocks.own[t]]};
    if (!v.chosen.empty()) {
        for (int n = q.first; n <= q.own; n++) {
            if (v.is_chosen(t, h, n)) { q.chosen.push_back(n); }
            if (n < q.own) { q.scores.push_back(v.score(t, h, n)); }
        }
    }
    // The keys that the query sees in block n are those from this one on.
    const auto seen_from = [&](int n) {
        if (v.shape.kind == AttentionKind::moba && !q.chose(n)) { return t + 1; }
        return v.shape.kind == AttentionKind::window ? t + 1 - v.shape.window : 0;
    };
    const auto end_of = [&](int n) { return n == q.own ? t + 1 : blocks.start[n + 1]; };
    const int begin = blocks.start[q.first];
    std::vector<double> s(t + 1 - begin);
    double top = -INFINITY, top_seen = -INFINITY;
    for (int n = q.first; n <= q.own; n++) {
        const int seen = seen_from(n);
        for (int j = blocks.start[n]; j < end_of(n); j++) {
            s[j - begin] = v.logit(t, h, j);
            top = std::max(top, s[j - begin]);
            if (j >= seen) { top_seen = std::max(top_seen, s[j - begin]); }
        }
    }
    std::vector<double> full(q.own - q.first + 1), seen_sum(full.size());
    double sum_full = 0, sum_seen = 0;
    for (int n = q.first; n <= q.own; n++) {
        const int seen = seen_from(n);
        for (int j = blocks.start[n]; j < end_of(n); j++) {
            const double e = std::exp(s[j - begin] - top);
            full[n - q.first] += e;
            sum_full += e;
            if (j < seen) { continue; }
            const double e_seen = top_seen == top ? e : std::exp(s[j - begin] - top_seen);
            seen_sum[n - q.first] += e_seen;
            sum_seen += e_seen;
            q.kept += e;
        }
    }
    q.kept /= sum_full;
    for (size_t n = 0; n < full.size(); n++) {
        q.full_weights.push_back((float)(full[n] / sum_full));
        q.weights.push_back((float)(seen_sum[n] / sum_seen));
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
    return sum / viewed;
}

HeadView view_head(const AttentionView& v, int layer, int head, const QueryVisit& visit,
                   const QueryFilter& wanted) {
    const AttentionShape& s = v.shape;
    HeadView view{.layer = layer,
                  .head = head,
                  .kind = s.kind,
                  .block_size = v.blocks(head).size,
                  .top_k = s.kind == AttentionKind::moba ? s.gate.slots(v.seqs, head) : 0,
                  .window = s.kind == AttentionKind::window ? s.window : 0,
                  .queries = std::vector<HeadView::Query>(v.seqs.num_tokens)};
    const size_t T = view.queries.size(), part = 256;
    for (size_t begin = 0; begin < T; begin += part) {
        const size_t count = std::min(part, T - begin);
        parallel_for(count, [&](size_t i, int) {
            const int t = (int)(begin + i);
            const BlockTable& blocks = v.blocks(head);
            view.queries[t] = !wanted || wanted(t)
                                  ? view_query(v, t, head)
                                  : HeadView::Query{blocks.own[t], blocks.first[blocks.own[t]]};
        });
        for (size_t t = begin; t < begin + count; t++) {
            if (wanted && !wanted((int)t)) { continue; }
            view.viewed++;
            if (visit) { visit((int)t, view.queries[t]); }
        }
    }
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

json query_json(const HeadView::Query& q, int t, bool moba) {
    json row = {
        {"t", t}, {"own", q.own}, {"weights", rounded(q.weights)}, {"full_weights", rounded(q.full_weights)}};
    if (moba) {
        row["chosen"] = q.chosen;
        row["scores"] = rounded(q.scores);
    }
    return row;
}

json head_json(const HeadView& v, int question, int source) {
    const bool moba = v.kind == AttentionKind::moba;
    json out = {{"layer", v.layer},
                {"head", v.head},
                {"kind", moba                            ? "moba"
                         : v.kind == AttentionKind::full ? "full"
                                                         : "window"},
                {"block_size", v.block_size},
                {"mass_kept", v.mass_kept()}};
    if (moba) { out["top_k"] = v.top_k; }
    if (v.window) { out["window"] = v.window; }
    if (question >= 0 && source >= 0) { out["answer_chosen"] = sees(v, question, source); }
    return out;
}

}  // namespace moba

/* What the attention of a layer saw in the last pass, on the host in fp32: for router recall and for
   pictures.

   Shapes   q (M, H, D) · k (M, G, D) as attention uses them · means, what stands for a block in the gate, one
            list for each key/value head: (blocks of its size, parts, D), rounded to the model's element type
            · chosen, one list for each query head: (M, K of that head), global blocks ascending, -1 unused
   Needs    a model that keeps its layers apart: ModelSizes.training without recompute. With asked_only: of
            the last layer only the rows of the asked tokens; of those below, which must not be moba, only
            what they let a query see */
#pragma once
#include "moba/model.h"

namespace moba {

struct AttentionView {
    AttentionShape shape;
    Sequences seqs;  // points into the model's
    std::vector<float> q, k;
    std::vector<std::vector<float>> means;
    std::vector<std::vector<int>> chosen;  // empty where the layer is not moba
    std::vector<float> gate_q;             // (M, G, D) with a shared choice: the sums of the queries
    std::vector<int> asked;                // the tokens that q and chosen have rows of; empty = all

    const BlockTable& blocks(int h) const { return seqs.level[shape.gate.level(seqs, h)]; }
    size_t row(int t) const {
        if (asked.empty()) { return t; }
        const size_t i = std::lower_bound(asked.begin(), asked.end(), t) - asked.begin();
        REQUIRE(i < asked.size() && asked[i] == t, "token %d was not asked", t);
        return i;
    }
    const float* query(int t, int h) const { return q.data() + (row(t) * shape.H + h) * shape.D; }
    const float* key(int t, int h) const {
        return k.data() + ((size_t)t * shape.G + h / (shape.H / shape.G)) * shape.D;
    }
    /* The gate's score of a block for a query, and whether it was chosen. */
    float score(int t, int h, int block) const;
    bool is_chosen(int t, int h, int block) const;
    /* <q[t], k[j]> / sqrt(D), summed in double. */
    double logit(int t, int h, int j) const;
    /* Calls f(first, end) for each range of keys that head h lets query t see. */
    template <class F>
    void each_seen(int t, int h, F f) const {
        const int begin = t - seqs.position[t];
        if (shape.kind == AttentionKind::full) { f(begin, t + 1); }
        if (shape.kind == AttentionKind::window) { f(std::max(begin, t - shape.window + 1), t + 1); }
        if (shape.kind != AttentionKind::moba) { return; }
        const BlockTable& table = blocks(h);
        const int K = shape.gate.slots(seqs, h);
        for (int i = 0; i < K; i++) {
            const int n = chosen[h][row(t) * K + i];
            if (n >= 0) { f(table.start[n], std::min(table.start[n + 1], t + 1)); }
        }
    }
};

/* The sequence's tokens whose state before this layer can get into one of the states `after` it. Both lists
   are by token of the sequence, which begins at token `begin`; 1 = yes. */
std::vector<char> read_by(const AttentionView& layer, const std::vector<char>& after, int begin);

template <class E>
AttentionView view_attention(const Model<E>&, int layer);

}  // namespace moba

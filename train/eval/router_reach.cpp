#include "train/eval/router_reach.h"

namespace moba {

namespace {

// Calls f(first, last + 1) for each range of tokens that head h lets query t see.
template <class F>
void each_stretch(const AttentionView& v, int t, int h, F f) {
    const int begin = t - v.seqs.position[t];
    if (v.shape.kind == AttentionKind::full) { f(begin, t + 1); }
    if (v.shape.kind == AttentionKind::window) { f(std::max(begin, t - v.shape.window + 1), t + 1); }
    if (v.shape.kind != AttentionKind::moba) { return; }
    const BlockTable& blocks = v.blocks(h);
    const int K = v.shape.gate.slots(v.seqs, h);
    for (int i = 0; i < K; i++) {
        const int n = v.chosen[h][(size_t)t * K + i];
        if (n >= 0) { f(blocks.start[n], std::min(blocks.start[n + 1], t + 1)); }
    }
}

bool reached(const std::vector<AttentionView>& layers, int t, int source) {
    const int begin = t - layers[0].seqs.position[t], count = t + 1 - begin;
    // By token of the sequence: whether its state after a layer, and before that layer, can reach query t.
    std::vector<char> now(count), before(count);
    now[t - begin] = 1;
    for (size_t l = layers.size(); l-- > 0;) {
        before = now;  // the residual stream: each token keeps its information
        for (int u = 0; u < count; u++) {
            if (!now[u]) { continue; }
            for (int h = 0; h < layers[l].shape.H; h++) {
                each_stretch(layers[l], begin + u, h, [&](int first, int last) {
                    std::fill(before.begin() + (first - begin), before.begin() + (last - begin), 1);
                });
            }
        }
        now.swap(before);
    }
    return now[source - begin];
}

}  // namespace

Tally router_reach(const std::vector<AttentionView>& layers, const std::vector<int>& sources) {
    Tally tally;
    for (size_t t = 0; t < sources.size(); t++) {
        if (sources[t] >= 0) { tally.add({reached(layers, (int)t, sources[t]), 1}); }
    }
    return tally;
}

}  // namespace moba

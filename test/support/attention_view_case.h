/* AttentionViews without a model, for the tests of what is drawn from them. */
#pragma once
#include "moba/attention/gate_cpu.h"
#include "moba/attention_view.h"
#include "test/support/attention_case.h"

namespace moba {
namespace attention_case {

// An AttentionView with its sequences. The blocks are chosen by the gate.
struct View {
    PackedBatch batch;
    AttentionView v;

    View(const Case& c, const std::vector<float>& q, const std::vector<float>& k)
        : batch(c.lengths, c.sizes()) {
        v.shape = shape_of(c);
        v.seqs = batch.seqs;
        v.q = q;
        v.k = k;
        for (int g = 0; g < c.G; g++) {
            const BlockTable& b = v.blocks(g * (c.H / c.G));
            v.means.emplace_back((size_t)b.num_blocks * c.D);
            for (int n = 0; n < b.num_blocks; n++) {
                pool_keys<float>(v.means[g].data() + (size_t)n * c.D, 1,
                                 k.data() + ((size_t)b.start[n] * c.G + g) * c.D, (size_t)c.G * c.D,
                                 b.start[n + 1] - b.start[n], c.D, Gate::topk);
            }
        }
        if (c.kind != moba) { return; }
        const Choice choice = choose(c, batch, as<double>(q), as<double>(k));
        for (int h = 0; h < c.H; h++) {
            const auto begin = choice.chosen.begin() + (long)v.shape.gate.first_slot(v.seqs, h);
            v.chosen.emplace_back(begin, begin + (long)v.seqs.num_tokens * v.shape.gate.slots(v.seqs, h));
        }
    }
};

// D = 1, q = 1, k = log of 1, 2, ... 6: the weights are proportional to 1 : 2 : ... : 6. S = 2, K = 2.
inline View six_tokens() {
    std::vector<float> k;
    for (int i = 1; i <= 6; i++) { k.push_back(std::log((float)i)); }
    return View({.lengths = {6}, .H = 1, .G = 1, .D = 1, .kind = moba, .S = 2, .K = 2},
                std::vector<float>(6, 1), k);
}

}  // namespace attention_case
}  // namespace moba

#include "moba/choice_overlap.h"
#include <set>

namespace moba {

void ChoiceOverlap::add(const AttentionView& v) {
    for (int h = 0; h < v.shape.H && !v.chosen.empty(); h++) { add(v, h); }
}

void ChoiceOverlap::add(const AttentionView& v, int h) {
    if (v.chosen.empty()) { return; }
    const BlockTable& blocks = v.blocks(h);
    const int K = v.shape.gate.slots(v.seqs, h);
    std::set<int> before, together;
    int queries = 0;
    const auto end_tile = [&] {
        pairs_of_unions_ += (double)queries * (double)together.size();
        queries = 0;
        together.clear();
    };
    for (int t = 0; t < v.seqs.num_tokens; t++) {
        const bool first = v.seqs.position[t] == 0;
        if (first || v.seqs.position[t] % tile == 0) { end_tile(); }
        std::set<int> now;
        for (int i = 0; i < K; i++) {
            const int n = v.chosen[h][(size_t)t * K + i];
            if (n >= 0 && n != blocks.own[t]) { now.insert(n); }
        }
        queries++;
        choices_ += (double)now.size();
        together.insert(now.begin(), now.end());
        for (int n : now) {
            followed_ += !first;
            again_ += !first && before.count(n);
        }
        before.swap(now);
    }
    end_tile();
}

double ChoiceOverlap::same() const { return again_ / followed_; }
double ChoiceOverlap::extra() const { return pairs_of_unions_ / choices_; }

}  // namespace moba

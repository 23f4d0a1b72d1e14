/* A micro-batch among the ranks of a run: each computes an equal number of samples, or one more. All ranks
   draw the whole micro-batch, since it costs little: so each knows how many targets there are in all, and
   which of the tokens its own are. */
#pragma once
#include "train/data/batch.h"

namespace moba {

struct Share {
    Batch batch;                      // this rank's samples; perhaps none
    int first = 0;                    // tokens of the ranks before it
    int counted = 0, tokens = 0;      // of all ranks
    std::vector<int> all_cu_seqlens;  // of all ranks
    bool empty() const { return batch.tokens.empty(); }
};

/* The most samples that a rank has of so many. */
inline int most_samples(int samples, int ranks) { return ceil_div(samples, ranks); }

/* Where the samples of this rank begin. */
inline long first_sample_of(int rank, int ranks, int samples) { return (long)samples * rank / ranks; }

/* The share of rank `rank` of `ranks`. add(batch) adds the next sample. */
template <class Add>
Share share_of(int rank, int ranks, int samples, Add add) {
    Batch all;
    size_t begin = 0, end = 0;  // sequences: a sample of a text can have several
    for (int i = 0; i <= samples; i++) {
        if (i == first_sample_of(rank, ranks, samples)) { begin = all.cu_seqlens.size() - 1; }
        if (i == first_sample_of(rank + 1, ranks, samples)) { end = all.cu_seqlens.size() - 1; }
        if (i < samples) { add(all); }
    }
    Share s{.batch = {},
            .first = all.cu_seqlens[begin],
            .counted = all.counted(),
            .tokens = (int)all.tokens.size(),
            .all_cu_seqlens = all.cu_seqlens};
    if (ranks == 1) {
        s.batch = std::move(all);
        return s;
    }
    const int from = all.cu_seqlens[begin], to = all.cu_seqlens[end];
    s.batch.tokens.assign(all.tokens.begin() + from, all.tokens.begin() + to);
    s.batch.targets.assign(all.targets.begin() + from, all.targets.begin() + to);
    for (size_t i = begin + 1; i <= end; i++) { s.batch.cu_seqlens.push_back(all.cu_seqlens[i] - from); }
    return s;
}

}  // namespace moba

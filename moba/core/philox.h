/* Philox 4x32-10, the counter-based random number generator for weights, data, dropout and sampling.

   Source   Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"; also the generator of cuRAND
            and PyTorch.
   Math     ten rounds over a counter of four words, with a key of two words. The same counter always gives
            the same four words, so any element can be drawn by itself, in any order, on any device.
   Units    each word is uniform over [0, 2^32)
   cuRAND   curand_init(seed, subsequence, offset) then curand4(): counter = (offset/4 low, offset/4 high,
            subsequence low, subsequence high), key = seed */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct Philox4 {
    uint32_t word[4];
};

HOST_DEVICE inline Philox4 philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

/* What a stream of random numbers is used for. With one seed, streams of different purposes never share a
   counter: the purpose is the last word of it. Dropout puts 8 * layer + site there (ops/residual.h), so the
   purposes start higher. */
enum class Purpose : uint32_t {
    weights = 0x10000,
    train_data,
    validation_data,
    eval_data,
    sampling,
    synthetic,
    epoch_start,
    epoch_order
};

/* A sequential stream of random numbers, identified by (seed, purpose, index), e.g. training sample 17. */
class Rng {
  public:
    Rng(uint64_t seed, Purpose purpose, uint64_t index)
        : seed_(seed), purpose_((uint32_t)purpose), lo_((uint32_t)index), hi_((uint32_t)(index >> 32)) {}

    uint32_t next() {
        if (used_ == 4) {
            block_ = philox(seed_, counter_++, lo_, hi_, purpose_);
            used_ = 0;
        }
        return block_.word[used_++];
    }
    // Uniform over 0..n-1, without bias: the few largest words, which would cause one, are drawn again.
    int below(int n) {
        const uint32_t limit = 0xFFFFFFFFu - 0xFFFFFFFFu % (uint32_t)n;
        uint32_t w = next();
        while (w >= limit) { w = next(); }
        return (int)(w % (uint32_t)n);
    }
    double uniform() { return (next() + 0.5) / 4294967296.0; }  // in (0, 1)
    // Box-Muller; only one number of the pair is used.
    double normal() {
        const double r = std::sqrt(-2 * std::log(uniform()));
        return r * std::cos(6.283185307179586 * uniform());
    }

  private:
    uint64_t seed_;
    uint32_t purpose_, lo_, hi_, counter_ = 0;
    Philox4 block_{};
    int used_ = 4;
};

}  // namespace moba

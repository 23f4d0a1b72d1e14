/* The dropout mask of residual.h for kernels. Included by .cu files only. */
#pragma once
#include "moba/core/device.cuh"
#include "moba/core/philox.h"
#include "moba/ops/residual.h"

namespace moba {

/* x + mask b / (1-p) for the N elements from i on; if x is null: mask b / (1-p). g: number of element i in
   the whole micro-batch. With N = 1 one of the four drawn words is used; with N and g multiples of 4 all are
   used. fmaf is written explicitly, so that all kernels that call this give the same bits. */
template <class E, int N>
__device__ Pack<E, N> add_masked(const E* x, const E* b, size_t i, size_t g, const StepState* state,
                                 const DropoutMask<float>& mask) {
    constexpr int words = N < 4 ? N : 4;
    const Pack<E, N> branch = load_pack<E, N>(b + i);
    Pack<E, N> base;
    if (x) { base = load_pack<E, N>(x + i); }
    Pack<float, N> sum;
    for (int j = 0; j < N; j += words) {
        Philox4 r;
        if (mask.threshold) {
            r = philox(state->seed, (uint32_t)((g + j) / 4), state->step, state->micro_batch, mask.site);
        }
        for (int k = 0; k < words; k++) {
            uint32_t word = r.word[k];
            if (N < 4) {  // not r.word[g % 4]: an array whose index is not known lies in memory
                const uint32_t low = g % 2 ? r.word[1] : r.word[0], high = g % 2 ? r.word[3] : r.word[2];
                word = g % 4 < 2 ? low : high;
            }
            const float keep = !mask.threshold ? 1.f : word >= mask.threshold ? mask.keep : 0.f;
            sum.at[j + k] = fmaf(keep, (float)branch.at[j + k], x ? (float)base.at[j + k] : 0.f);
        }
    }
    return round_pack<E>(sum);
}

}  // namespace moba

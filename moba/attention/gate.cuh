/* Shared by all versions of the gate on the GPU. Included by gate*.cu only. */
#pragma once
#include "moba/attention/gate.h"
#include "moba/core/device.cuh"

namespace moba {

constexpr int mean_pad = 32;  // the width of a row of means is a multiple of this
constexpr int gate_width(int D) { return round_up(D, mean_pad); }

// A range of heads that choose, with the same block table and the same K: one launch computes it. Grid y -> a
// head. With a shared choice these are the key/value heads, H = G, and q has the sums of their queries.
struct GateHeads {
    BlockTable blocks;
    int M, H, G, D;
    int first;  // the first head
    int K;
    int width;  // channels of a row of means: D, and zeros up to a multiple of mean_pad
    Gate rule;
    int group;  // query heads that a head chooses for: more than 1 with a shared choice

    HOST_DEVICE size_t num_means() const { return (size_t)blocks.num_blocks * parts_of(rule); }
};

/* The means, and the choices, of the head that this thread block works on. Shapes of a launch: chosen
   (heads * group, M, K); mean (key/value heads, num_blocks, parts, width). q has all heads: (M, H, D). */
template <class E>
__device__ const E* means_of_head(const E* mean, const GateHeads& s) {
    const int group = s.H / s.G, g = (s.first + blockIdx.y) / group - s.first / group;
    return mean + g * s.num_means() * s.width;
}
__device__ inline int* choices_of_head(int* chosen, const GateHeads& s) {
    return chosen + (size_t)blockIdx.y * s.group * s.M * s.K;
}

/* Version 2 of the choice: D <= 128. `heads`: query heads of the launch. Defined in gate_tile.cu. */
template <class E>
void gate_choose_tiles(const Ctx&, int* chosen, const E* q, const E* mean, const GateHeads&, int heads);

/* Versions 3 (mma.sync) and 4 (wgmma) of the choice: bf16, D <= 128, rows of `q` 16-byte aligned. `mean` has
   its channels in the exchanged order of tensor.cuh. Defined in gate_tensor.cu. */
constexpr int max_tensor_top_k = 33;  // K - 1 of 32 classes give the bound
void gate_choose_tensor(const Ctx&, int version, int* chosen, const bf16* q, const bf16* mean,
                        const GateHeads&, int heads);
// Bytes of shared memory that they need.
size_t gate_tensor_bytes(int D, int K);

}  // namespace moba

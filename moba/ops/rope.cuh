/* For kernels that rotate: the angles, and the mapping of threads to pairs. Included by .cu files only. */
#pragma once
#include "moba/core/device.cuh"
#include "moba/ops/rope.h"

namespace moba {

/* cos and sin of position * f[i + j], j < N, from the split table, as cos(a + b) and sin(a + b). The table
   stores pairs (cos, sin), so N angles need 2 N numbers of each of two rows, loaded W at a
   time. */
template <int N, int W>
__device__ void angles(Pack<float, N>* cosine, Pack<float, N>* sine, const float* table, int position, int i,
                       int D) {
    const unsigned t = position;
    const float* fine = table + (size_t)(t % rope_split) * D + 2 * i;
    const float* coarse = table + (size_t)(rope_split + t / rope_split) * D + 2 * i;
    Pack<float, 2 * N> a, b;
#pragma unroll
    for (int j = 0; j < 2 * N; j += W) {
        const Pack<float, W> of_a = load_pack<float, W>(fine + j), of_b = load_pack<float, W>(coarse + j);
#pragma unroll
        for (int k = 0; k < W; k++) { a.at[j + k] = of_a.at[k], b.at[j + k] = of_b.at[k]; }
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        cosine->at[j] = b.at[2 * j] * a.at[2 * j] - b.at[2 * j + 1] * a.at[2 * j + 1];
        sine->at[j] = b.at[2 * j + 1] * a.at[2 * j] + b.at[2 * j] * a.at[2 * j + 1];
    }
}

/* Rotates re (a pack at x[i]) and im (at x[i + D/2]) by the angles of the position; sign = -1 rotates
   back. */
template <int W, class E, int N>
__device__ void rotate(Pack<E, N>* re, Pack<E, N>* im, const float* table, int position, int i, int D,
                       float sign) {
    Pack<float, N> c, n, real, imaginary;
    angles<N, W>(&c, &n, table, position, i, D);
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float a = re->at[j], b = im->at[j], sine = n.at[j] * sign;
        real.at[j] = a * c.at[j] - b * sine;
        imaginary.at[j] = a * sine + b * c.at[j];
    }
    *re = round_pack<E>(real);
    *im = round_pack<E>(imaginary);
}

/* Launch sizes: threadIdx.x -> one of the `packs` of a head's pairs, y -> the head, z -> the token. */
inline RowThreads threads_for_heads(int tokens, int heads, int packs) {
    const int threads = 256, y = std::min(heads, threads / packs);
    const int z = std::min(64, threads / (packs * y));  // CUDA allows at most 64 threads along z
    return {dim3(blocks_for(tokens, z), blocks_for(heads, y)), dim3(packs, y, z)};
}

}  // namespace moba

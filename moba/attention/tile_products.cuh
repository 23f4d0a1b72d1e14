/* Products of tiles in shared memory, for the kernels of versions 3 and 4 of attention: rows of one tile
   times rows of another, and a fragment in registers times the rows of a tile. Included by .cu and .cuh
   only. */
#pragma once
#include "moba/core/tensor.cuh"

namespace moba {

constexpr int passing_rows = 64;  // rows of the tile that mma.sync multiplies with

/* sum (16 rows of this warp, 8 n) = rows 16 * warp .. of x (rows, D) times the rows from `y` on of a
   tile (passing_rows, D) */
template <int D, int rows, int n>
__device__ __forceinline__ void dot_rows_mma(float (&sum)[n][4], const unsigned char* x,
                                             const unsigned char* y) {
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const unsigned char *a_row = x + (16 * warp + lane % 16) * row_bytes,
                        *b_row = y + (lane % 8 + lane / 16 * 8) * row_bytes;
    const int a_piece = (lane / 16 ^ lane % 8) * 16, b_piece = (lane / 8 % 2 ^ lane % 8) * 16;
    set_zero(sum);
    const auto step = [&](int panel, int at) {
        uint32_t a[4];
        ldmatrix_x4<false>(a, a_row + panel * rows * row_bytes + (a_piece ^ at));
#pragma unroll
        for (int j = 0; j < n; j += 2) {
            uint32_t b[4];
            ldmatrix_x4<false>(b, b_row + (panel * passing_rows + j * 8) * row_bytes + (b_piece ^ at));
            mma_bf16(sum[j], a, b[0], b[1]);
            mma_bf16(sum[j + 1], a, b[2], b[3]);
        }
    };
#pragma unroll 1  // fewer registers
    for (int panel = 0; panel < D / 64; panel++) {
#pragma unroll
        for (int at = 0; at < row_bytes; at += 32) { step(panel, at); }
    }
#pragma unroll
    for (int at = 0; at < D % 64 * 2; at += 32) { step(D / 64, at); }
}
/* sum (16 rows, D) += a (16 rows, passing_rows) y (passing_rows, D) */
template <int D>
__device__ __forceinline__ void
add_rows_mma(float (&sum)[D / 8][4], const uint32_t (&a)[passing_rows / 16][4], const unsigned char* y) {
    const int lane = threadIdx.x % warp_size;
    const unsigned char* row = y + lane % 16 * row_bytes;
    const int piece = (lane / 16 ^ lane % 8) * 16;
#pragma unroll
    for (int step = 0; step < passing_rows / 16; step++) {
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t b[4];
            ldmatrix_x4<true>(b, row + (j / 8 * passing_rows + step * 16) * row_bytes + (piece ^ j % 8 * 16));
            mma_bf16(sum[j], a[step], b[0], b[1]);
            mma_bf16(sum[j + 1], a[step], b[2], b[3]);
        }
    }
}

#if HOPPER_CODE
/* score (64 rows, columns) = 64 rows of one tile times `columns` rows of another one, over D channels. */
template <int D, int columns, int rows_a, int rows_b>
__device__ __forceinline__ void dot_rows_wgmma(float (&score)[columns / 8][4], uint64_t a, uint64_t b) {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        wgmma<columns, false, false>(score, a + descriptor_step(channels_offset(step, rows_a)),
                                     b + descriptor_step(channels_offset(step, rows_b)), step > 0);
    }
    wgmma_commit();
}
/* sum (64 rows, D) += a (64 rows, 16 * steps, in registers) times the rows of a tile. Its group is not
   committed. */
template <int D, int steps>
__device__ __forceinline__ void add_rows_wgmma(float (&sum)[D / 8][4], const uint32_t (&a)[steps][4],
                                               uint64_t b) {
#pragma unroll
    for (int step = 0; step < steps; step++) {
        wgmma<D, true>(sum, a[step], b + descriptor_step(step * 16 * row_bytes), true);
    }
}
#endif

}  // namespace moba

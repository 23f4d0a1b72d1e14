/* Shared by the kernels of version 3 whose tiles pass (stream.cuh). Included by mma_stream_*.cu only.

   A thread block has 8 warps, 16 rows each. All warps copy the next tiles (cp.async) while they compute the
   current ones, so there is one __syncthreads per tile. */
#pragma once
#include "moba/attention/stream.cuh"

namespace moba {

constexpr int mma_stream_threads = 2 * stream_rows;
constexpr int mma_tile = 64;  // rows of a tile that passes: keys or queries
static_assert(mma_tile == stream_queries);

/* Shared memory: the rows that stay, and twice the tiles that pass, of K and V or of q and dout. */
template <int D, int staying>
struct MmaStreamMemory {
    static constexpr int row_bytes = panels<D> * stream_rows * 128, tile_bytes = panels<D> * mma_tile * 128;
    static constexpr size_t bytes = staying * row_bytes + 4 * tile_bytes;
    unsigned char* rows;   // (staying, stream_rows, D) bf16, in panels
    unsigned char* tiles;  // (2, 2, mma_tile, D) bf16, in panels

    __device__ explicit MmaStreamMemory(unsigned char* base)
        : rows(base), tiles(rows + staying * row_bytes) {}
    // The first and the second operand of tile `tile`
    __device__ unsigned char* one(int tile) const { return tiles + tile % 2 * 2 * tile_bytes; }
    __device__ unsigned char* two(int tile) const { return one(tile) + tile_bytes; }
};

/* sum (16 rows of this warp, 8 n) = rows 16 * warp .. of x (stream_rows, D) times the rows from `y` on of a
   tile (mma_tile, D) */
template <int D, int n>
__device__ __forceinline__ void dot_passing(float (&sum)[n][4], const unsigned char* x,
                                            const unsigned char* y) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const unsigned char *a_row = x + (16 * warp + lane % 16) * 128,
                        *b_row = y + (lane % 8 + lane / 16 * 8) * 128;
    const int a_piece = (lane / 16 ^ lane % 8) * 16, b_piece = (lane / 8 % 2 ^ lane % 8) * 16;
    set_zero(sum);
    const auto step = [&](int panel, int at) {
        uint32_t a[4];
        ldmatrix_x4<false>(a, a_row + panel * stream_rows * 128 + (a_piece ^ at));
#pragma unroll
        for (int j = 0; j < n; j += 2) {
            uint32_t b[4];
            ldmatrix_x4<false>(b, b_row + (panel * mma_tile + j * 8) * 128 + (b_piece ^ at));
            mma_bf16(sum[j], a, b[0], b[1]);
            mma_bf16(sum[j + 1], a, b[2], b[3]);
        }
    };
#pragma unroll 1  // fewer registers
    for (int panel = 0; panel < D / 64; panel++) {
#pragma unroll
        for (int at = 0; at < 128; at += 32) { step(panel, at); }
    }
#pragma unroll
    for (int at = 0; at < D % 64 * 2; at += 32) { step(D / 64, at); }
}
/* sum (16 rows, D) += a (16 rows, mma_tile) y (mma_tile, D) */
template <int D>
__device__ __forceinline__ void add_passing(float (&sum)[D / 8][4], const uint32_t (&a)[mma_tile / 16][4],
                                            const unsigned char* y) {
    const int lane = threadIdx.x % 32;
    const unsigned char* row = y + lane % 16 * 128;
    const int piece = (lane / 16 ^ lane % 8) * 16;
#pragma unroll
    for (int step = 0; step < mma_tile / 16; step++) {
#pragma unroll
        for (int j = 0; j < D / 8; j += 2) {
            uint32_t b[4];
            ldmatrix_x4<true>(b, row + (j / 8 * mma_tile + step * 16) * 128 + (piece ^ j % 8 * 16));
            mma_bf16(sum[j], a[step], b[0], b[1]);
            mma_bf16(sum[j + 1], a[step], b[2], b[3]);
        }
    }
}

/* Begins to copy K and V of a tile; each warp copies 8 rows. */
template <int D, class Memory>
__device__ __forceinline__ void fetch_keys(const Memory& m, const AttentionOperands<bf16>& a, const Heads& s,
                                           const Item& it, int tile) {
    const int first = PassingKeys<mma_tile>(it).first(tile), g = s.kv_head(it.head);
    const RowCopy<D, mma_tile> copy;
    copy(threadIdx.x / 32 * 8, 8, [&](int r, int place) {
        if (!copy.used()) { return; }
        const size_t from = s.key(max(first + r, it.key_begin), g) + copy.piece * 8;
        cp_async_16(m.one(tile) + place, a.k + from, first + r >= it.key_begin);
        cp_async_16(m.two(tile) + place, a.v + from, first + r >= it.key_begin);
    });
}

// Calls f.template operator()<D>() for this head size.
template <class F>
void with_mma_head_dim(int D, F f) {
    switch (D) {
    case 32:
        f.template operator()<32>();
        break;
    case 64:
        f.template operator()<64>();
        break;
    case 80:
        f.template operator()<80>();
        break;
    case 96:
        f.template operator()<96>();
        break;
    case 128:
        f.template operator()<128>();
        break;
    default:
        REQUIRE(false, "D = %d", D);
    }
}

}  // namespace moba

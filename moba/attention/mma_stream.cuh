/* Shared by the kernels of version 3 whose tiles pass (stream.cuh). Included by mma_stream_*.cu only.

   A thread block has 8 warps, 16 rows each. All warps copy the next tiles (cp.async) while they compute the
   current ones, so there is one __syncthreads per tile. */
#pragma once
#include "moba/attention/stream.cuh"
#include "moba/attention/tile_products.cuh"

namespace moba {

constexpr int mma_stream_threads = 2 * stream_rows;
constexpr int mma_tile = 64;  // rows of a tile that passes: keys or queries
static_assert(mma_tile == stream_queries && mma_tile == passing_rows);

/* Shared memory: the rows that stay, and twice the tiles that pass, of K and V or of q and dout. */
template <int D, int staying>
struct MmaStreamMemory {
    static constexpr int operand_bytes = panels<D> * stream_rows * row_bytes;
    static constexpr int tile_bytes = panels<D> * mma_tile * row_bytes;
    static constexpr size_t bytes = staying * operand_bytes + 4 * tile_bytes;
    unsigned char* rows;   // (staying, stream_rows, D) bf16, in panels
    unsigned char* tiles;  // (2, 2, mma_tile, D) bf16, in panels

    __device__ explicit MmaStreamMemory(unsigned char* base)
        : rows(base), tiles(rows + staying * operand_bytes) {}
    // The first and the second operand of tile `tile`
    __device__ unsigned char* one(int tile) const { return tiles + tile % 2 * 2 * tile_bytes; }
    __device__ unsigned char* two(int tile) const { return one(tile) + tile_bytes; }
};

/* Begins to copy K and V of a tile; each warp copies 8 rows. */
template <int D, class Memory>
__device__ __forceinline__ void fetch_keys(const Memory& m, const AttentionOperands<bf16>& a, const Heads& s,
                                           const Item& it, int tile) {
    const int first = PassingKeys<mma_tile>(it).first(tile), g = s.kv_head(it.head);
    const RowCopy<D, mma_tile> copy;
    copy(threadIdx.x / warp_size * 8, 8, [&](int r, int place) {
        if (!copy.used()) { return; }
        const size_t from = s.key(max(first + r, it.key_begin), g) + copy.piece * 8;
        cp_async_16(m.one(tile) + place, a.k + from, first + r >= it.key_begin);
        cp_async_16(m.two(tile) + place, a.v + from, first + r >= it.key_begin);
    });
}

// Calls f.template operator()<D>() for this head size.
template <class F>
void with_mma_head_dim(int D, F f) {
    REQUIRE(has_mma_head_dim(D), "D = %d", D);
    D == 32   ? f.template operator()<32>()
    : D == 64 ? f.template operator()<64>()
    : D == 80 ? f.template operator()<80>()
    : D == 96 ? f.template operator()<96>()
              : f.template operator()<128>();
}

}  // namespace moba

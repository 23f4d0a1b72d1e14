/* Attention on the GPU, version 3: the backward pass of MoBA on tensor cores by mma.sync. */
#include "moba/attention/tensor_backward.cuh"
#include "moba/attention/tile_products.cuh"

namespace moba {

static_assert(tile_queries == passing_rows);

namespace {

/* dq (16 queries, columns * 8 channels from piece `first` on) = ds' (queries of tile m, S keys) k (S, D). ds
   is stored as (key, query). */
template <int S, int columns>
__device__ __forceinline__ void dot_queries(float (&dq)[columns][4], const unsigned char* ds, int m,
                                            const unsigned char* k, int first) {
    const int lane = threadIdx.x % warp_size;
    const unsigned char* a_row =
        ds + (lane % 8 + lane / 16 * 8) * row_bytes + ((2 * m + lane / 8 % 2) ^ lane % 8) * 16;
    const unsigned char* b_row = k + (first / 8 * S + lane % 16) * row_bytes;
    const int b_piece = (lane / 16 ^ lane % 8 ^ first % 8) * 16;
    set_zero(dq);
#pragma unroll
    for (int step = 0; step < S / 16; step++) {
        uint32_t a[4];
        ldmatrix_x4<true>(a, a_row + step * 16 * row_bytes);
#pragma unroll
        for (int j = 0; j < columns; j += 2) {
            uint32_t b[4];
            ldmatrix_x4<true>(b, b_row + step * 16 * row_bytes + (b_piece ^ j * 16));
            mma_bf16(dq[j], a, b[0], b[1]);
            mma_bf16(dq[j + 1], a, b[2], b[3]);
        }
    }
}

}  // namespace

/* Partial results of dq for an item's queries; dk and dv of its keys, or partial sums of them
   Maps     thread block of S / 16 warps -> an item; warp -> 16 keys: their scores against 64 queries, their
            sums; then 16 queries of dq
   Memory   K and V stay; q and dout of the next tile are copied (cp.async) while this one is computed; ds
            passes through shared memory once, for dq; for dv and dk, p and ds stay in registers
   Sync     two barriers per tile: the copies of the tile are complete; ds is complete
   Order    fixed: tiles one after another
   Differs  from 2: tensor cores, and one pass for dq, dk and dv
   Needs    bf16, D = 64 or 128, S <= 128 */
template <int D, int S>
__global__ void __launch_bounds__(2 * S, 1)
    attention_backward_kernel3(AttentionOperands<bf16> a, bf16* part, KeySums sums, Heads s, Items items,
                               Divisor query_of) {
    // dq: `pieces` 8-channel pieces of each row per warp, `columns` of them at the same time
    constexpr int parts = S / 64, pieces = D / 8 / parts, columns = 4;
    SHARED_MEMORY;
    const BackwardMemory<D, S, 2> memory(shared_memory);
    const KeyTile& it = *memory.item;
    if (!take_key_tile(*memory.item, s, items)) { return; }
    QueryStream<D, S> stream;
    stream.start(s, it);
    fetch_keys<D, S>(memory, a, s, it);
    stream.fetch(memory, a, s, it, query_of, 0);
    cp_async_commit();
    float dk[D / 8][4], dv[D / 8][4];
    set_zero(dk);
    set_zero(dv);
#pragma unroll 1
    for (int tile = 0; tile * tile_queries < it.rows; tile++) {
        cp_async_wait<0>();
        __syncthreads();
        if ((tile + 1) * tile_queries < it.rows) { stream.fetch(memory, a, s, it, query_of, tile + 1); }
        cp_async_commit();
        const unsigned char *q = memory.q(tile), *dout = memory.dout(tile);
        const QueryRows& x = memory.rows(tile);
        uint32_t p[tile_queries / 16][4], ds[tile_queries / 16][4];
        {
            float score[tile_queries / 8][4];
            dot_rows_mma<D, S>(score, memory.k, q);
            weights<S>(score, SharedPairs{x.lse}, x, s.scale * log2_e);
#pragma unroll
            for (int half = 0; half < 2; half++) {  // all 64 queries together would need too many registers
                float dp[tile_queries / 16][4];
                dot_rows_mma<D, S>(dp, memory.v, dout + half * tile_queries / 2 * row_bytes);
                slopes<S>(p, ds, score, dp, memory.ds(tile), SharedPairs{x.delta}, half * tile_queries / 16);
            }
        }
        add_rows_mma<D>(dv, p, dout);
        add_rows_mma<D>(dk, ds, q);
        __syncthreads();
        const int warp = threadIdx.x / warp_size;
#pragma unroll 1
        for (int piece = warp / 4 * pieces; piece < (warp / 4 + 1) * pieces; piece += columns) {
            float dq[columns][4];
            dot_queries<S, columns>(dq, memory.ds(tile), warp % 4, memory.k, piece);
            store_dq<D, columns>(part, dq, x, it.rows - tile * tile_queries, piece * 8, s.scale);
        }
    }
    store_sums<D>(a, sums, s, it, dk, dv);
}

void mma_backward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, bf16* part, const KeySums& sums,
                      const Heads& s, const Items& items) {
    with_tensor_tile<64>(s.D, s.blocks.size, [&]<int D, int S> {
        const size_t bytes = BackwardMemory<D, S, 2>(nullptr).bytes;
        allow_shared_memory<attention_backward_kernel3<D, S>>(bytes);
        launch(attention_backward_kernel3<D, S>,
               (unsigned)(s.count / s.group()) * items.places(s.blocks.num_blocks), 2 * S, bytes, ctx.stream,
               a, part, sums, s, items, Divisor(s.K));
        LAUNCHED(ctx);
    });
}

size_t mma_backward_bytes(int D, int S) {
    size_t bytes = 0;
    with_tensor_tile<64>(D, S, [&]<int D, int S> { bytes = BackwardMemory<D, S, 2>(nullptr).bytes; });
    return bytes;
}

}  // namespace moba

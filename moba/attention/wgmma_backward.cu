/* Attention on the GPU, version 4: the backward pass of MoBA on tensor cores by wgmma. */
#include "moba/attention/tensor_backward.cuh"
#include "moba/attention/tile_products.cuh"

namespace moba {

namespace {

/* Buffers for tiles of queries. With three, one barrier per tile is enough; with blocks of 64 keys two let
   a second thread block fit on the SM. */
template <int S>
constexpr int query_buffers = S == max_tile_keys ? 3 : 2;

}  // namespace

/* Partial results of dq for an item's queries; dk and dv of its keys, or partial sums of them
   Maps     warpgroup -> 64 keys of an item's block: their scores against 64 queries, their sums; then D /
            (S / 64) channels of dq of the 64 queries. A thread block has one or two warpgroups
   Memory   as in version 3; only the tensor cores read tiles from shared memory
   Sync     one barrier per tile: ds is complete, the copies of the next tile are complete, and no warp
            reads the previous tile any more. A second one where there are two buffers. A thread that writes
            data for the tensor cores executes a fence before the barrier
   Overlap  the scores of the next tile are computed while dq of this tile is stored; copies have the time
            of a whole tile, and are issued while products run
   Order    fixed: tiles one after another
   Differs  from 3: the products use wgmma
   Needs    sm_90a, bf16, D = 64 or 128, S <= 128 */
template <int D, int S>
__global__ void __launch_bounds__(2 * S, 1)
    attention_backward_kernel4(AttentionOperands<bf16> a, bf16* part, KeySums sums, Heads s, Items items,
                               Divisor query_of) {
#if HOPPER_CODE
    constexpr int Q = tile_queries, parts = S / 64, N = D / parts, ahead = query_buffers<S> - 1;
    SHARED_MEMORY;
    const BackwardMemory<D, S, query_buffers<S>> memory(shared_memory);
    const KeyTile& it = *memory.item;
    if (!take_key_tile(*memory.item, s, items)) { return; }
    QueryStream<D, S> stream;
    const auto fetch = [&](int tile) {
        if (tile * Q < it.rows) { stream.fetch(memory, a, s, it, query_of, tile); }
        cp_async_commit();
    };
    stream.start(s, it);
    fetch_keys<D, S>(memory, a, s, it);
    for (int tile = 0; tile < ahead; tile++) { fetch(tile); }
    float dk[D / 8][4], dv[D / 8][4], score[Q / 8][4];
    set_zero(dk);
    set_zero(dv);
    // by a shuffle, so that the compiler knows that the value is the same in all lanes
    const int group = __shfl_sync(all_lanes, (int)threadIdx.x / warpgroup_threads, 0);
    const uint64_t my_k = operand(memory.k + group * 64 * row_bytes),
                   my_v = operand(memory.v + group * 64 * row_bytes);
    const uint64_t k_columns =
        operand(memory.k + group * N / 64 * S * row_bytes + group * N % 64 * 2, S * row_bytes);
    cp_async_wait<ahead - 1>();
    fence_proxy_async();
    __syncthreads();
    dot_rows_wgmma<D, Q, S, Q>(score, my_k, operand(memory.q(0), Q * row_bytes));
#pragma unroll 1
    for (int tile = 0;; tile++) {
        if (ahead == 1) { fetch(tile + 1); }
        const QueryRows& x = memory.rows(tile);
        const uint64_t q = operand(memory.q(tile), Q * row_bytes),
                       dout = operand(memory.dout(tile), Q * row_bytes),
                       all_ds = operand(memory.ds(tile), S * row_bytes);
        uint32_t p[Q / 16][4], ds[Q / 16][4];
        {
            float dp[Q / 8][4];
            dot_rows_wgmma<D, Q, S, Q>(dp, my_v, dout);
            QueryPairs lse, delta;
            lse.load(x.lse);
            wgmma_wait<1>(score);
            weights<S>(score, lse, x, s.scale * log2_e);
            delta.load(x.delta);
            wgmma_wait<0>(dp);
            slopes<S>(p, ds, score, dp, memory.ds(tile), delta);
        }
        cp_async_wait<0>();  // for the next tile
        fence_proxy_async();
        wgmma_fence();
        add_rows_wgmma<D>(dv, p, dout);
        add_rows_wgmma<D>(dk, ds, q);
        wgmma_commit();
        __syncthreads();
        float dq[N / 8][4];
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < S / 16; step++) {
            wgmma<N, true, true>(dq, all_ds + descriptor_step(step * 16 * row_bytes),
                                 k_columns + descriptor_step(step * 16 * row_bytes), step > 0);
        }
        wgmma_commit();
        if (ahead == 2) { fetch(tile + 2); }
        wgmma_wait<0>(dv, dk, p, ds, dq);
        const auto store = [&] { store_dq<D, N / 8>(part, dq, x, it.rows - tile * Q, group * N, s.scale); };
        // the only exit, so that no path leaves the loop with scores in flight
        if ((tile + 1) * Q >= it.rows) {
            store();
            break;
        }
        dot_rows_wgmma<D, Q, S, Q>(score, my_k, operand(memory.q(tile + 1), Q * row_bytes));
        store();
        if (ahead == 1) { __syncthreads(); }
    }
    store_sums<D>(a, sums, s, it, dk, dv);
#else
    __trap();
#endif
}

void wgmma_backward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, bf16* part, const KeySums& sums,
                        const Heads& s, const Items& items) {
    with_tensor_tile<64>(s.D, s.blocks.size, [&]<int D, int S> {
        const size_t bytes = BackwardMemory<D, S, query_buffers<S>>(nullptr).bytes;
        allow_shared_memory<attention_backward_kernel4<D, S>>(bytes);
        launch(attention_backward_kernel4<D, S>,
               (unsigned)(s.count / s.group()) * items.places(s.blocks.num_blocks), 2 * S, bytes, ctx.stream,
               a, part, sums, s, items, Divisor(s.K));
        LAUNCHED(ctx);
    });
}

size_t wgmma_backward_bytes(int D, int S) {
    size_t bytes = 0;
    with_tensor_tile<64>(
        D, S, [&]<int D, int S> { bytes = BackwardMemory<D, S, query_buffers<S>>(nullptr).bytes; });
    return bytes;
}

}  // namespace moba

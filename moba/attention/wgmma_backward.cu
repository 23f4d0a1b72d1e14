/* Attention on the GPU, version 4: MoBA's backward pass on tensor cores by wgmma. */
#include "moba/attention/tensor_backward.cuh"

namespace moba {

/* The parts of dq of an item's queries; dk, dv of its keys, or the item's share of them
   Maps     a warpgroup -> 64 keys of an item's block: their scores against 64 queries, their sums; then D / (S / 64) channels of dq of
            the 64 queries. A block of threads is one warpgroup or two
   Memory   as version 3; shared memory is read by the tensor cores alone
   Sync     two barriers a tile: ds is complete and the next tile has landed; nobody reads this tile any more. Who writes what a tensor
            core reads fences before the barrier
   Overlap  the next tile's scores are computed while this tile's dq is stored; copies land during a whole tile
   Order    tiles one after another: fixed
   Differs  from 3: the products
   Needs    sm_90a, bf16, D 64 or 128, S <= 128 */
template <int D, int S>
__global__ void __launch_bounds__(2 * S, 1)
    attention_backward_kernel4(AttentionOperands<bf16> a, bf16* part, KeySums sums, Heads s, Items items,
                               Divisor query_of) {
#if HOPPER_CODE
    constexpr int Q = tile_queries, parts = S / 64, N = D / parts,
                  unit = 16;  // of a descriptor's address, in bytes
    SHARED_MEMORY;
    const BackwardMemory<D, S> memory(shared_memory);
    const KeyTile& it = *memory.item;
    if (!take_key_tile(*memory.item, s, items)) { return; }
    QueryStream<D, S> stream;
    stream.start(s, it);
    fetch_keys<D, S>(memory, a, s, it);
    stream.fetch(memory, a, s, it, query_of, 0);
    cp_async_commit();
    float dk[D / 8][4], dv[D / 8][4], score[Q / 8][4];
    set_zero(dk);
    set_zero(dv);
    const int group =
        __shfl_sync(all_lanes, (int)threadIdx.x / 128, 0);  // so the compiler knows that all lanes agree
    const uint64_t my_k = operand(memory.k + group * 64 * 128), my_v = operand(memory.v + group * 64 * 128);
    const uint64_t k_columns = operand(memory.k + group * N / 64 * S * 128 + group * N % 64 * 2, S * 128),
                   all_ds = operand(memory.ds, S * 128);
    // sum = 64 keys of a tile of S times 64 queries, channels along both rows
    const auto dot_keys = [&](float(&sum)[Q / 8][4], uint64_t keys, uint64_t queries) {
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < D / 16; step++) {
            const int at = step % 4 * 32;
            wgmma<Q, false, false>(sum, keys + (step / 4 * S * 128 + at) / unit,
                                   queries + (step / 4 * Q * 128 + at) / unit, step > 0);
        }
        wgmma_commit();
    };
    cp_async_wait<0>();
    fence_proxy_async();
    __syncthreads();
    dot_keys(score, my_k, operand(memory.q(0), Q * 128));
#pragma unroll 1
    for (int tile = 0; tile * Q < it.rows; tile++) {
        const bool more = (tile + 1) * Q < it.rows;
        if (more) { stream.fetch(memory, a, s, it, query_of, tile + 1); }
        cp_async_commit();
        const QueryRows& x = memory.rows[tile % 2];
        const uint64_t q = operand(memory.q(tile), Q * 128), dout = operand(memory.dout(tile), Q * 128);
        uint32_t p[Q / 16][4], ds[Q / 16][4];
        {
            float dp[Q / 8][4];
            dot_keys(dp, my_v, dout);
            QueryPairs lse, delta;
            lse.load(x.lse);
            wgmma_wait<1>(score);
            weights<S>(score, lse, x, s.scale * log2_e);
            delta.load(x.delta);
            wgmma_wait<0>(dp);
            slopes<S>(p, ds, score, dp, memory.ds, delta);
        }
        cp_async_wait<0>();  // the next tile
        fence_proxy_async();
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < Q / 16; step++) {
            wgmma<D, true>(dv, p[step], dout + step * 2048 / unit, true);
        }
#pragma unroll
        for (int step = 0; step < Q / 16; step++) {
            wgmma<D, true>(dk, ds[step], q + step * 2048 / unit, true);
        }
        wgmma_commit();
        __syncthreads();
        float dq[N / 8][4];
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < S / 16; step++) {
            wgmma<N, true, true>(dq, all_ds + step * 2048 / unit, k_columns + step * 2048 / unit, step > 0);
        }
        wgmma_commit();
        wgmma_wait<1>(dv, dk, p, ds);
        if (more) {
            dot_keys(score, my_k, operand(memory.q(tile + 1), Q * 128));
            wgmma_wait<1>(dq);
        } else {
            wgmma_wait<0>(dq);
        }
        store_dq<D, N / 8>(part, dq, x, it.rows - tile * Q, group * N, s.scale);
        __syncthreads();
    }
    store_sums<D>(a, sums, s, it, dk, dv);
#else
    __trap();
#endif
}

void wgmma_backward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, bf16* part, const KeySums& sums,
                        const Heads& s, const Items& items) {
    with_tensor_tile<64>(s.D, s.blocks.size, [&]<int D, int S> {
        constexpr size_t bytes = BackwardMemory<D, S>::bytes;
        allow_shared_memory<attention_backward_kernel4<D, S>>(bytes);
        launch(attention_backward_kernel4<D, S>,
               (unsigned)(s.count / s.group()) * items.places(s.blocks.num_blocks), 2 * S, bytes, ctx.stream,
               a, part, sums, s, items, Divisor(s.K));
        LAUNCHED(ctx);
    });
}

}  // namespace moba

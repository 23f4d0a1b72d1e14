/* Attention on the GPU, version 4: the forward pass of MoBA on tensor cores by wgmma. */
#include "moba/attention/tensor_forward.cuh"

namespace moba {

/* Partial results of out and lse for an item's queries, from one block of keys
   Maps     thread block = one warpgroup -> an item, 64 queries at a time; lane -> rows g and g + 8 of its
            warp's 16
   Memory   K and V are loaded once into shared memory, where the tensor cores read them; queries and outputs
            do not pass through shared memory. Three thread blocks share an SM: while one waits for its
            products, the others compute exponentials
   Sync     one __syncthreads after loading K and V; the waits for wgmma
   Differs  from 3: the products use wgmma
   Needs    sm_90a, bf16, D = 64 or 128, S <= 128 */
template <int D, int S>
__global__ void __launch_bounds__(forward_threads, 3)
    attention_forward_kernel4(AttentionOperands<bf16> a, Part<bf16> part, Heads s, Items items,
                              Divisor query_of) {
#if HOPPER_CODE
    SHARED_MEMORY;
    const ForwardMemory<D, S> memory(shared_memory);
    unsigned char *k = memory.k, *v = memory.v;
    QueryItem it;
    if (!take_query_item(it, s, items)) { return; }
    const int first = lane_row();
    int id[2], next[2];
    load_entries(id, s, it.first, first, it.rows);
    load_entries(next, s, it.first, first + forward_rows, it.rows);
    uint32_t q[D / 16][4];
    const auto load_q = [&](const int(&id)[2]) {
        load_exchanged_rows<D>(q, a.q + s.query(query_of(id[0]), it.head),
                               a.q + s.query(query_of(id[1]), it.head));
    };
    load_q(id);
    load_exchanged<D, S>(k, it.keys, [&](int r) { return a.k + s.key(it.key + r, it.kv); });
    load_exchanged<D, S>(v, it.keys, [&](int r) { return a.v + s.key(it.key + r, it.kv); });
    fence_proxy_async();
    __syncthreads();
    const float scale2 = s.scale * log2_e;
    const uint64_t to_k = operand(k), to_v = operand(v, S * row_bytes);
#pragma unroll 1
    for (int r0 = 0; r0 < it.rows; r0 += forward_rows) {
        uint32_t p[S / 16][4];
        float factor[2], lse[2];
        {
            float score[S / 8][4];
            wgmma_fence();
#pragma unroll
            for (int step = 0; step < D / 16; step++) {
                wgmma<S, false>(score, q[step], to_k + descriptor_step(channels_offset(step, S)), step > 0);
            }
            wgmma_commit();
            wgmma_wait<0>(score, q);
            load_q(next);
            const int seen[2] = {min(it.keys, query_of(id[0]) + 1 - it.key),
                                 min(it.keys, query_of(id[1]) + 1 - it.key)};
            softmax_tile<S>(p, factor, lse, score, seen, scale2);
        }
        float out[D / 8][4];
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < S / 16; step++) {
            wgmma<D, true>(out, p[step], to_v + descriptor_step(step * 16 * row_bytes), step > 0);
        }
        wgmma_commit();
        wgmma_wait<0>(out, p);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (r0 + first + 8 * i >= it.rows) { continue; }
            const size_t slot = it.slots + id[i];
            store_exchanged<D / 8>(part.out + slot * D, out, i, factor[i]);
            if (threadIdx.x % 4 == 0) { part.lse[slot] = lse[i]; }
        }
        id[0] = next[0], id[1] = next[1];
        load_entries(next, s, it.first, r0 + first + 2 * forward_rows, it.rows);
    }
#else
    __trap();
#endif
}

void wgmma_forward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, const Part<bf16>& part,
                       const Heads& s, const Items& items) {
    with_tensor_tile<16>(s.D, s.blocks.size, [&]<int D, int S> {
        const size_t bytes = ForwardMemory<D, S>(nullptr).bytes;
        allow_shared_memory<attention_forward_kernel4<D, S>>(bytes);
        launch(attention_forward_kernel4<D, S>, (unsigned)s.count * items.places(s.blocks.num_blocks),
               forward_threads, bytes, ctx.stream, a, part, s, items, Divisor(s.K));
        LAUNCHED(ctx);
    });
}

}  // namespace moba

/* Attention on the GPU, version 4: the forward pass of full and window attention, and of MoBA with blocks of more
   than 128 keys, on tensor cores by wgmma. */
#include "moba/attention/stream.cuh"

namespace moba {

/* The softmax of rows g and g + 8 so far. Weights are e^(score - top), where top may be any number near the largest
   score: it cancels out. So top follows the largest score only when that has grown by more than `slack`; most tiles
   then need no new factor for the output, which is 64 multiplications per thread. Weights are at most 2^slack. */
struct RunningSoftmax {
    static constexpr float slack = 8;  // in powers of two
    float top[2], sum[2];  // top: times log2(e) / sqrt(D); sum: of this lane's keys only

    __device__ RunningSoftmax() {
#pragma unroll
        // finite, so that a row which has seen no key yet gives weights of 0 and not NaN
        for (int h = 0; h < 2; h++) { top[h] = -1e30f, sum[h] = 0; }
    }
    /* Turns scores into weights. Returns whether earlier outputs must be multiplied by `factor`. */
    template <int columns>
    __device__ __forceinline__ bool add(float (&score)[columns][4], float (&factor)[2], float scale2) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most[2] = {-INFINITY, -INFINITY};  // two of each: shorter dependency chains
#pragma unroll
            for (int j = 0; j < columns; j++) {
                most[0] = max(most[0], score[j][2 * half]);
                most[1] = max(most[1], score[j][2 * half + 1]);
            }
            const float now = quad_max(max(most[0], most[1])) * scale2;
            const float next = now > top[half] + slack ? now : top[half];
            factor[half] = exp2_fast(top[half] - next);
            top[half] = next;
        }
        const bool grown = __ballot_sync(all_lanes, factor[0] < 1 || factor[1] < 1);
        if (grown) {
#pragma unroll
            for (int half = 0; half < 2; half++) { sum[half] *= factor[half]; }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total[2] = {0, 0};
#pragma unroll
            for (int j = 0; j < columns; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const float x = exp2_fast(fmaf(score[j][2 * half + i], scale2, -top[half]));
                    score[j][2 * half + i] = x;
                    total[i] += x;
                }
            }
            sum[half] += total[0] + total[1];
        }
        return grown;
    }
};

/* out and lse of an item's queries; for MoBA their partial results from one block
   Maps     thread block -> item of up to 128 queries; warpgroup -> 64 queries; lane -> rows g and g + 8 of its
            warp's 16. The third warpgroup copies
   Memory   the queries stay in shared memory; K and V pass in tiles of 128 keys, two tiles at the same time
   Sync     two mbarriers per buffer (stream.cuh); no barrier between the warpgroups
   Overlap  the scores of the next tile and the output of this tile are computed together; meanwhile the other
            warpgroup computes its exponentials
   Order    fixed: tiles one after another, the last keys first
   Differs  from version 4 for short blocks: running softmax, a copying warpgroup
   Needs    sm_90a, bf16, D = 64 or 128 */
template <int D>
__global__ void __launch_bounds__(stream_threads, 1)
    attention_stream_forward_kernel4(AttentionOperands<bf16> a, Part<bf16> part, Heads s, Items items) {
#if HOPPER_CODE
    using Memory = KeyStreamMemory<D, 1>;
    SHARED_MEMORY;
    const Memory memory(shared_memory);
    BufferBarriers& barriers = *memory.barriers;
    Item it;
    if (!take_item(it, s, items, blockIdx.x, stream_rows)) { return; }
    barriers.init();
    const int group = __shfl_sync(all_lanes, (int)threadIdx.x / 128, 0);
    if (group == 2) {
        fewer_registers<copying_registers>();
        copy_keys<D>(memory, a, s, it);
        return;
    }
    more_registers<computing_registers>();
    copy_own_rows<D>(memory, a.q, 0, s, it);
    const KeyTiles4 tiles{it.key_begin, it.key_end};
    const LaneRows rows(s, it);
    const float scale2 = s.scale * log2_e;
    const uint64_t my_q = operand(memory.rows + group * 64 * 128);
    const auto wait_for_keys = [&](int tile) { barriers.wait_full(tiles.k_buffer(tile), tiles.use(tile)); };
    const auto dot_keys = [&](float(&score)[stream_keys / 8][4], int tile) {
        dot_rows_wgmma<D, stream_keys, stream_rows, stream_keys>(
            score, my_q, operand(memory.keys + tiles.k_buffer(tile) * memory.tile_bytes));
    };
    float out[D / 8][4], score[stream_keys / 8][4], factor[2];
    uint32_t p[stream_keys / 16][4];
    const auto weigh_values = [&](int tile) {
        barriers.wait_full(tiles.v_buffer(tile), tiles.use(tile));
        wgmma_fence();
        add_rows_wgmma<D>(out, p,
                          operand(memory.keys + tiles.v_buffer(tile) * memory.tile_bytes, stream_keys * 128));
        wgmma_commit();
    };
    set_zero(out);
    RunningSoftmax softmax;
    wait_for_own_rows(group);
    wait_for_keys(0);
    dot_keys(score, 0);
    wgmma_wait<0>(score);
    barriers.release(tiles.k_buffer(0));
    mask_keys(score, -INFINITY, rows.first, rows.last, tiles.first(0));
    softmax.add(score, factor, scale2);
    to_operand<stream_keys / 8>(p, score);
    const int last = tiles.count() - 1;
    if (last > 0) { wait_for_keys(1); }
#pragma unroll 1
    for (int tile = 1; tile <= last; tile++) {
        dot_keys(score, tile);
        weigh_values(tile - 1);
        wgmma_wait<1>(score);
        barriers.release(tiles.k_buffer(tile));
        mask_keys(score, -INFINITY, rows.first, rows.last, tiles.first(tile));
        const bool grown = softmax.add(score, factor, scale2);
        // A branch between the exponentials and the wait: in one basic block ptxas puts the wait first, and then
        // the exponentials do not run beside the products.
        if (tile < last) { wait_for_keys(tile + 1); }
        wgmma_wait<0>(out, p);
        barriers.release(tiles.v_buffer(tile - 1));
        if (grown) {
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) { out[j][i] *= factor[i / 2]; }
            }
        }
        to_operand<stream_keys / 8>(p, score);
    }
    weigh_values(last);
    wgmma_wait<0>(out, p);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float total = quad_sum(softmax.sum[h]);
        store_row(it.list ? part.out + rows.slot[h] * D : a.out + s.query(rows.token[h], it.head), out, h,
                  reciprocal(total), rows.there(h));
        if (threadIdx.x % 4 == 0 && rows.there(h)) {
            *(it.list ? part.lse + rows.slot[h] : a.lse + (size_t)(s.first + it.head) * s.M + rows.token[h]) =
                (softmax.top[h] + log2_fast(total)) * ln_2;
        }
    }
#else
    __trap();
#endif
}

void wgmma_stream_forward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, const Part<bf16>& part,
                              const Heads& s) {
    const Items items = stream_query_items(s);
    with_tensor_head_dim(s.D, [&]<int D> {
        constexpr size_t bytes = KeyStreamMemory<D, 1>::bytes;
        allow_shared_memory<attention_stream_forward_kernel4<D>>(bytes);
        launch(attention_stream_forward_kernel4<D>, stream_query_blocks(s, items), stream_threads, bytes, ctx.stream,
               a, part, s, items);
        LAUNCHED(ctx);
    });
}

}  // namespace moba

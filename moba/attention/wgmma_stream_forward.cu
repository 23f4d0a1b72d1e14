/* Attention on the GPU, version 4: the forward pass of full and window attention, and of MoBA with blocks
   of more than 128 keys, on tensor cores by wgmma. */
#include "moba/attention/wgmma_stream.cuh"

namespace moba {

/* out and lse of an item's queries; for MoBA their partial results from one block
   Maps     thread block -> item of up to 128 queries; warpgroup -> 64 queries; lane -> rows g and g + 8 of
            its warp's 16. The third warpgroup copies
   Memory   the queries stay in shared memory; K and V pass in tiles of 128 keys, two tiles at the same time
   Sync     two mbarriers per buffer (wgmma_stream.cuh); no barrier between the warpgroups
   Overlap  the scores of the next tile and the output of this tile are computed together; meanwhile the
            other warpgroup computes its exponentials
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
    const int group = __shfl_sync(all_lanes, (int)threadIdx.x / warpgroup_threads, 0);
    // not in a function that all warpgroups return from: ptxas would ignore setmaxnreg
    if (group == 2) {
        fewer_registers<copying_registers>();
        copy_keys<D>(memory, a, s, it);
        return;
    }
    more_registers<computing_registers>();
    copy_own_queries<D>(memory.rows, a.q, s, it);
    const PassingKeys<stream_keys> tiles(it);
    const LaneRows rows(s, it);
    const float scale2 = s.scale * log2_e;
    const uint64_t my_q = operand(memory.rows + group * 64 * row_bytes);
    const auto wait_for_keys = [&](int tile) { barriers.wait_full(k_buffer(tile), buffer_use(tile)); };
    const auto dot_keys = [&](float(&score)[stream_keys / 8][4], int tile) {
        dot_rows_wgmma<D, stream_keys, stream_rows, stream_keys>(
            score, my_q, operand(memory.keys + k_buffer(tile) * memory.tile_bytes));
    };
    float out[D / 8][4], score[stream_keys / 8][4], factor[2];
    uint32_t p[stream_keys / 16][4];
    const auto weigh_values = [&](int tile) {
        barriers.wait_full(v_buffer(tile), buffer_use(tile));
        wgmma_fence();
        add_rows_wgmma<D>(out, p,
                          operand(memory.keys + v_buffer(tile) * memory.tile_bytes, stream_keys * row_bytes));
        wgmma_commit();
    };
    set_zero(out);
    TileSoftmax softmax;
    wait_for_own_rows(group);
    wait_for_keys(0);
    dot_keys(score, 0);
    wgmma_wait<0>(score);
    barriers.release(k_buffer(0));
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
        barriers.release(k_buffer(tile));
        mask_keys(score, -INFINITY, rows.first, rows.last, tiles.first(tile));
        const bool grown = softmax.add(score, factor, scale2);
        // A branch between the exponentials and the wait: in one basic block ptxas puts the wait first, and
        // then the exponentials do not run beside the products.
        if (tile < last) { wait_for_keys(tile + 1); }
        wgmma_wait<0>(out, p);
        barriers.release(v_buffer(tile - 1));
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
    store_outputs<D>(a, part, s, it, rows, out, softmax);
#else
    __trap();
#endif
}

void wgmma_stream_forward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, const Part<bf16>& part,
                              const Heads& s) {
    const Items items = stream_query_items(s);
    with_tensor_head_dim(s.D, [&]<int D> {
        const size_t bytes = KeyStreamMemory<D, 1>(nullptr).bytes;
        allow_shared_memory<attention_stream_forward_kernel4<D>>(bytes);
        launch(attention_stream_forward_kernel4<D>, stream_query_blocks(s, items), stream_threads, bytes,
               ctx.stream, a, part, s, items);
        LAUNCHED(ctx);
    });
}

}  // namespace moba

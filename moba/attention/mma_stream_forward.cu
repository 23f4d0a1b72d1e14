/* Attention on the GPU, version 3: the forward pass of full and window attention, and of MoBA with blocks
   of more than 128 keys, on tensor cores by mma.sync. */
#include "moba/attention/mma_stream.cuh"

namespace moba {

/* out and lse of an item's queries; for MoBA their partial results from one block
   Maps     thread block -> item of up to 128 queries; warp -> 16 queries; lane -> rows g and g + 8
   Memory   the queries stay in shared memory; K and V pass in tiles of 64 keys, two at the same time
   Sync     one __syncthreads per tile
   Order    fixed: tiles one after another, the last keys first
   Differs  from 2: tensor cores; from version 3 for short blocks: running softmax
   Needs    bf16, D = 32, 64, 80, 96 or 128 */
template <int D>
__global__ void __launch_bounds__(mma_stream_threads, 1)
    attention_stream_forward_kernel3(AttentionOperands<bf16> a, Part<bf16> part, Heads s, Items items) {
    SHARED_MEMORY;
    const MmaStreamMemory<D, 1> memory(shared_memory);
    Item it;
    if (!take_item(it, s, items, blockIdx.x, stream_rows)) { return; }
    copy_own_queries<D>(memory.rows, a.q, s, it);
    fetch_keys<D>(memory, a, s, it, 0);
    cp_async_commit();
    const PassingKeys<mma_tile> tiles(it);
    const LaneRows rows(s, it);
    const float scale2 = s.scale * log2_e;
    float out[D / 8][4];
    set_zero(out);
    TileSoftmax softmax;
    const int count = tiles.count();
#pragma unroll 1
    for (int tile = 0; tile < count; tile++) {
        cp_async_wait<0>();
        __syncthreads();
        if (tile + 1 < count) { fetch_keys<D>(memory, a, s, it, tile + 1); }
        cp_async_commit();
        float score[mma_tile / 8][4], factor[2];
        dot_rows_mma<D, stream_rows>(score, memory.rows, memory.one(tile));
        mask_keys(score, -INFINITY, rows.first, rows.last, tiles.first(tile));
        if (softmax.add(score, factor, scale2)) {
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) { out[j][i] *= factor[i / 2]; }
            }
        }
        uint32_t p[mma_tile / 16][4];
        to_operand<mma_tile / 8>(p, score);
        add_rows_mma<D>(out, p, memory.two(tile));
    }
    store_outputs<D>(a, part, s, it, rows, out, softmax);
}

void mma_stream_forward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, const Part<bf16>& part,
                            const Heads& s) {
    const Items items = stream_query_items(s);
    with_mma_head_dim(s.D, [&]<int D> {
        constexpr size_t bytes = MmaStreamMemory<D, 1>::bytes;
        allow_shared_memory<attention_stream_forward_kernel3<D>>(bytes);
        launch(attention_stream_forward_kernel3<D>, stream_query_blocks(s, items), mma_stream_threads, bytes,
               ctx.stream, a, part, s, items);
        LAUNCHED(ctx);
    });
}

}  // namespace moba

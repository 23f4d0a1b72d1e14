/* Attention on the GPU, version 3: the backward pass of full and window attention, and of MoBA with blocks
   of more than 128 keys, on tensor cores by mma.sync. Two kernels and seven products, see stream.cuh. */
#include "moba/attention/mma_stream.cuh"
#include "moba/attention/tensor_backward.cuh"

namespace moba {

/* dq[t] = sum_j ds[t,j] k[j] / sqrt(D),  ds[t,j] = p[t,j] (<dout[t], v[j]> - delta[t])
   MoBA: the partial result of one block, stored in the query's slot
   Maps, Memory, Sync   as in the forward kernel; dout stays, too. p and ds are never stored
   Needs    bf16, D = 32, 64, 80, 96 or 128 */
template <int D>
__global__ void __launch_bounds__(mma_stream_threads, 1)
    attention_stream_dq_kernel3(AttentionOperands<bf16> a, bf16* part, Heads s, Items items) {
    SHARED_MEMORY;
    const MmaStreamMemory<D, 2> memory(shared_memory);
    Item it;
    if (!take_item(it, s, items, blockIdx.x, stream_rows)) { return; }
    copy_own_queries<D>(memory.rows, a.q, s, it);
    copy_own_queries<D>(memory.rows + memory.operand_bytes, a.dout, s, it);
    fetch_keys<D>(memory, a, s, it, 0);
    cp_async_commit();
    const PassingKeys<mma_tile> tiles(it);
    const LaneRows rows(s, it);
    const SavedRows saved(a, s, it, rows);
    const float scale2 = s.scale * log2_e;
    float dq[D / 8][4];
    set_zero(dq);
    const int count = tiles.count();
#pragma unroll 1
    for (int tile = 0; tile < count; tile++) {
        cp_async_wait<0>();
        __syncthreads();
        if (tile + 1 < count) { fetch_keys<D>(memory, a, s, it, tile + 1); }
        cp_async_commit();
        float score[mma_tile / 8][4], dp[mma_tile / 8][4];
        dot_rows_mma<D, stream_rows>(score, memory.rows, memory.one(tile));
        saved.weigh(score, scale2);
        mask_keys(score, 0, rows.first, rows.last, tiles.first(tile));
        dot_rows_mma<D, stream_rows>(dp, memory.rows + memory.operand_bytes, memory.two(tile));
        saved.slopes(score, dp);
        uint32_t ds[mma_tile / 16][4];
        to_operand<mma_tile / 8>(ds, score);
        add_rows_mma<D>(dq, ds, memory.one(tile));
    }
    store_dq_rows<D>(a, part, s, it, rows, dq);
}

namespace {

/* Begins to copy a tile of queries; each warp copies 8 rows. */
template <int D, class Memory>
__device__ __forceinline__ void fetch_queries(const Memory& m, PassingQueries* queries,
                                              const AttentionOperands<bf16>& a, const Heads& s,
                                              const KeyItem& it, int tile) {
    const int lane = threadIdx.x % warp_size, first = threadIdx.x / warp_size * 8,
              rows = it.rows - tile * stream_queries;
    unsigned at = 0;
    if (lane < 8) {
        at = copy_query(queries[tile % 2], first + lane, a, s, it, tile * stream_queries + first + lane);
    }
    const RowCopy<D, mma_tile> copy;
    copy(first, 8, [&](int r, int place) {
        const size_t from = (size_t)__shfl_sync(all_lanes, at, r - first) * D + copy.piece * 8;
        if (!copy.used()) { return; }
        cp_async_16(m.one(tile) + place, a.q + from, r < rows);
        cp_async_16(m.two(tile) + place, a.dout + from, r < rows);
    });
}

}  // namespace

/* dk[j] = sum_t ds[t,j] q[t] / sqrt(D),  dv[j] = sum_t p[t,j] dout[t]
   MoBA: the partial sums of one item
   Maps     thread block -> up to 128 keys, and the queries that see them; warp -> 16 keys
   Memory   K and V stay in shared memory; q and dout pass in tiles of 64 queries, two at the same time.
            Keys are the rows of all products, so p and ds are never stored
   Sync     one __syncthreads per tile
   Order    fixed: tiles one after another
   Needs    bf16, D = 32, 64, 80, 96 or 128 */
template <int D>
__global__ void __launch_bounds__(mma_stream_threads, 1)
    attention_stream_dkdv_kernel3(AttentionOperands<bf16> a, KeySums sums, Heads s, Items items) {
    SHARED_MEMORY;
    const MmaStreamMemory<D, 2> memory(shared_memory);
    PassingQueries* queries = (PassingQueries*)(shared_memory + memory.bytes);
    KeyItem* item = (KeyItem*)(queries + 2);
    const KeyItem& it = *item;  // in shared memory: registers are scarce
    {
        KeyItem found;
        if (!take_key_item(found, s, items, blockIdx.x, blockIdx.y, stream_rows)) { return; }
        if (threadIdx.x == 0) { *item = found; }
        __syncthreads();
    }
    const unsigned char *k = memory.rows, *v = memory.rows + memory.operand_bytes;
    copy_own_keys<D>(memory.rows, a.k, s, it);
    copy_own_keys<D>(memory.rows + memory.operand_bytes, a.v, s, it);
    fetch_queries<D>(memory, queries, a, s, it, 0);
    cp_async_commit();
    const int row = lane_row();
    const float scale2 = s.scale * log2_e;
    float dk[D / 8][4], dv[D / 8][4];
    set_zero(dk);
    set_zero(dv);
    const int count = (it.rows + stream_queries - 1) / stream_queries;
#pragma unroll 1
    for (int tile = 0; tile < count; tile++) {
        cp_async_wait<0>();
        __syncthreads();
        if (tile + 1 < count) { fetch_queries<D>(memory, queries, a, s, it, tile + 1); }
        cp_async_commit();
        const PassingQueries& x = queries[tile % 2];
        float score[stream_queries / 8][4];
        dot_rows_mma<D, stream_rows>(score, k, memory.one(tile));
        weigh_passing(score, SharedPairs{x.lse}, x, it.key + row, x.see_all(it.key, stream_rows), scale2);
        uint32_t p[stream_queries / 16][4], ds[stream_queries / 16][4];
        to_operand<stream_queries / 8>(p, score);
#pragma unroll
        for (int half = 0; half < 2; half++) {  // all 64 queries together would need too many registers
            float dp[stream_queries / 16][4];
            dot_rows_mma<D, stream_rows>(dp, v, memory.two(tile) + half * stream_queries / 2 * row_bytes);
            slopes_passing(score, dp, SharedPairs{x.delta}, half * stream_queries / 16);
        }
        to_operand<stream_queries / 8>(ds, score);
        add_rows_mma<D>(dv, p, memory.two(tile));
        add_rows_mma<D>(dk, ds, memory.one(tile));
    }
    store_key_rows<D>(a, sums, s, it, row, dk, dv);
}

// Bytes of shared memory of the kernel for dk and dv.
template <int D>
constexpr size_t mma_dkdv_bytes = MmaStreamMemory<D, 2>::bytes + 2 * sizeof(PassingQueries) + sizeof(KeyItem);

size_t mma_stream_bytes(int D, Direction direction) {
    const bool backward = direction == Direction::backward;
    size_t bytes = 0;
    with_mma_head_dim(D, [&]<int D> { bytes = backward ? mma_dkdv_bytes<D> : MmaStreamMemory<D, 1>::bytes; });
    return bytes;
}

void mma_stream_backward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, bf16* part,
                             const KeySums& sums, const Heads& s, const Items& key_items) {
    const Items items = stream_query_items(s);
    with_mma_head_dim(s.D, [&]<int D> {
        constexpr size_t query_bytes = MmaStreamMemory<D, 2>::bytes, key_bytes = mma_dkdv_bytes<D>;
        allow_shared_memory<attention_stream_dq_kernel3<D>>(query_bytes);
        launch(attention_stream_dq_kernel3<D>, stream_query_blocks(s, items), mma_stream_threads, query_bytes,
               ctx.stream, a, part, s, items);
        LAUNCHED(ctx);
        allow_shared_memory<attention_stream_dkdv_kernel3<D>>(key_bytes);
        launch(attention_stream_dkdv_kernel3<D>, stream_key_blocks(s, sums, key_items), mma_stream_threads,
               key_bytes, ctx.stream, a, sums, s, key_items);
        LAUNCHED(ctx);
    });
}

}  // namespace moba

/* Attention on the GPU, version 4: the backward pass of full and window attention, and of MoBA with blocks
   of more than 128 keys, on tensor cores by wgmma. As in version 2, one kernel computes dq and one dk and
   dv, and both compute the scores: every sum belongs to one thread block, so there are no atomics and the
   order is fixed. That costs seven products instead of five. */
#include "moba/attention/tensor_backward.cuh"
#include "moba/attention/wgmma_stream.cuh"

namespace moba {

/* dq[t] = sum_j ds[t,j] k[j] / sqrt(D),  ds[t,j] = p[t,j] (<dout[t], v[j]> - delta[t])
   MoBA: the partial result of one block, stored in the query's slot
   Maps     as in the forward kernel
   Memory   as in the forward kernel; dout stays in shared memory, too. p and ds are never stored: ds is a C
            fragment, which is the A fragment of the product with K
   Sync     as in the forward kernel
   Needs    sm_90a, bf16, D = 64 or 128 */
template <int D>
__global__ void __launch_bounds__(stream_threads, 1)
    attention_stream_dq_kernel4(AttentionOperands<bf16> a, bf16* part, Heads s, Items items) {
#if HOPPER_CODE
    using Memory = KeyStreamMemory<D, 2>;
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
    copy_own_queries<D>(memory.rows + memory.tile_bytes, a.dout, s, it);
    const PassingKeys<stream_keys> tiles(it);
    const LaneRows rows(s, it);
    const float scale2 = s.scale * log2_e;
    const SavedRows saved(a, s, it, rows);
    const uint64_t my_q = operand(memory.rows + group * 64 * row_bytes),
                   my_dout = operand(memory.rows + memory.tile_bytes + group * 64 * row_bytes);
    float dq[D / 8][4], score[stream_keys / 8][4], dp[stream_keys / 8][4];
    set_zero(dq);
    const auto dot_keys = [&](int tile) {
        barriers.wait_full(k_buffer(tile), buffer_use(tile));
        dot_rows_wgmma<D, stream_keys, stream_rows, stream_keys>(
            score, my_q, operand(memory.keys + k_buffer(tile) * memory.tile_bytes));
    };
    wait_for_own_rows(group);
    dot_keys(0);
    const int last = tiles.count() - 1;
    uint32_t ds[stream_keys / 16][4];
#pragma unroll 1
    for (int tile = 0;; tile++) {
        const unsigned char *k = memory.keys + k_buffer(tile) * memory.tile_bytes,
                            *v = memory.keys + v_buffer(tile) * memory.tile_bytes;
        barriers.wait_full(v_buffer(tile), buffer_use(tile));
        dot_rows_wgmma<D, stream_keys, stream_rows, stream_keys>(dp, my_dout, operand(v));
        wgmma_wait<1>(score);
        saved.weigh(score, scale2);
        // Its branch keeps the exponentials before the wait, as in the forward kernel.
        mask_keys(score, 0, rows.first, rows.last, tiles.first(tile));
        wgmma_wait<0>(dp);
        barriers.release(v_buffer(tile));
        saved.slopes(score, dp);
        to_operand<stream_keys / 8>(ds, score);
        wgmma_fence();
        add_rows_wgmma<D>(dq, ds, operand(k, stream_keys * row_bytes));
        wgmma_commit();
        if (tile == last) { break; }  // the only exit, so that no path leaves the loop with scores in flight
        dot_keys(tile + 1);
        wgmma_wait<1>(dq, ds);
        barriers.release(k_buffer(tile));
    }
    wgmma_wait<0>(dq, ds);
    store_dq_rows<D>(a, part, s, it, rows, dq);
#else
    __trap();
#endif
}

namespace {

/* Shared memory of the kernel whose keys stay. */
template <int D>
struct QueryStreamMemory {
    static constexpr int key_bytes = panels<D> * stream_rows * row_bytes,
                         tile_bytes = panels<D> * stream_queries * row_bytes;
    unsigned char *k, *v;      // (stream_rows, D) bf16 each, in panels
    unsigned char* tiles;      // (stream_buffers, {q, dout}, stream_queries, D) bf16, in panels
    BufferBarriers* barriers;  // (1)
    PassingQueries* queries;   // (stream_buffers)
    size_t bytes;

    HOST_DEVICE explicit QueryStreamMemory(void* base) {
        SharedLayout layout(base);
        k = layout.take<unsigned char>(key_bytes);
        v = layout.take<unsigned char>(key_bytes);
        tiles = layout.take<unsigned char>(stream_buffers * 2 * tile_bytes);
        barriers = layout.take<BufferBarriers>(1);
        queries = layout.take<PassingQueries>(stream_buffers);
        bytes = layout.bytes();
    }
    __device__ unsigned char* q(int buffer) const { return tiles + buffer * 2 * tile_bytes; }
    __device__ unsigned char* dout(int buffer) const { return q(buffer) + tile_bytes; }
};

#if HOPPER_CODE
/* The copying warpgroup of the kernel whose keys stay: a warp copies every fourth tile of queries. */
template <int D>
__device__ __forceinline__ void copy_queries(const QueryStreamMemory<D>& m, const AttentionOperands<bf16>& a,
                                             const Heads& s, const KeyItem& it) {
    const int lane = threadIdx.x % warp_size;
    const int buffer = __shfl_sync(all_lanes, (int)threadIdx.x / warp_size % 4, 0);
    PassingQueries& x = m.queries[buffer];
    const RowCopy<D, stream_queries> copy;
    const bf16* from = a.q + copy.piece * 8;
    const ptrdiff_t to_dout = a.dout - a.q;
    for (int tile = buffer, use = 0; tile * stream_queries < it.rows; tile += stream_buffers, use++) {
        const int rows = it.rows - tile * stream_queries;
        m.barriers->wait_empty(buffer, use);
#pragma unroll 1
        for (int half = 0; half < stream_queries; half += warp_size) {
            const unsigned at = copy_query(x, half + lane, a, s, it, tile * stream_queries + half + lane);
            copy(half, warp_size, [&](int r, int place) {
                const bf16* q = from + (size_t)__shfl_sync(all_lanes, at, r % warp_size) * D;
                cp_async_16(m.q(buffer) + place, q, r < rows);
                cp_async_16(m.dout(buffer) + place, q + to_dout, r < rows);
            });
        }
        m.barriers->fill(buffer);
    }
}
#endif

}  // namespace

/* dk[j] = sum_t ds[t,j] q[t] / sqrt(D),  dv[j] = sum_t p[t,j] dout[t]
   MoBA: the partial sums of one item
   Maps     thread block -> up to 128 keys, and the queries that see them; warpgroup -> 64 keys. The third
            warpgroup copies
   Memory   K and V stay in shared memory; q and dout pass in tiles of 64 queries, four tiles at the same
            time. Keys are the rows of all products, so p and ds are C fragments, which are the A fragments
            of the products with dout and q: they are never stored
   Sync     two mbarriers per buffer (wgmma_stream.cuh); no barrier between the warpgroups
   Overlap  the scores of the next tile are issued right after the sums of this tile, without a wait
   Order    fixed: tiles one after another
   Needs    sm_90a, bf16, D = 64 or 128 */
template <int D>
__global__ void __launch_bounds__(stream_threads, 1)
    attention_stream_dkdv_kernel4(AttentionOperands<bf16> a, KeySums sums, Heads s, Items items) {
#if HOPPER_CODE
    constexpr int Q = stream_queries;
    SHARED_MEMORY;
    const QueryStreamMemory<D> memory(shared_memory);
    BufferBarriers& barriers = *memory.barriers;
    KeyItem it;
    if (!take_key_item(it, s, items, blockIdx.x, blockIdx.y, stream_rows)) { return; }
    barriers.init();
    const int group = __shfl_sync(all_lanes, (int)threadIdx.x / warpgroup_threads, 0);
    if (group == 2) {
        fewer_registers<copying_registers>();
        copy_queries<D>(memory, a, s, it);
        return;
    }
    more_registers<computing_registers>();
    const int row = lane_row(), key = it.key + row;
    copy_own_keys<D>(memory.k, a.k, s, it);
    copy_own_keys<D>(memory.v, a.v, s, it);
    const float scale2 = s.scale * log2_e;
    const uint64_t my_k = operand(memory.k + group * 64 * row_bytes),
                   my_v = operand(memory.v + group * 64 * row_bytes);
    float dk[D / 8][4], dv[D / 8][4], score[Q / 8][4], dp[Q / 8][4];
    uint32_t p[Q / 16][4], ds[Q / 16][4];
    set_zero(dk);
    set_zero(dv);
    wait_for_own_rows(group);
    const int tiles = __shfl_sync(all_lanes, ceil_div(it.rows, Q), 0);
    const auto dot_queries = [&](int tile) {
        const int buffer = tile % stream_buffers;
        barriers.wait_full(buffer, tile / stream_buffers);
        dot_rows_wgmma<D, Q, stream_rows, Q>(score, my_k, operand(memory.q(buffer)));
    };
    dot_queries(0);
#pragma unroll 1
    for (int tile = 0;; tile++) {
        const int buffer = tile % stream_buffers;
        const unsigned char *q = memory.q(buffer), *dout = memory.dout(buffer);
        const PassingQueries& x = memory.queries[buffer];
        dot_rows_wgmma<D, Q, stream_rows, Q>(dp, my_v, operand(dout));
        QueryPairs lse;
        lse.load(x.lse);
        const bool all = x.see_all(it.key, stream_rows);
        wgmma_wait<1>(score);
        weigh_passing(score, lse, x, key, all, scale2);  // its branch: as in the kernel for dq
        to_operand<Q / 8>(p, score);
        wgmma_wait<0>(dp);
        slopes_passing(score, dp, SharedPairs{x.delta}, 0);
        to_operand<Q / 8>(ds, score);
        wgmma_fence();
        add_rows_wgmma<D>(dv, p, operand(dout, Q * row_bytes));
        add_rows_wgmma<D>(dk, ds, operand(q, Q * row_bytes));
        wgmma_commit();
        if (tile + 1 == tiles) { break; }  // the only exit, as in the kernel for dq
        dot_queries(tile + 1);
        wgmma_wait<1>(dk, dv, p, ds);
        barriers.release(buffer);
    }
    wgmma_wait<0>(dk, dv, p, ds);
    store_key_rows<D>(a, sums, s, it, row, dk, dv);
#else
    __trap();
#endif
}

size_t wgmma_stream_bytes(int D, Direction direction) {
    const bool backward = direction == Direction::backward;
    size_t bytes = 0;
    with_tensor_head_dim(D, [&]<int D> {
        bytes = backward ? std::max(KeyStreamMemory<D, 2>(nullptr).bytes, QueryStreamMemory<D>(nullptr).bytes)
                         : KeyStreamMemory<D, 1>(nullptr).bytes;
    });
    return bytes;
}

void wgmma_stream_backward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, bf16* part,
                               const KeySums& sums, const Heads& s, const Items& key_items) {
    const Items items = stream_query_items(s);
    with_tensor_head_dim(s.D, [&]<int D> {
        const size_t query_bytes = KeyStreamMemory<D, 2>(nullptr).bytes,
                     key_bytes = QueryStreamMemory<D>(nullptr).bytes;
        allow_shared_memory<attention_stream_dq_kernel4<D>>(query_bytes);
        launch(attention_stream_dq_kernel4<D>, stream_query_blocks(s, items), stream_threads, query_bytes,
               ctx.stream, a, part, s, items);
        LAUNCHED(ctx);
        allow_shared_memory<attention_stream_dkdv_kernel4<D>>(key_bytes);
        launch(attention_stream_dkdv_kernel4<D>, stream_key_blocks(s, sums, key_items), stream_threads,
               key_bytes, ctx.stream, a, sums, s, key_items);
        LAUNCHED(ctx);
    });
}

}  // namespace moba

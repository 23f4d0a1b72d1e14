/* Attention on the GPU, version 4: the backward pass of full and window attention, and of MoBA with blocks of
   more than 128 keys, on tensor cores by wgmma. As in version 2, one kernel computes dq and one dk and dv, and
   both compute the scores: every sum belongs to one thread block, so there are no atomics and the order is
   fixed. That costs seven products instead of five. */
#include "moba/attention/stream.cuh"
#include "moba/attention/tensor_backward.cuh"

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
    const int group = __shfl_sync(all_lanes, (int)threadIdx.x / 128, 0);
    if (group == 2) {
        fewer_registers<copying_registers>();
        copy_keys<D>(memory, a, s, it);
        return;
    }
    more_registers<computing_registers>();
    copy_own_rows<D>(memory, a.q, 0, s, it);
    copy_own_rows<D>(memory, a.dout, 1, s, it);
    const KeyTiles4 tiles{it.key_begin, it.key_end};
    const LaneRows rows(s, it);
    const float scale2 = s.scale * log2_e;
    float lse2[2], delta[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const size_t at = (size_t)(s.first + it.head) * s.M + rows.token[h];
        lse2[h] = a.lse[at] * log2_e, delta[h] = a.delta[at];
    }
    const uint64_t my_q = operand(memory.rows + group * 64 * 128),
                   my_dout = operand(memory.rows + memory.tile_bytes + group * 64 * 128);
    float dq[D / 8][4], score[stream_keys / 8][4], dp[stream_keys / 8][4];
    set_zero(dq);
    const auto dot_keys = [&](int tile) {
        barriers.wait_full(tiles.k_buffer(tile), tiles.use(tile));
        dot_rows_wgmma<D, stream_keys, stream_rows, stream_keys>(
            score, my_q, operand(memory.keys + tiles.k_buffer(tile) * memory.tile_bytes));
    };
    wait_for_own_rows(group);
    dot_keys(0);
    const int last = tiles.count() - 1;
    uint32_t ds[stream_keys / 16][4];
#pragma unroll 1
    for (int tile = 0;; tile++) {
        const unsigned char *k = memory.keys + tiles.k_buffer(tile) * memory.tile_bytes,
                            *v = memory.keys + tiles.v_buffer(tile) * memory.tile_bytes;
        barriers.wait_full(tiles.v_buffer(tile), tiles.use(tile));
        dot_rows_wgmma<D, stream_keys, stream_rows, stream_keys>(dp, my_dout, operand(v));
        wgmma_wait<1>(score);
#pragma unroll
        for (int j = 0; j < stream_keys / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) { score[j][i] = exp2_fast(fmaf(score[j][i], scale2, -lse2[i / 2])); }
        }
        // Its branch keeps the exponentials before the wait, as in the forward kernel.
        mask_keys(score, 0, rows.first, rows.last, tiles.first(tile));
        wgmma_wait<0>(dp);
        barriers.release(tiles.v_buffer(tile));
#pragma unroll
        for (int j = 0; j < stream_keys / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) { score[j][i] *= dp[j][i] - delta[i / 2]; }
        }
        to_operand<stream_keys / 8>(ds, score);
        wgmma_fence();
        add_rows_wgmma<D>(dq, ds, operand(k, stream_keys * 128));
        wgmma_commit();
        if (tile == last) { break; }  // the only exit, so that no path leaves the loop with scores in flight
        dot_keys(tile + 1);
        wgmma_wait<1>(dq, ds);
        barriers.release(tiles.k_buffer(tile));
    }
    wgmma_wait<0>(dq, ds);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        store_row(it.list ? part + rows.slot[h] * D : a.dq + s.query(rows.token[h], it.head), dq, h, s.scale,
                  rows.there(h));
    }
#else
    __trap();
#endif
}

/* The queries of a tile that passes. */
struct alignas(16) PassingQueries {
    float lse[stream_queries], delta[stream_queries];
    int first[stream_queries], last[stream_queries];  // may see the keys [first, last)
    int masked;  // whether some query of the tile does not see all keys that stay
};

/* Shared memory of the kernel whose keys stay. */
template <int D>
struct QueryStreamMemory {
    static constexpr int key_bytes = panels<D> * stream_rows * 128, tile_bytes = panels<D> * stream_queries * 128;
    static constexpr size_t bytes = 2 * key_bytes + stream_buffers * (2 * tile_bytes + sizeof(PassingQueries)) +
                                    sizeof(BufferBarriers);
    unsigned char *k, *v;  // (stream_rows, D) bf16 each, in panels
    unsigned char* tiles;  // (stream_buffers, {q, dout}, stream_queries, D) bf16, in panels
    BufferBarriers* barriers;
    PassingQueries* queries;  // (stream_buffers)

    __device__ explicit QueryStreamMemory(unsigned char* base)
        : k(base), v(k + key_bytes), tiles(v + key_bytes),
          barriers((BufferBarriers*)(tiles + stream_buffers * 2 * tile_bytes)),
          queries((PassingQueries*)(barriers + 1)) {}
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
        bool all = it.keys == stream_rows;
#pragma unroll 1
        for (int half = 0; half < stream_queries; half += warp_size) {
            const int r = half + lane;
            int head, token;
            find_row(&head, &token, s, it, tile * stream_queries + min(r, rows - 1));
            const unsigned at = (unsigned)token * s.H + s.first + head;  // row of q
            const size_t saved = (size_t)(s.first + head) * s.M + token;
            cp_async_4(x.lse + r, a.lse + saved);
            cp_async_4(x.delta + r, a.delta + saved);
            const int first = r < rows ? s.first_key(token) : 0, last = r < rows ? token + 1 : 0;
            x.first[r] = first, x.last[r] = last;
            all &= first <= it.key && last >= it.key + stream_rows;
            copy(half, warp_size, [&](int r, int place) {
                const bf16* q = from + (size_t)__shfl_sync(all_lanes, at, r % warp_size) * D;
                cp_async_16(m.q(buffer) + place, q, r < rows);
                cp_async_16(m.dout(buffer) + place, q + to_dout, r < rows);
            });
        }
        const unsigned whole = __ballot_sync(all_lanes, all);
        if (lane == 0) { x.masked = whole != all_lanes; }
        m.barriers->fill(buffer);
    }
}
#endif

/* dk[j] = sum_t ds[t,j] q[t] / sqrt(D),  dv[j] = sum_t p[t,j] dout[t]
   MoBA: the partial sums of one item
   Maps     thread block -> up to 128 keys, and the queries that see them; warpgroup -> 64 keys. The third
            warpgroup copies
   Memory   K and V stay in shared memory; q and dout pass in tiles of 64 queries, four tiles at the same time.
            Keys are the rows of all products, so p and ds are C fragments, which are the A fragments of the
            products with dout and q: they are never stored
   Sync     two mbarriers per buffer (stream.cuh); no barrier between the warpgroups
   Overlap  the scores of the next tile are queued behind the sums of this one
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
    const int group = __shfl_sync(all_lanes, (int)threadIdx.x / 128, 0);
    if (group == 2) {
        fewer_registers<copying_registers>();
        copy_queries<D>(memory, a, s, it);
        return;
    }
    more_registers<computing_registers>();
    const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16, c = lane % 4, key = it.key + row + lane / 4;
    const auto copy_own = [&](unsigned char* tile, const bf16* all) {
        RowCopy<D, stream_rows>()(row, 16, [&](int r, int place) {
            cp_async_16(tile + place, all + s.key(it.key + min(r, it.keys - 1), it.g) + lane % (D / 8) * 8,
                        r < it.keys);
        });
    };
    copy_own(memory.k, a.k);
    copy_own(memory.v, a.v);
    const float scale2 = s.scale * log2_e;
    const uint64_t my_k = operand(memory.k + group * 64 * 128), my_v = operand(memory.v + group * 64 * 128);
    float dk[D / 8][4], dv[D / 8][4], score[Q / 8][4], dp[Q / 8][4];
    uint32_t p[Q / 16][4], ds[Q / 16][4];
    set_zero(dk);
    set_zero(dv);
    wait_for_own_rows(group);
    const int tiles = __shfl_sync(all_lanes, (it.rows + Q - 1) / Q, 0);
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
        wgmma_wait<1>(score);
#pragma unroll
        for (int j = 0; j < Q / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                score[j][i] = exp2_fast(fmaf(score[j][i], scale2, lse(j).at[i % 2] * -log2_e));
            }
        }
        if (x.masked) {
#pragma unroll
            for (int j = 0; j < Q / 8; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int query = 8 * j + 2 * c + i % 2, at = key + i / 2 * 8;
                    if (at < x.first[query] || at >= x.last[query]) { score[j][i] = 0; }
                }
            }
        }
        to_operand<Q / 8>(p, score);
        wgmma_wait<0>(dp);
#pragma unroll
        for (int j = 0; j < Q / 8; j++) {
            const Pack<float, 2> delta = load_pack<float, 2>(x.delta + 8 * j + 2 * c);
#pragma unroll
            for (int i = 0; i < 4; i++) { dp[j][i] = score[j][i] * (dp[j][i] - delta.at[i % 2]); }
        }
        to_operand<Q / 8>(ds, dp);
        wgmma_fence();
        add_rows_wgmma<D>(dv, p, operand(dout, Q * 128));
        add_rows_wgmma<D>(dk, ds, operand(q, Q * 128));
        wgmma_commit();
        if (tile + 1 == tiles) { break; }  // the only exit, as in the kernel for dq
        dot_queries(tile + 1);
        wgmma_wait<1>(dk, dv, p, ds);
        barriers.release(buffer);
    }
    wgmma_wait<0>(dk, dv, p, ds);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int r = row + lane / 4 + 8 * h;
        const bool there = r < it.keys;
        if (!s.chosen) {
            const size_t at = s.key(it.key + min(r, it.keys - 1), it.g);
            store_row(a.dk + at, dk, h, s.scale, there);
            store_row(a.dv + at, dv, h, 1, there);
        } else if (there) {
            const int begin = s.blocks.start[it.block];
            float* to = sums.row(it.head / s.group(), begin, it.more, it.key + r - begin) + 2 * c;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                store_pack(to + 8 * j, Pack<float, 2>{{dk[j][2 * h] * s.scale, dk[j][2 * h + 1] * s.scale}});
                store_pack(to + 8 * j + D, Pack<float, 2>{{dv[j][2 * h], dv[j][2 * h + 1]}});
            }
        }
    }
#else
    __trap();
#endif
}

size_t stream_bytes(int D, bool backward) {
    size_t bytes = 0;
    with_tensor_head_dim(D, [&]<int D> {
        bytes = backward ? std::max(KeyStreamMemory<D, 2>::bytes, QueryStreamMemory<D>::bytes)
                         : KeyStreamMemory<D, 1>::bytes;
    });
    return bytes;
}

void wgmma_stream_backward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, bf16* part, const KeySums& sums,
                               const Heads& s, const Items& key_items) {
    const Items items = stream_query_items(s);
    const int kv_heads = s.count / s.group();
    const dim3 key_grid = s.chosen ? dim3((unsigned)kv_heads * key_items.places(s.blocks.num_blocks),
                                          ceil_div(sums.S, stream_rows))
                                   : dim3((unsigned)(ceil_div(s.M, stream_rows) * kv_heads));
    with_tensor_head_dim(s.D, [&]<int D> {
        constexpr size_t query_bytes = KeyStreamMemory<D, 2>::bytes, key_bytes = QueryStreamMemory<D>::bytes;
        allow_shared_memory<attention_stream_dq_kernel4<D>>(query_bytes);
        launch(attention_stream_dq_kernel4<D>, stream_query_blocks(s, items), stream_threads, query_bytes, ctx.stream,
               a, part, s, items);
        LAUNCHED(ctx);
        allow_shared_memory<attention_stream_dkdv_kernel4<D>>(key_bytes);
        launch(attention_stream_dkdv_kernel4<D>, key_grid, stream_threads, key_bytes, ctx.stream, a, sums, s, key_items);
        LAUNCHED(ctx);
    });
}

}  // namespace moba

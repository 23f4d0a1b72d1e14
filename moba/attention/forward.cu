/* Attention on the GPU, version 2, forward pass: tiles with a running softmax, and for MoBA the merge of the
   results of a query's blocks. */
#include "moba/attention/tile.cuh"

namespace moba {

/* out and lse of an item's queries; for MoBA their partial results from one block
   Maps     thread block -> item; thread -> scores of 4 queries x 4 keys, and output of 4 queries x DT/16
            channels
   Memory   MoBA, if a block of keys fits: its K and V are loaded once and stay, and the gathered queries pass
            in tiles. Otherwise a tile of queries stays, and K and V pass in chunks. A thread issues 8 16-byte
            loads from shared memory per 64 multiplications
   Sync     __syncthreads before and after loads into shared memory; __syncwarp for the probabilities, because
            the 16 lanes that read the probabilities of a query are those that wrote them
   Differs  from 1: shared memory and register tiles; MoBA block by block
   Needs    D <= 128 */
template <class E, int DT>
__global__ void __launch_bounds__(tile_threads<DT>, 2)
    attention_forward_kernel2(AttentionOperands<E> a, Part<E> part, Heads s, Items items, int capacity,
                              bool packed) {
    constexpr int T = tile_size<DT>;
    SHARED_MEMORY;
    __shared__ TileRows<DT> x;
    const QueryMemory<DT, Direction::forward> memory(shared_memory, capacity);
    float *q = memory.q, *p = memory.weights;
    const KeyTiles<E, DT> keys{memory.k, memory.v, capacity, a.k, a.v, packed};
    const int tm = thread_tm(), tn = thread_tn();
    Item it;
    if (!take_item(it, s, items, blockIdx.x, T)) { return; }
    const bool all_keys = keys.load_all(s, it);
    for (int r0 = 0; r0 < it.rows; r0 += T) {
        const int rows = min(T, it.rows - r0);
        __syncthreads();
        take_rows<DT>(x, s, it, r0);
        __syncthreads();
        load_rows<DT, T>(q, rows, T, s.D, packed, [&](int r) { return a.q + s.query(x.token[r], it.head); });
        RowSums<DT> out;
        out.zero();
        float top[rows_per_thread], sum[rows_per_thread];
        for (int i = 0; i < rows_per_thread; i++) { top[i] = -INFINITY, sum[i] = 0; }
        keys.for_each_chunk(s, it, all_keys, [&](int j0, int n, const float* k, const float* v) {
            float score[chunk_keys_per_thread][rows_per_thread] = {};
            dot_rows<DT>(score, q, k, n);
#pragma unroll
            for (int i = 0; i < rows_per_thread; i++) {
                const int row = rows_per_thread * tm + i, lo = x.first[row], hi = min(x.last[row], j0 + n);
                float now = top[i], total = 0;
#pragma unroll
                for (int j = 0; j < chunk_keys_per_thread; j++) {
                    const int key = j0 + tn + lanes_per_row * j;
                    score[j][i] = key >= lo && key < hi ? score[j][i] * s.scale : -INFINITY;
                    now = max(now, score[j][i]);
                }
                now = row_max(now);
#pragma unroll
                for (int j = 0; j < chunk_keys_per_thread; j++) {
                    const float e = now == -INFINITY ? 0.f : expf(score[j][i] - now);
                    total += e;
                    p[row * weight_floats + tn + lanes_per_row * j] = (float)E(e);
                }
                const float factor = top[i] == -INFINITY ? 1.f : expf(top[i] - now);
                sum[i] = sum[i] * factor + row_sum(total);
                top[i] = now;
#pragma unroll
                for (int c = 0; c < out.columns; c++) { out.at[i][c] *= factor; }
            }
            __syncwarp();
            out.add_rows(p, v, padded_keys(n));
        });
#pragma unroll
        for (int i = 0; i < rows_per_thread; i++) {
            const int row = rows_per_thread * tm + i;
            if (row >= rows) { continue; }
            const size_t slot = x.slot[row], at = (size_t)(s.first + it.head) * s.M + x.token[row];
            out.store(it.list ? part.out + slot * s.D : a.out + s.query(x.token[row], it.head), i, s.D,
                      1 / sum[i], packed);
            if (tn == 0) { *(it.list ? part.lse + slot : a.lse + at) = top[i] + logf(sum[i]); }
        }
    }
}

/* out[t] = sum over the slots of e^(lse_slot - top) part_slot / sum, lse = top + log sum. The weights are
   relative to top and not to lse: lse is rounded, so they would lose digits where scores are large.
   Maps     thread -> N channels of one query of one head
   Memory   reads of a slot's part are coalesced, 16 bytes per thread; all threads of a query read the same
            lse (a broadcast)
   Order    fixed: slots one after another */
template <class E, int N>
__global__ void attention_merge_kernel(AttentionOperands<E> a, Part<E> part, Heads s) {
    const Channels at = channels_of<N>(s);
    if (at.t >= s.M) { return; }
    const float* lse = part.lse + at.slot;
    float top = -INFINITY, sum = 0, out[N] = {};
    for (int i = 0; i < at.used; i++) { top = max(top, lse[i]); }
#pragma unroll 4
    for (int i = 0; i < at.used; i++) {
        const Pack<E, N> x = load_pack<E, N>(part.out + (at.slot + i) * s.D + at.d);
        const float weight = expf(lse[i] - top);
        sum += weight;
#pragma unroll
        for (int j = 0; j < N; j++) { out[j] += weight * (float)x.at[j]; }
    }
    Pack<E, N> y;
#pragma unroll
    for (int j = 0; j < N; j++) { y.at[j] = E(out[j] / sum); }
    store_pack(a.out + s.query(at.t, at.head) + at.d, y);
    if (at.d == 0) { a.lse[(size_t)(s.first + at.head) * s.M + at.t] = top + logf(sum); }
}

template <class E, int DT>
static void forward(const Ctx& ctx, const AttentionOperands<E>& a, const Part<E>& part, const Heads& s,
                    const Items& items) {
    const int capacity = key_capacity<DT>(s, QueryMemory<DT, Direction::forward>(nullptr, 0).bytes);
    const size_t bytes = QueryMemory<DT, Direction::forward>(nullptr, capacity).bytes;
    allow_shared_memory<attention_forward_kernel2<E, DT>>(bytes);
    launch(attention_forward_kernel2<E, DT>, item_blocks<DT>(s, items), tile_threads<DT>, bytes, ctx.stream,
           a, part, s, items, capacity, packable<E>(s.D, {a.q, a.k, a.v, a.out}));
    LAUNCHED(ctx);
}

template <class E>
void tiled_forward_gpu(const Ctx& ctx, const AttentionOperands<E>& a, Routing r, const Sequences& seqs,
                       AttentionShape shape, int version) {
    each_heads<E>(
        ctx, r, seqs, shape, Direction::forward, [&](const Heads& s, const TiledWorkspace<E>& w, Items) {
            const Part<E> part{w.part, w.part_lse};
            if (version == 2) {
                with_tile(s.D, [&]<int DT> { forward<E, DT>(ctx, a, part, s, query_items(s)); });
            } else if constexpr (std::is_same_v<E, bf16>) {
                if (tiles_pass(s.blocks.size, s.D)) {
                    (version == 3 ? mma_stream_forward_gpu : wgmma_stream_forward_gpu)(ctx, a, part, s);
                } else {
                    (version == 3 ? mma_forward_gpu : wgmma_forward_gpu)(ctx, a, part, s, query_items(s));
                }
            }
            if (s.chosen) {
                constexpr int N = pack_elements<E>;
                const bool packed = packable<E>(s.D, {a.out});
                launch(packed ? attention_merge_kernel<E, N> : attention_merge_kernel<E, 1>,
                       channels_grid(s, packed ? N : 1, s.count), channels_threads, 0, ctx.stream, a, part,
                       s);
                LAUNCHED(ctx);
            }
        });
}

INSTANTIATE(tiled_forward_gpu)

}  // namespace moba

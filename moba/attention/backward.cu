/* Attention on the GPU, version 2, backward pass. One kernel computes dq, with the loops of the forward
   kernel. A second kernel computes dk and dv: its keys stay in shared memory and its queries pass. Both
   compute the scores again. So every sum is computed by one thread block: no atomics, and a fixed order. */
#include "moba/attention/tile.cuh"

namespace moba {

/* dq[t] = sum_j ds[t,j] k[j] / sqrt(D),  ds[t,j] = p[t,j] (<dout[t], v[j]> - delta[t])
   MoBA: the partial result of one block, stored in the query's slot
   Maps     as in the forward kernel
   Memory   as in the forward kernel; dout is loaded together with q
   Sync     as in the forward kernel */
template <class E, int DT>
__global__ void __launch_bounds__(tile_threads<DT>, 2)
    attention_dq_kernel2(AttentionOperands<E> a, E* part, Heads s, Items items, int capacity, bool packed) {
    constexpr int T = tile_size<DT>;
    SHARED_MEMORY;
    __shared__ TileRows<DT> x;
    __shared__ float lse[T], delta[T];
    const QueryMemory<DT, Direction::backward> memory(shared_memory, capacity);
    float *q = memory.q, *dout = memory.dout, *ds = memory.weights;
    const KeyTiles<E, DT> keys{memory.k, memory.v, capacity, a.k, a.v, packed};
    const int tm = thread_tm(), tn = thread_tn();
    Item it;
    if (!take_item(it, s, items, blockIdx.x, T)) { return; }
    const bool all_keys = keys.load_all(s, it);
    for (int r0 = 0; r0 < it.rows; r0 += T) {
        const int rows = min(T, it.rows - r0);
        __syncthreads();
        take_rows<DT>(x, s, it, r0);
        if ((int)threadIdx.x < rows) {
            const size_t row = (size_t)(s.first + it.head) * s.M + x.token[threadIdx.x];
            lse[threadIdx.x] = a.lse[row];
            delta[threadIdx.x] = a.delta[row];
        }
        __syncthreads();
        load_rows<DT, T>(q, rows, T, s.D, packed, [&](int r) { return a.q + s.query(x.token[r], it.head); });
        load_rows<DT, T>(dout, rows, T, s.D, packed,
                         [&](int r) { return a.dout + s.query(x.token[r], it.head); });
        RowSums<DT> dq;
        dq.zero();
        keys.for_each_chunk(s, it, all_keys, [&](int j0, int n, const float* k, const float* v) {
            float score[chunk_keys_per_thread][rows_per_thread] = {},
                  dp[chunk_keys_per_thread][rows_per_thread] = {};
            dot_rows<DT>(score, q, k, n);
            dot_rows<DT>(dp, dout, v, n);
#pragma unroll
            for (int i = 0; i < rows_per_thread; i++) {
                const int row = rows_per_thread * tm + i, lo = x.first[row], hi = min(x.last[row], j0 + n);
#pragma unroll
                for (int j = 0; j < chunk_keys_per_thread; j++) {
                    const int key = j0 + tn + lanes_per_row * j;
                    const bool seen = key >= lo && key < hi;
                    const float weight = seen ? expf(score[j][i] * s.scale - lse[row]) : 0.f;
                    ds[row * weight_floats + tn + lanes_per_row * j] =
                        seen ? (float)E(weight * (dp[j][i] - delta[row])) : 0.f;
                }
            }
            __syncwarp();
            dq.add_rows(ds, k, padded_keys(n));
        });
#pragma unroll
        for (int i = 0; i < rows_per_thread; i++) {
            const int row = rows_per_thread * tm + i;
            if (row >= rows) { continue; }
            dq.store(it.list ? part + x.slot[row] * s.D : a.dq + s.query(x.token[row], it.head), i, s.D,
                     s.scale, packed);
        }
    }
}

/* dq[t] = the sum of its slots
   Maps     thread -> N channels of one query of one head
   Memory   coalesced, 16 bytes per thread; the loads of four slots are in flight at the same time
   Order    fixed: slots one after another */
template <class E, int N>
__global__ void attention_dq_sum_kernel(AttentionOperands<E> a, const E* part, Heads s) {
    const Channels at = channels_of<N>(s);
    if (at.t >= s.M) { return; }
    float sum[N] = {};
#pragma unroll 4
    for (int i = 0; i < at.used; i++) {
        const Pack<E, N> x = load_pack<E, N>(part + (at.slot + i) * s.D + at.d);
#pragma unroll
        for (int j = 0; j < N; j++) { sum[j] += (float)x.at[j]; }
    }
    Pack<E, N> y;
#pragma unroll
    for (int j = 0; j < N; j++) { y.at[j] = E(sum[j]); }
    store_pack(a.dq + s.query(at.t, at.head) + at.d, y);
}

namespace {

/* Shared memory of the kernel for dk and dv. */
template <int DT>
struct KeyMemory {
    float *q, *dout, *k, *v;  // (tile_size, row_floats)
    float* p;                 // (tile_size, weight_floats) (query, key): p, later ds
    size_t bytes;

    HOST_DEVICE explicit KeyMemory(void* base) {
        SharedLayout layout(base);
        q = layout.take<float>(tile_size<DT> * row_floats<DT>);
        dout = layout.take<float>(tile_size<DT> * row_floats<DT>);
        k = layout.take<float>(tile_size<DT> * row_floats<DT>);
        v = layout.take<float>(tile_size<DT> * row_floats<DT>);
        p = layout.take<float>(tile_size<DT> * weight_floats);
        bytes = layout.bytes();
    }
};

/* The queries of a tile of the kernel for dk and dv, in shared memory. */
template <int DT>
struct KeyQueries {
    int token[tile_size<DT>], head[tile_size<DT>];
    int last[tile_size<DT>], first[tile_size<DT>];  // may see the keys [first, last)
    float lse[tile_size<DT>], delta[tile_size<DT>];
};

// Fills x with rows r0 .. r0 + rows - 1 of the item. Rows past the end see no key.
template <class E, int DT>
__device__ __forceinline__ void find_queries(KeyQueries<DT>& x, const AttentionOperands<E>& a, const Heads& s,
                                             const KeyItem& it, int r0, int rows) {
    const int r = threadIdx.x;
    if (r < rows) {
        find_row(&x.head[r], &x.token[r], s, it, r0 + r);
        const size_t row = (size_t)(s.first + x.head[r]) * s.M + x.token[r];
        x.lse[r] = a.lse[row];
        x.delta[r] = a.delta[row];
        x.first[r] = s.first_key(x.token[r]);
        x.last[r] = x.token[r] + 1;
    } else if (r < tile_size<DT>) {
        x.first[r] = x.last[r] = 0;
    }
}

// Stores p of this thread's queries and keys, rounded to E; dp becomes ds = p (dp - delta), rounded to E.
template <class E, int DT, int J>
__device__ __forceinline__ void weigh_queries(float* p, float (&dp)[J][rows_per_thread],
                                              const float (&score)[J][rows_per_thread],
                                              const KeyQueries<DT>& x, const KeyItem& it, float scale) {
    const int tm = thread_tm(), tn = thread_tn();
#pragma unroll
    for (int i = 0; i < rows_per_thread; i++) {
        const int row = rows_per_thread * tm + i;
#pragma unroll
        for (int j = 0; j < J; j++) {
            const int at = tn + lanes_per_row * j, key = it.key + at;
            const bool seen = at < it.keys && key >= x.first[row] && key < x.last[row];
            const float weight = seen ? expf(score[j][i] * scale - x.lse[row]) : 0.f;
            dp[j][i] = seen ? (float)E(weight * (dp[j][i] - x.delta[row])) : 0.f;
            p[row * weight_floats + at] = (float)E(weight);
        }
    }
}

// Stores ds of this thread's queries and keys in the place of p.
template <int J>
__device__ __forceinline__ void store_slopes(float* p, const float (&ds)[J][rows_per_thread]) {
    const int tm = thread_tm(), tn = thread_tn();
#pragma unroll
    for (int i = 0; i < rows_per_thread; i++) {
#pragma unroll
        for (int j = 0; j < J; j++) {
            p[(rows_per_thread * tm + i) * weight_floats + tn + lanes_per_row * j] = ds[j][i];
        }
    }
}

// Stores dk and dv of this thread's keys: the result, or for MoBA the partial sums of the item.
template <class E, int DT>
__device__ __forceinline__ void store_key_sums(const AttentionOperands<E>& a, const KeySums& sums,
                                               const Heads& s, const KeyItem& it, const RowSums<DT>& dk,
                                               const RowSums<DT>& dv, bool packed) {
#pragma unroll
    for (int i = 0; i < rows_per_thread; i++) {
        const int key = rows_per_thread * thread_tm() + i;
        if (key >= it.keys) { continue; }
        if (s.chosen) {
            float* to = sums.row(it.head / s.group(), s.blocks.start[it.block], it.more,
                                 blockIdx.y * tile_size<DT> + key);
            dk.store(to, i, s.D, s.scale, packed);
            dv.store(to + s.D, i, s.D, 1, packed);
        } else {
            dk.store(a.dk + s.key(it.key + key, it.g), i, s.D, s.scale, packed);
            dv.store(a.dv + s.key(it.key + key, it.g), i, s.D, 1, packed);
        }
    }
}

}  // namespace

/* dk[j] = sum_t ds[t,j] q[t] / sqrt(D),  dv[j] = sum_t p[t,j] dout[t]
   MoBA: the partial sums of one item; the next kernel adds them up
   Maps     thread block -> up to T keys, of one block for MoBA, and a part of the queries that see them (full
            and window: all of these); thread -> scores of 4 queries x T/16 keys, and dk and dv of 4 keys x
            DT/16 channels, which stay in registers
   Memory   K and V are loaded once and stay; q and dout pass in tiles; one buffer holds p, later ds
   Sync     every thread reads the probabilities of all queries: __syncthreads between writing and reading
            them
   Needs    D <= 128 */
template <class E, int DT>
__global__ void __launch_bounds__(tile_threads<DT>, 2)
    attention_dkdv_kernel2(AttentionOperands<E> a, KeySums sums, Heads s, Items items, bool packed) {
    constexpr int T = tile_size<DT>, J = T / lanes_per_row;
    SHARED_MEMORY;
    __shared__ KeyQueries<DT> x;
    const KeyMemory<DT> memory(shared_memory);
    float *q = memory.q, *dout = memory.dout, *p = memory.p;
    KeyItem it;
    if (!take_key_item(it, s, items, blockIdx.x, blockIdx.y, T)) { return; }
    load_rows<DT, T>(memory.k, it.keys, T, s.D, packed, [&](int r) { return a.k + s.key(it.key + r, it.g); });
    load_rows<DT, T>(memory.v, it.keys, T, s.D, packed, [&](int r) { return a.v + s.key(it.key + r, it.g); });
    RowSums<DT> dk, dv;
    dk.zero();
    dv.zero();
    for (int r0 = 0; r0 < it.rows; r0 += T) {
        const int rows = min(T, it.rows - r0);
        find_queries(x, a, s, it, r0, rows);
        __syncthreads();
        load_rows<DT, T>(q, rows, T, s.D, packed,
                         [&](int r) { return a.q + s.query(x.token[r], x.head[r]); });
        load_rows<DT, T>(dout, rows, T, s.D, packed,
                         [&](int r) { return a.dout + s.query(x.token[r], x.head[r]); });
        __syncthreads();
        float score[J][rows_per_thread] = {}, dp[J][rows_per_thread] = {};
        dot_rows<DT>(score, q, memory.k, it.keys);
        dot_rows<DT>(dp, dout, memory.v, it.keys);
        weigh_queries<E>(p, dp, score, x, it, s.scale);
        __syncthreads();
        dv.add_columns(p, dout, rows);
        __syncthreads();
        store_slopes(p, dp);
        __syncthreads();
        dk.add_columns(p, q, rows);
    }
    store_key_sums(a, sums, s, it, dk, dv, packed);
}

/* dk and dv of a key: the sum over the items of its block, if the block has at least least_items of them
   Maps     thread -> N channels of one key of one key/value head
   Memory   coalesced, 4 N bytes of dk and of dv per thread
   Order    fixed: items one after another */
template <class E, int N>
__global__ void attention_dkdv_sum_kernel(AttentionOperands<E> a, KeySums sums, Heads s, Items items,
                                          int least_items) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, packs = s.D / N;
    const int t = (int)(i / packs), d = (int)(i % packs) * N;
    if (t >= s.M) { return; }
    const int kv_head = blockIdx.y, head = kv_head * s.group(), block = s.blocks.own[t], g = s.kv_head(head);
    const int begin = list_begin(s, head, s.group(), block), end = list_begin(s, head, s.group(), block + 1),
              start = s.blocks.start[block], count = ceil_div(end - begin, items.entries);
    if (count < least_items) { return; }
    float dk[N] = {}, dv[N] = {};
#pragma unroll 2
    for (int item = 0; item < count; item++) {
        const float* from =
            sums.row(kv_head, start, item ? begin / items.entries + item - 1 : -1, t - start) + d;
        const Pack<float, N> x = load_pack<float, N>(from), y = load_pack<float, N>(from + s.D);
#pragma unroll
        for (int j = 0; j < N; j++) { dk[j] += x.at[j], dv[j] += y.at[j]; }
    }
    Pack<E, N> x, y;
#pragma unroll
    for (int j = 0; j < N; j++) { x.at[j] = E(dk[j]), y.at[j] = E(dv[j]); }
    store_pack(a.dk + s.key(t, g) + d, x);
    store_pack(a.dv + s.key(t, g) + d, y);
}

template <class E, int DT>
static void backward_queries(const Ctx& ctx, const AttentionOperands<E>& a, E* part, const Heads& s,
                             const Items& items, bool packed) {
    const int capacity = key_capacity<DT>(s, QueryMemory<DT, Direction::backward>(nullptr, 0).bytes);
    const size_t bytes = QueryMemory<DT, Direction::backward>(nullptr, capacity).bytes;
    allow_shared_memory<attention_dq_kernel2<E, DT>>(bytes);
    launch(attention_dq_kernel2<E, DT>, item_blocks<DT>(s, items), tile_threads<DT>, bytes, ctx.stream, a,
           part, s, items, capacity, packed);
    LAUNCHED(ctx);
}

template <class E, int DT>
static void backward_keys(const Ctx& ctx, const AttentionOperands<E>& a, const KeySums& sums, const Heads& s,
                          const Items& items, bool packed) {
    constexpr int T = tile_size<DT>;
    const size_t bytes = KeyMemory<DT>(nullptr).bytes;
    const int kv_heads = s.count / s.group();
    const dim3 grid = s.chosen
                          ? dim3((unsigned)kv_heads * items.places(s.blocks.num_blocks), ceil_div(sums.S, T))
                          : dim3(ceil_div(s.M, T) * kv_heads);
    allow_shared_memory<attention_dkdv_kernel2<E, DT>>(bytes);
    launch(attention_dkdv_kernel2<E, DT>, grid, tile_threads<DT>, bytes, ctx.stream, a, sums, s, items,
           packed);
    LAUNCHED(ctx);
}

template <class E>
void tiled_backward_gpu(const Ctx& ctx, const AttentionOperands<E>& a, Routing r, const Sequences& seqs,
                        AttentionShape shape, int version) {
    const bool packed = packable<E>(shape.D, {a.q, a.k, a.v, a.dout, a.dq, a.dk, a.dv});
    each_heads<E>(
        ctx, r, seqs, shape, Direction::backward,
        [&](const Heads& s, const TiledWorkspace<E>& w, Items key_items) {
            const KeySums sums(w.keys, s.M, s.blocks.size, s.D, key_items);
            // attention_dkdv_sum_kernel skips blocks with fewer items: versions 3 and 4 write dk and dv
            // directly if a block has one item
            int least_items = 1;
            if (version == 2) {
                with_tile(
                    s.D, [&]<int DT> { backward_queries<E, DT>(ctx, a, w.part, s, query_items(s), packed); });
                with_tile(s.D, [&]<int DT> { backward_keys<E, DT>(ctx, a, sums, s, key_items, packed); });
            } else if constexpr (std::is_same_v<E, bf16>) {
                if (tiles_pass(s.blocks.size, s.D)) {
                    (version == 3 ? mma_stream_backward_gpu : wgmma_stream_backward_gpu)(ctx, a, w.part, sums,
                                                                                         s, key_items);
                } else {
                    least_items = 2;
                    (version == 3 ? mma_backward_gpu : wgmma_backward_gpu)(ctx, a, w.part, sums, s,
                                                                           key_items);
                }
            }
            if (s.chosen) {
                constexpr int N = pack_elements<E>;
                launch(packed ? attention_dq_sum_kernel<E, N> : attention_dq_sum_kernel<E, 1>,
                       channels_grid(s, packed ? N : 1, s.count), channels_threads, 0, ctx.stream, a, w.part,
                       s);
                LAUNCHED(ctx);
                launch(packed ? attention_dkdv_sum_kernel<E, 4> : attention_dkdv_sum_kernel<E, 1>,
                       channels_grid(s, packed ? 4 : 1, s.count / s.group()), channels_threads, 0, ctx.stream,
                       a, sums, s, key_items, least_items);
                LAUNCHED(ctx);
            }
        });
}

INSTANTIATE(tiled_backward_gpu)

}  // namespace moba

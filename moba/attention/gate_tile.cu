/* Version 2 of the choice of blocks: tiles of scores in shared memory and registers, fp32 arithmetic. */
#include "moba/attention/gate.cuh"
#include "moba/attention/tile.cuh"

namespace moba {
namespace {

/* A tile of scores has 64 queries x 64 blocks. Its threads have the places of tile.cuh: thread (tm, tn) has
   rows_per_thread neighbouring rows, and columns that are lanes_per_row apart. */
const int tile = 64, columns_per_thread = tile / lanes_per_row;
const int choose_threads = lanes_per_row * (tile / rows_per_thread);
const int mean_stride = mean_pad + row_padding;

// The value of x in the thread of the same row that has this column.
template <class T>
__device__ T from_column(T x, int column) {
    return __shfl_sync(all_lanes, x, 2 * column + threadIdx.x % 2);
}

/* The best K - 1 blocks of a row so far, sorted, best first, in registers: each of the row's 16 threads has N
   consecutive entries. There may be more than K - 1 entries; the surplus entries, at the front, have score
   infinity and are never replaced. Unused entries have score NaN, which loses every comparison. */
template <int N>
struct Ranking {
    static const int none = 0x7FFFFFFF;
    float score[N];
    int block[N];

    __device__ void clear(int entries) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            score[i] = thread_tn() * N + i < lanes_per_row * N - entries ? INFINITY : NAN;
            block[i] = none;
        }
    }
    __device__ float last() const { return from_column(score[N - 1], lanes_per_row - 1); }
    // Inserts block n with score x if `taken`: the entries below x move back by one, and x takes the place of
    // the first of them. Blocks with equal scores stay in the order in which they were offered.
    __device__ void offer(bool taken, float x, int n) {
        float before = __shfl_up_sync(all_lanes, score[N - 1], 2);
        int before_block = __shfl_up_sync(all_lanes, block[N - 1], 2);
        if (thread_tn() == 0) { before = INFINITY; }
#pragma unroll
        for (int i = N - 1; i >= 0; i--) {
            const float above = i > 0 ? score[i > 0 ? i - 1 : 0] : before;
            const int above_block = i > 0 ? block[i > 0 ? i - 1 : 0] : before_block;
            if (taken && !(score[i] >= x)) {
                const bool here = above >= x;
                score[i] = here ? x : above;
                block[i] = here ? n : above_block;
            }
        }
    }
};

/* A thread's part of a tile of 64 means x 32 channels. It is loaded into registers while the previous tile is
   multiplied, and later stored in shared memory. */
template <class E>
struct MeansTile {
    static constexpr int elements = pack_elements<E>, packs_per_row = mean_pad / elements;
    static constexpr int loads = tile * packs_per_row / choose_threads;
    Pack<uint32_t, 4> at[loads];

    __device__ static int row(int i) { return (threadIdx.x + i * choose_threads) / packs_per_row; }
    __device__ static int channel(int i) {
        return (threadIdx.x + i * choose_threads) % packs_per_row * elements;
    }
    // Loads means n0.. and channels d0.. of a sequence whose last past block is end - 1.
    __device__ void load(const E* means, int width, int n0, int end, int d0) {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            const int n = min(n0 + row(i), end - 1);
            at[i] = load_pack<uint32_t, 4>((const uint32_t*)(means + (size_t)n * width + d0 + channel(i)));
        }
    }
    __device__ void store(float* columns) const {
#pragma unroll
        for (int i = 0; i < loads; i++) {
            store_floats<E>(columns + row(i) * mean_stride + channel(i), at[i]);
        }
    }
};

// rows[i] = query t0 + i as floats, zeros beyond the last query and the last channel. packed: each thread
// issues 4 loads before it stores.
template <class E>
__device__ void load_queries(float* rows, const E* q, const GateHeads& s, int t0, bool packed) {
    const int N = packed ? pack_elements<E> : 1, packs_per_row = s.width / N, stride = s.width + row_padding,
              flight = 4;
    const auto from = [&](int i) { return q + ((size_t)(t0 + i) * s.H + s.first + blockIdx.y) * s.D; };
    if (!packed) {
        for (int o = threadIdx.x; o < tile * packs_per_row; o += choose_threads) {
            const int i = o / packs_per_row, d = o % packs_per_row;
            rows[i * stride + d] = t0 + i < s.M && d < s.D ? (float)from(i)[d] : 0.f;
        }
        return;
    }
    for (int first = threadIdx.x; first < tile * packs_per_row; first += flight * choose_threads) {
        Pack<uint32_t, 4> x[flight];
#pragma unroll
        for (int j = 0; j < flight; j++) {
            const int o = first + j * choose_threads, i = o / packs_per_row, d = o % packs_per_row * N;
            x[j] = {};
            if (i < tile && t0 + i < s.M && d < s.D) {
                x[j] = load_pack<uint32_t, 4>((const uint32_t*)(from(i) + d));
            }
        }
#pragma unroll
        for (int j = 0; j < flight; j++) {
            const int o = first + j * choose_threads, i = o / packs_per_row, d = o % packs_per_row * N;
            if (i < tile) { store_floats<E>(rows + i * stride + d, x[j]); }
        }
    }
}

struct ChooseMemory {
    float* queries;  // (tile, width + row_padding)
    float* means;    // (tile, mean_stride) `mean_pad` channels of a tile of means
    size_t bytes;

    HOST_DEVICE ChooseMemory(void* base, int width) {
        SharedLayout layout(base);
        queries = layout.take<float>(tile * (width + row_padding));
        means = layout.take<float>(tile * mean_stride);
        bytes = layout.bytes();
    }
};

/* sum[i][j] += the product of `mean_pad` channels: of this thread's rows of queries, `stride` apart, and of
   this thread's means (tile, mean_stride). */
__device__ __forceinline__ void add_products(float (&sum)[rows_per_thread][columns_per_thread],
                                             const float* queries, int stride, const float* means) {
    queries += thread_tm() * rows_per_thread * stride;
    means += thread_tn() * mean_stride;
#pragma unroll 1
    for (int d = 0; d < mean_pad; d += pack_floats) {
        Pack<float, pack_floats> x[rows_per_thread], y[columns_per_thread];
#pragma unroll
        for (int i = 0; i < rows_per_thread; i++) {
            x[i] = load_pack<float, pack_floats>(queries + i * stride + d);
        }
#pragma unroll
        for (int j = 0; j < columns_per_thread; j++) {
            y[j] = load_pack<float, pack_floats>(means + j * lanes_per_row * mean_stride + d);
        }
#pragma unroll
        for (int c = 0; c < pack_floats; c++) {
#pragma unroll
            for (int i = 0; i < rows_per_thread; i++) {
#pragma unroll
                for (int j = 0; j < columns_per_thread; j++) { sum[i][j] += x[i].at[c] * y[j].at[c]; }
            }
        }
    }
}

/* Offers the scores of one row to its ranking: score[j] is that of block n0 + tn + j * lanes_per_row, of
   which the blocks from `first` to own - 1 count. worst: the (K-1)-th best score so far; NaN while fewer have
   been seen. By whole warps. */
template <int N>
__device__ __forceinline__ void accept_scores(Ranking<N>& best, float& worst,
                                              const float (&score)[columns_per_thread], int n0, int first,
                                              int own) {
#pragma unroll
    for (int j = 0; j < columns_per_thread; j++) {  // blocks in ascending order
        const int n = n0 + thread_tn() + j * lanes_per_row;
        const float mine = score[j] == score[j] ? score[j] : -INFINITY;
        const bool waits = n >= first && n < own && !(mine <= worst);
        const unsigned votes = __ballot_sync(all_lanes, waits);
        if (!votes) { continue; }
        const unsigned even = votes & 0x55555555u, odd = votes & 0xAAAAAAAAu;
        unsigned row = threadIdx.x % 2 ? odd : even;  // votes of the 16 threads of this row
        // `worst` is not updated inside this loop: a score that is no longer good enough is offered too,
        // which changes nothing
#pragma unroll 1
        for (int left = max(__popc(even), __popc(odd)); left > 0; left--) {
            const int source = __ffs(row) - 1;
            const float x = __shfl_sync(all_lanes, mine, source);
            best.offer(row != 0, x, n0 + source / 2 + j * lanes_per_row);
            row &= row - 1;
        }
        worst = best.last();
    }
}

/* chosen (K) = the blocks of the row's ranking in ascending order, then `own`, then -1. `past`: how many
   blocks the ranking has. exists: whether the row is a query. By whole warps. */
template <int N>
__device__ __forceinline__ void write_ranking(int* chosen, int K, const Ranking<N>& best, int past, int own,
                                              bool exists) {
    int rank[N] = {};  // of this thread's entries, by block
    for (int other = 0; other < lanes_per_row; other++) {
#pragma unroll
        for (int e = 0; e < N; e++) {
            const int n = from_column(best.block[e], other);
#pragma unroll
            for (int j = 0; j < N; j++) { rank[j] += n < best.block[j]; }
        }
    }
    if (!exists) { return; }
#pragma unroll
    for (int j = 0; j < N; j++) {
        if (best.block[j] != best.none) { chosen[rank[j]] = best.block[j]; }
    }
    for (int e = past + thread_tn(); e < K; e += lanes_per_row) { chosen[e] = e == past ? own : -1; }
}

}  // namespace

/* chosen[t,:] as in version 1; topk and max
   Maps     thread block of 256 threads -> a tile of queries, for all tiles of means, 32 channels at a time;
            grid y -> a head. 16 threads, every second lane of a warp, share a row of scores and its
            ranking
   Memory   q stays in shared memory. Means pass through registers into shared memory: the next tile is loaded
            while this one is multiplied. Rows are 4 floats longer than a multiple of 8, so that 16-byte loads
            from 8 neighbouring rows use all banks; a thread issues 8 of them per 64 multiplications. Scores
            are never stored
   Sync     a barrier before the products: the means are stored (the first time also the queries). A barrier
            after them: no thread still reads the means. Rankings use shuffles only
   Differs  from 1: shared memory and register tiles; a score is inserted only if it beats the (K-1)-th best
            of its row
   Needs    D <= 128; 16 * N >= K - 1 */
template <class E, int N>
__global__ void __launch_bounds__(choose_threads, 2)
    gate_choose_kernel2(int* chosen, const E* q, const E* mean, GateHeads s, bool packed) {
    SHARED_MEMORY;
    const int stride = s.width + row_padding, tm = thread_tm();
    const ChooseMemory memory(shared_memory, s.width);
    const int t0 = (gridDim.x - 1 - blockIdx.x) * tile;  // queries with most past blocks first
    const E* means = means_of_head(mean, s);

    load_queries(memory.queries, q, s, t0, packed);
    Ranking<N> best[rows_per_thread];
    int own[rows_per_thread], first[rows_per_thread];
    float worst[rows_per_thread];
#pragma unroll
    for (int i = 0; i < rows_per_thread; i++) {
        best[i].clear(s.K - 1);
        own[i] = s.blocks.own[min(t0 + tm * rows_per_thread + i, s.M - 1)];
        first[i] = s.blocks.first[own[i]];
        worst[i] = NAN;
    }
    const int begin = s.blocks.first[s.blocks.own[t0]],
              end = s.K > 1 ? s.blocks.own[min(t0 + tile, s.M) - 1] : begin;
    MeansTile<E> next;
    if (begin < end) { next.load(means, s.width, begin, end, 0); }
    for (int n0 = begin; n0 < end; n0 += tile) {
        float sum[rows_per_thread][columns_per_thread] = {};
        for (int d0 = 0; d0 < s.width; d0 += mean_pad) {
            next.store(memory.means);
            if (d0 + mean_pad < s.width) {
                next.load(means, s.width, n0, end, d0 + mean_pad);
            } else if (n0 + tile < end) {
                next.load(means, s.width, n0 + tile, end, 0);
            }
            __syncthreads();
            add_products(sum, memory.queries + d0, stride, memory.means);
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < rows_per_thread; i++) {
            accept_scores(best[i], worst[i], sum[i], n0, first[i], own[i]);
        }
    }
#pragma unroll
    for (int i = 0; i < rows_per_thread; i++) {
        const int t = t0 + tm * rows_per_thread + i;
        write_ranking(choices_of_head(chosen, s) + (size_t)t * s.K, s.K, best[i],
                      min(s.K - 1, own[i] - first[i]), own[i], t < s.M);
    }
}

template <class E>
void gate_choose_tiles(const Ctx& ctx, int* chosen, const E* q, const E* mean, const GateHeads& s,
                       int heads) {
    launch(s.K <= lanes_per_row + 1 ? gate_choose_kernel2<E, 1> : gate_choose_kernel2<E, 4>,
           dim3(blocks_for(s.M, tile), heads), choose_threads, ChooseMemory(nullptr, s.width).bytes,
           ctx.stream, chosen, q, mean, s, packable<E>(s.D, {q}));
    LAUNCHED(ctx);
}
INSTANTIATE(gate_choose_tiles)

}  // namespace moba

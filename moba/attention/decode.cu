/* Decoding on the GPU. Contract: decode.h; definition: decode.cpp. Launch sizes depend only on the largest
   possible number of tokens; the kernels read the actual number on the device. So one recorded launch can be
   repeated for every token. */
#include "moba/attention/decode.h"
#include "moba/attention/launch.cuh"
#include "moba/core/arena.h"
#include "moba/core/device.cuh"
#include <algorithm>

namespace moba {

namespace {

const int most_keys = 1024;  // keys of a piece, at most; a longer block becomes several pieces
const int threads = 256, warps = threads / warp_size;
const int score_threads = 128;  // of the kernel for scores

// Arguments of all kernels.
struct Decode {
    int H, G, D;
    const int* place;  // (1) position of the query
    AttentionKind kind;
    int window;
    int K;
    BlockSizes blocks;
    Gate rule;
    int alike;                   // query heads of one choice: head h takes choice h / alike
    size_t columns[max_levels];  // columns of the means of a key/value head, by level
    int max_pieces, max_blocks;  // per query head
    int* chosen;                 // (choices, max_top_k) blocks, -1 in unused slots
    float* scores;               // (choices, max_blocks)
    float *top, *sum;            // (H, max_pieces)
    float* partial;              // (H, max_pieces, D)

    __device__ int length() const { return *place + 1; }
};

// The key/value head g of a query head, its block size and its means.
struct DecodeHead {
    int g, S, K;
    size_t columns, first_mean;

    __device__ DecodeHead(const Decode& s, int h) : g(h / (s.H / s.G)), columns(0), first_mean(0) {
        const int level = g % s.blocks.levels;
        S = s.blocks.of_level(level), K = s.K << level;
        // adds all heads of level i that come before g; columns[i] is 0 for levels that do not exist
#pragma unroll
        for (int i = 0; i < max_levels; i++) {
            if (i == level) { columns = s.columns[i]; }
            first_mean += s.columns[i] * ceil_div(g - i, s.blocks.levels) * s.D;
        }
    }
    __device__ int own(int length) const { return (length - 1) / S; }
};

}  // namespace

/* cache[place + t, :] = rows[t, :]
   Maps     thread -> one pack of N elements; grid from threads_for_rows */
template <class E, int N>
__global__ void cache_rows_kernel(E* cache, const E* rows, const int* place, int count, int width) {
    const size_t t = row_of_thread();
    const int i = pack_of_thread() * N;
    if (t >= (size_t)count || i >= width) { return; }
    store_pack(cache + (*place + t) * width + i, load_pack<E, N>(rows + t * width + i));
}

/* mean[d,n] = mean over the tokens of block n, or of part n, of k[t,g,d], rounded to E; with Gate::max the
   largest value
   Maps     grid x -> a block, or part, that became complete; grid y -> a key/value head; thread -> a channel
   Memory   reads of keys are coalesced; writes of means are not, because the means are stored transposed for
            the kernel that computes scores */
template <class E>
__global__ void cache_means_kernel(float* means, const E* k, int count, Decode s) {
    const DecodeHead head(s, blockIdx.y * (s.H / s.G));
    const int S = head.S / parts_of(s.rule), first = *s.place, n = first / S + blockIdx.x;
    if (n >= (first + count) / S) { return; }
    for (int d = threadIdx.x; d < s.D; d += blockDim.x) {
        float sum = 0;
        for (int t = n * S; t < (n + 1) * S; t++) {
            const float x = (float)k[((size_t)t * s.G + head.g) * s.D + d];
            sum = s.rule != Gate::max || t == n * S ? sum + x : x > sum || x != x ? x : sum;
        }
        means[head.first_mean + d * head.columns + n] = (float)E(s.rule == Gate::max ? sum : sum / S);
    }
}

/* scores[h,n] = the score of past block n (gate.h), NaN as -inf
   Maps     thread -> a past block; grid y -> a choice: a query head, or those of a key/value head
   Memory   neighbouring threads read neighbouring means, with Gate::lse four each; all threads read the same
            channel of the query, from shared memory (a broadcast)
   Sync     a barrier between writing and reading the query */
template <class E>
__global__ void __launch_bounds__(score_threads, 16)
    decode_scores_kernel(const E* q, const float* means, Decode s) {
    __shared__ float query[max_head_dim_gpu];
    for (int d = threadIdx.x; d < s.D; d += blockDim.x) {
        float sum = 0;
#pragma unroll 1
        for (int h = 0; h < s.alike; h++) { sum += (float)q[((size_t)blockIdx.y * s.alike + h) * s.D + d]; }
        query[d] = (float)E(sum);
    }
    __syncthreads();
    const DecodeHead head(s, blockIdx.y * s.alike);
    const int n = blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= head.own(s.length())) { return; }
    const int parts = parts_of(s.rule);
    const auto product = [&](int i) {
        const float* mean = means + head.first_mean + n * parts + i;
        float sum = 0;
        for (int d = 0; d < s.D; d++, mean += head.columns) { sum += query[d] * *mean; }
        return sum;
    };
    const float score =
        parts == 1 ? product(0)
                   : lse_score(product(0), product(1), product(2), product(3), 1 / sqrtf((float)s.D));
    s.scores[(size_t)blockIdx.y * s.max_blocks + n] = score == score ? score : -INFINITY;
}

namespace {

// A block and its score. The order is total, so the result does not depend on the order of the comparisons.
struct Scored {
    float score;
    int block;

    __device__ bool before(Scored o) const {
        return score > o.score || (score == o.score && block < o.block);
    }
};

}  // namespace

/* chosen[h,:] as in gate.h
   Maps     thread block of 256 threads -> a choice; each round finds the next best past block; thread ->
            every 256th score
   Sync     each round: a barrier between writing and reading the best of each warp. The array is
            double-buffered, so the next round needs no second barrier. One barrier before sorting, which
            reads all chosen blocks */
__global__ static void decode_choose_kernel(Decode s) {
    __shared__ Scored of_warp[2][warps];  // best of each warp; double-buffered by round
    __shared__ int block[max_top_k];      // past blocks in the order in which they are found
    const DecodeHead head(s, blockIdx.x * s.alike);
    const int t = threadIdx.x, own = head.own(s.length()), limit = min(head.K - 1, own);
    const float* scores = s.scores + (size_t)blockIdx.x * s.max_blocks;
    if (has_scores(s.rule)) {
        Scored last{INFINITY, -1};  // comes before every block
        for (int i = 0; i < limit; i++) {
            Scored best{-INFINITY, own};  // comes after every block
            for (int n = t; n < own; n += threads) {
                const Scored x{scores[n], n};
                if (last.before(x) && x.before(best)) { best = x; }
            }
            for (int bits = 1; bits < warp_size; bits *= 2) {
                const Scored x{__shfl_xor_sync(all_lanes, best.score, bits),
                               __shfl_xor_sync(all_lanes, best.block, bits)};
                if (x.before(best)) { best = x; }
            }
            if (t % warp_size == 0) { of_warp[i % 2][t / warp_size] = best; }
            __syncthreads();
            last = of_warp[i % 2][0];
            for (int w = 1; w < warps; w++) {
                if (of_warp[i % 2][w].before(last)) { last = of_warp[i % 2][w]; }
            }
            if (t == 0) { block[i] = last.block; }
        }
    } else if (t < limit) {
        block[t] = s.rule == Gate::sink && t == 0 ? 0 : own - limit + t;
    }
    __syncthreads();
    int* chosen = s.chosen + blockIdx.x * max_top_k;
    if (t < limit) {
        int rank = 0;
        for (int i = 0; i < limit; i++) { rank += block[i] < block[t]; }
        chosen[rank] = block[t];
    } else if (t < max_top_k) {
        chosen[t] = t == limit ? own : -1;
    }
}

namespace {

// The keys of a piece; there are none if end <= begin.
struct Keys {
    int begin, end;

    __device__ Keys(const Decode& s, int h, int piece) {
        if (s.kind != AttentionKind::moba) {
            begin = (s.kind == AttentionKind::window ? max(0, s.length() - s.window) : 0) + piece * most_keys;
            end = min(s.length(), begin + most_keys);
            return;
        }
        const DecodeHead head(s, h);
        // `pieces` per block; `slot` of the chosen block
        const int pieces = ceil_div(head.S, most_keys), slot = piece / pieces;
        const int block = slot < head.K ? s.chosen[h / s.alike * max_top_k + slot] : -1;
        begin = block * head.S + piece % pieces * most_keys;
        end = block < 0 ? begin : min(min(s.length(), (block + 1) * head.S), begin + most_keys);
    }
};

/* Dynamic shared memory of the kernel for pieces. */
struct PieceMemory {
    float* weight;  // (most_keys) scores, later e^(score - top)
    float* sums;    // (teams, D) weighted sums of values
    size_t bytes;

    HOST_DEVICE PieceMemory(void* base, int D, int teams) {
        SharedLayout layout(base);
        weight = layout.take<float>(most_keys);
        sums = layout.take<float>((size_t)teams * D);
        bytes = layout.bytes();
    }
};

// Packs of N channels that a thread has of a query: a warp's 32 threads have all of at most 256 channels.
template <int N>
constexpr int query_packs = ceil_div(max_head_dim_gpu, warp_size* N);

// The maximum, or the sum, of x over the thread block; every thread gets it. `of_warp` is scratch: put a
// barrier between two uses of it.
template <bool largest>
__device__ float block_reduce(float x, float* of_warp) {
    for (int bits = warp_size / 2; bits > 0; bits /= 2) {
        const float other = __shfl_xor_sync(all_lanes, x, bits);
        x = largest ? fmaxf(x, other) : x + other;
    }
    if (threadIdx.x % warp_size == 0) { of_warp[threadIdx.x / warp_size] = x; }
    __syncthreads();
    x = of_warp[0];
    for (int w = 1; w < warps; w++) { x = largest ? fmaxf(x, of_warp[w]) : x + of_warp[w]; }
    return x;
}

}  // namespace

/* Results of a piece. top: its highest score; sum: the sum of e^(score - top); partial: the sum of the values
   weighted by e^(score - top)
   Maps     grid x -> a piece; grid y -> a query head; a team of `team` neighbouring threads -> a key, later
            its value; thread -> every team-th pack of N channels of it
   Memory   keys and values are read once, in packs, coalesced; a thread's channels of q are in registers:
            from shared memory they would take longer than the keys from device memory. Scores and the sums of
            the teams in shared memory
   Sync     three barriers: after the scores and after the exponentials, both in block_reduce; after the sums
            of the teams, which are then added in order */
template <class E, int N>
__global__ void decode_piece_kernel(const E* q, const E* k, const E* v, int team, Decode s) {
    SHARED_MEMORY;
    __shared__ float highest[warps], total[warps];  // scratch of block_reduce
    const int h = blockIdx.y, t = threadIdx.x, lane = t % team, mine = t / team, teams = threads / team;
    const Keys keys(s, h, blockIdx.x);
    const size_t piece = (size_t)h * s.max_pieces + blockIdx.x;
    if (keys.begin >= keys.end) {  // true for all threads or none
        if (t == 0) { s.top[piece] = -INFINITY, s.sum[piece] = 0; }
        return;
    }
    const int count = keys.end - keys.begin;
    const PieceMemory memory(shared_memory, s.D, teams);
    float *weight = memory.weight, *sums = memory.sums;
    const size_t first = ((size_t)keys.begin * s.G + h / (s.H / s.G)) * s.D, step = (size_t)s.G * s.D;
    float of_lane[query_packs<N>][N];  // q
#pragma unroll
    for (int p = 0; p < query_packs<N>; p++) {
        const int d = (p * team + lane) * N;
        const Pack<E, N> x = d < s.D ? load_pack<E, N>(q + (size_t)h * s.D + d) : Pack<E, N>{};
#pragma unroll
        for (int i = 0; i < N; i++) { of_lane[p][i] = (float)x.at[i]; }
    }

    const float scale = 1 / sqrtf((float)s.D);
    float top = -INFINITY;
    for (int j0 = 0; j0 < count; j0 += teams) {  // all threads must take part in the shuffles
        const int j = j0 + mine;
        float score = 0;
#pragma unroll
        for (int p = 0; p < query_packs<N>; p++) {
            const int d = (p * team + lane) * N;
            if (j >= count || d >= s.D) { break; }
            const Pack<E, N> key = load_pack<E, N>(k + first + j * step + d);
#pragma unroll
            for (int i = 0; i < N; i++) { score += of_lane[p][i] * (float)key.at[i]; }
        }
        for (int bits = team / 2; bits > 0; bits /= 2) { score += __shfl_xor_sync(all_lanes, score, bits); }
        if (j < count) {
            score *= scale;
            if (lane == 0) { weight[j] = score; }
            top = fmaxf(top, score);
        }
    }
    top = block_reduce<true>(top, highest);
    float sum = 0;
    for (int j = t; j < count; j += threads) {
        const float e = top == -INFINITY ? 0 : expf(weight[j] - top);
        sum += e;
        weight[j] = (float)E(e);
    }
    sum = block_reduce<false>(sum, total);

    for (int d = lane * N; d < s.D; d += team * N) {
        float of_team[N] = {};
        for (int j = mine; j < count; j += teams) {
            const Pack<E, N> value = load_pack<E, N>(v + first + j * step + d);
#pragma unroll
            for (int i = 0; i < N; i++) { of_team[i] += weight[j] * (float)value.at[i]; }
        }
        constexpr int width = N < pack_elements<float> ? N : pack_elements<float>;
#pragma unroll
        for (int i = 0; i < N; i += width) {
            Pack<float, width> x;
#pragma unroll
            for (int e = 0; e < width; e++) { x.at[e] = of_team[i + e]; }
            store_pack(sums + mine * s.D + d + i, x);
        }
    }
    __syncthreads();
    for (int d = t; d < s.D; d += threads) {
        float x = 0;
        for (int i = 0; i < teams; i++) { x += sums[i * s.D + d]; }
        s.partial[piece * s.D + d] = x;
    }
    if (t == 0) { s.top[piece] = top, s.sum[piece] = sum; }
}

/* out[h,d] = the merged result of all pieces, with weights relative to the highest score of all
   Maps     thread block -> a query head; thread -> a channel, for all pieces in order
   Memory   reads of partial are coalesced */
template <class E>
__global__ void decode_merge_kernel(E* out, int num_pieces, Decode s) {
    const int h = blockIdx.x;
    const size_t first = (size_t)h * s.max_pieces;
    float top = -INFINITY;
    for (int i = 0; i < num_pieces; i++) { top = fmaxf(top, s.top[first + i]); }
    for (int d = threadIdx.x; d < s.D; d += blockDim.x) {
        float sum = 0, total = 0;
        for (int i = 0; i < num_pieces; i++) {
            if (s.sum[first + i] == 0) { continue; }  // a piece without keys did not write partial
            const float factor = expf(s.top[first + i] - top);
            sum += s.sum[first + i] * factor;
            total += s.partial[(first + i) * s.D + d] * factor;
        }
        out[(size_t)h * s.D + d] = E(total / sum);
    }
}

// The number of pieces of one head for `keys` keys.
static int pieces_of(const CacheShape& c, const AttentionShape& s, int keys) {
    if (s.kind != AttentionKind::moba) { return ceil_div(keys, most_keys); }
    int most = 0;
    for (int i = 0; i < c.blocks.levels; i++) {
        most = std::max(most, (s.gate.K << i) * ceil_div(c.blocks.of_level(i), most_keys));
    }
    return most;
}

static Decode levels_of(const CacheShape& c) {
    Decode s{};
    s.H = s.G = c.G, s.D = c.D, s.blocks = c.blocks, s.rule = c.rule;
    for (int i = 0; i < c.blocks.levels; i++) { s.columns[i] = c.columns(i); }
    return s;
}

// Fills d, except what depends on the number of tokens, and assigns the workspace. Returns its bytes.
static size_t set_up(Decode& d, char* base, const CacheShape& c, const AttentionShape& s) {
    d = levels_of(c);
    d.H = s.H, d.kind = s.kind, d.window = s.window, d.K = s.gate.K, d.rule = s.gate.rule;
    d.alike = s.gate.together() ? s.H / s.G : 1;
    d.max_pieces = pieces_of(c, s, c.capacity);
    d.max_blocks = s.kind == AttentionKind::moba ? (int)c.columns(c.blocks.levels - 1) : 0;
    BumpAllocator allocator(base);
    const size_t pieces = (size_t)s.H * d.max_pieces;
    const size_t choices = s.H / d.alike;
    d.chosen = allocator.take<int>(choices * max_top_k);
    d.scores = allocator.take<float>(choices * d.max_blocks);
    d.top = allocator.take<float>(pieces);
    d.sum = allocator.take<float>(pieces);
    d.partial = allocator.take<float>(pieces * s.D);
    return allocator.bytes();
}

template <class E>
void cache_rows_gpu(const Ctx& ctx, E* cache, const E* rows, const int* place, int count, int width) {
    choose_version(ctx, 1);
    constexpr int N = pack_elements<E>;
    const bool packs = packable<E>(width, {cache, rows});
    const RowThreads t = threads_for_rows(count, width / (packs ? N : 1));
    launch(packs ? cache_rows_kernel<E, N> : cache_rows_kernel<E, 1>, t.grid, t.block, 0, ctx.stream, cache,
           rows, place, count, width);
    LAUNCHED(ctx);
}

template <class E>
void cache_means_gpu(const Ctx& ctx, acc_t<E>* means, const E* k_cache, const int* place, int count,
                     CacheShape c) {
    REQUIRE(count <= c.capacity, "%d tokens, capacity %d", count, c.capacity);
    choose_version(ctx, 1);
    Decode d = levels_of(c);
    d.place = place;
    // at most so many of the smallest blocks, or parts, become complete
    const int complete = ceil_div(count, c.blocks.smallest() / parts_of(c.rule));
    launch(cache_means_kernel<E>, dim3(complete, c.G), std::min(c.D, threads), 0, ctx.stream, means, k_cache,
           count, d);
    LAUNCHED(ctx);
}

template <class E, int N>
static void weigh_pieces(const Ctx& ctx, const E* q, const E* k, const E* v, int num_pieces,
                         const Decode& s) {
    int team = 1;
    while (team < warp_size && team * N < s.D) { team *= 2; }
    const size_t bytes = PieceMemory(nullptr, s.D, threads / team).bytes;
    launch(decode_piece_kernel<E, N>, dim3(num_pieces, s.H), threads, bytes, ctx.stream, q, k, v, team, s);
    LAUNCHED(ctx);
}

template <class E>
void decode_attention_gpu(const Ctx& ctx, E* out, const E* q, const E* k_cache, const E* v_cache,
                          const acc_t<E>* means, const int* place, int longest, CacheShape c,
                          AttentionShape s) {
    REQUIRE(longest >= 1 && longest <= c.capacity && s.H % s.G == 0 && s.D <= max_head_dim_gpu,
            "longest = %d of %d, H = %d, G = %d, D = %d", longest, c.capacity, s.H, s.G, s.D);
    choose_version(ctx, 1);
    Decode d;
    const size_t bytes = set_up(d, ctx.workspace, c, s);
    REQUIRE(bytes <= ctx.workspace_bytes, "workspace of %zu bytes, needs %zu", ctx.workspace_bytes, bytes);
    d.place = place;
    if (s.kind == AttentionKind::moba) {
        const int past = (longest - 1) / c.blocks.smallest();
        if (has_scores(s.gate.rule) && past > 0) {
            launch(decode_scores_kernel<E>, dim3(blocks_for(past, score_threads), s.H / d.alike),
                   score_threads, 0, ctx.stream, q, means, d);
            LAUNCHED(ctx);
        }
        launch(decode_choose_kernel, s.H / d.alike, threads, 0, ctx.stream, d);
        LAUNCHED(ctx);
    }
    const int num_pieces =
        pieces_of(c, s, s.kind == AttentionKind::window ? std::min(longest, s.window) : longest);
    constexpr int N = pack_elements<E>;
    packable<E>(s.D, {q, k_cache, v_cache}) ? weigh_pieces<E, N>(ctx, q, k_cache, v_cache, num_pieces, d)
                                            : weigh_pieces<E, 1>(ctx, q, k_cache, v_cache, num_pieces, d);
    launch(decode_merge_kernel<E>, s.H, std::min(round_up(s.D, warp_size), threads), 0, ctx.stream, out,
           num_pieces, d);
    LAUNCHED(ctx);
}

template <class E>
size_t decode_workspace_bytes_gpu(CacheShape c, AttentionShape s) {
    Decode d;
    return set_up(d, nullptr, c, s);
}

INSTANTIATE(cache_rows_gpu)
INSTANTIATE(cache_means_gpu)
INSTANTIATE(decode_attention_gpu)
INSTANTIATE(decode_workspace_bytes_gpu)

}  // namespace moba

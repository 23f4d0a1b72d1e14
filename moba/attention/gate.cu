/* The gate on the GPU: block means, version 1 of the choice of blocks, and the inverse of the choice, the
   lists. Contract: gate.h; definition: gate.cpp. */
#include "moba/attention/gate.cuh"
#include "moba/attention/launch.cuh"
#include "moba/core/sort.cuh"
#include "moba/core/tensor.cuh"
#include <algorithm>

namespace moba {

static const int means_threads = 256, plain_threads = 64;  // of the kernels for means and of version 1

// Heads per launch: all, or with mixed block sizes those of one key/value head.
static int heads_together(BlockSizes sizes, const GateShape& s) {
    return sizes.levels == 1 ? s.H : s.H / s.G;
}

/* sum[t,g,d] = the sum of the queries of the heads that share their choice, rounded to E
   Maps     thread -> a channel of a key/value head of a token
   Memory   coalesced along the channels */
template <class E>
__global__ void gate_sum_queries_kernel(E* sum, const E* q, int M, GateShape s) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x, rows = (size_t)M * s.G;
    if (i >= rows * s.D) { return; }
    const int group = s.H / s.G;
    float x = 0;
    for (int h = 0; h < group; h++) { x += (float)q[(i / s.D * group + h) * s.D + i % s.D]; }
    sum[i] = E(x);
}

/* Copies the choices of the first of `group` heads to the others: (heads, group, M * K)
   Maps     thread -> an entry; grid y -> the heads that choose
   Memory   coalesced */
__global__ static void gate_share_kernel(int* chosen, size_t entries, int group) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= entries) { return; }
    int* first = chosen + (size_t)blockIdx.y * group * entries + i;
    for (int h = 1; h < group; h++) { first[h * entries] = first[0]; }
}

// How block means lie: (G, blocks, width); the same with the channels in the exchanged order of tensor.cuh;
// (blocks, G, D), for block_means.
enum class MeansOrder { heads, exchanged, blocks };

/* mean[g,n,d] = mean over the tokens of part n of k[t,g,d], rounded to E; with Gate::max the largest value
   Maps     grid x -> a block of keys, or a part of one; grid y -> a key/value head; thread -> a channel
   Memory   reads are coalesced along the channels of a key */
template <class E, MeansOrder order>
__global__ void gate_means_kernel(E* mean, const E* k, GateHeads s) {
    const int parts = parts_of(s.rule), n = blockIdx.x / parts, part = blockIdx.x % parts;
    const int start = s.blocks.start[n], count = s.blocks.start[n + 1] - start;
    const int begin = start + count * part / parts, end = start + count * (part + 1) / parts;
    const int g = s.first / (s.H / s.G) + blockIdx.y;
    for (int d = threadIdx.x; d < s.width; d += blockDim.x) {
        float sum = 0;
        for (int t = begin; t < end && d < s.D; t++) {
            const float x = (float)k[((size_t)t * s.G + g) * s.D + d];
            sum = s.rule != Gate::max || t == begin ? sum + x : x > sum || x != x ? x : sum;
        }
        const float divisor = s.rule == Gate::max ? 1 : max(end - begin, 1);
        const size_t row = order == MeansOrder::blocks ? (size_t)blockIdx.x * s.G + g
                                                       : blockIdx.y * s.num_means() + blockIdx.x;
        mean[row * s.width + (order == MeansOrder::exchanged ? exchanged(d) : d)] = E(sum / divisor);
    }
}

namespace {

/* Shared memory of version 1 of the choice, for all threads of a thread block. */
struct ChosenMemory {
    float* score;  // (K, threads)
    int* block;    // (K, threads)
    size_t bytes;

    HOST_DEVICE ChosenMemory(void* base, int K, int threads) {
        SharedLayout layout(base);
        score = layout.take<float>((size_t)K * threads);
        block = layout.take<int>((size_t)K * threads);
        bytes = layout.bytes();
    }
};

/* The blocks that a thread has chosen so far, in shared memory: an array that is indexed at run time cannot
   be kept in registers. Entry i of thread t is at i * threads + t, so that neighbouring threads access
   neighbouring banks. */
struct Chosen {
    float* score;  // (K, threads), from this thread's first entry on
    int* block;    // (K, threads), from this thread's first entry on
    int threads;

    __device__ void put(int i, float x, int n) {
        score[i * threads] = x;
        block[i * threads] = n;
    }
    // Inserts block n if it is good enough; returns the new number of entries. Entries are sorted, best
    // first. Blocks with equal scores keep the order in which they are offered, which is ascending.
    __device__ int offer(int count, int limit, float x, int n) {
        if (!(x == x)) { x = -INFINITY; }
        if (count == limit && (limit == 0 || !(x > score[(count - 1) * threads]))) { return count; }
        int at = count < limit ? count : count - 1;
        for (; at > 0 && x > score[(at - 1) * threads]; at--) {
            put(at, score[(at - 1) * threads], block[(at - 1) * threads]);
        }
        put(at, x, n);
        return count < limit ? count + 1 : count;
    }
};

}  // namespace

/* chosen[t,:] = the past blocks with the highest scores in ascending order, then the query's own block, then
   -1. The gates recent and sink choose by position
   Maps     thread -> a query, for all past blocks of its sequence; grid y -> a head
   Memory   all threads of a warp read the same mean at the same time (a broadcast); q comes from the cache;
            the chosen blocks are in shared memory
   Sync     none: no thread accesses entries of another thread
   Differs  version 1: as the naive version in gate.cpp, query by query; the T x N scores are never stored */
template <class E>
__global__ void gate_choose_kernel1(int* chosen, const E* q, const E* mean, GateHeads s) {
    SHARED_MEMORY;
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= s.M) { return; }
    const int own = s.blocks.own[t], first = s.blocks.first[own], limit = min(s.K - 1, own - first);
    const ChosenMemory memory(shared_memory, s.K, blockDim.x);
    Chosen best{memory.score + threadIdx.x, memory.block + threadIdx.x, (int)blockDim.x};
    if (has_scores(s.rule)) {
        const E* row = q + ((size_t)t * s.H + s.first + blockIdx.y) * s.D;
        const E* means = means_of_head(mean, s);
        const auto product = [&](size_t i) {
            float sum = 0;
            for (int d = 0; d < s.D; d++) { sum += (float)row[d] * (float)means[i * s.width + d]; }
            return sum;
        };
        const float scale = 1 / sqrtf((float)s.D);
        int count = 0;
        for (int n = first; n < own; n++) {
            const size_t i = (size_t)n * 4;
            const float score = s.rule == Gate::lse ? lse_score(product(i), product(i + 1), product(i + 2),
                                                                product(i + 3), scale)
                                                    : product(n);
            count = best.offer(count, limit, score, n);
        }
    } else {
        for (int i = 0; i < limit; i++) { best.put(i, 0, own - limit + i); }
        if (s.rule == Gate::sink && limit > 0) { best.put(0, 0, first); }
    }
    for (int i = 1; i < limit; i++) {  // insertion sort by block, ascending
        const int n = best.block[i * best.threads];
        int at = i;
        for (; at > 0 && best.block[(at - 1) * best.threads] > n; at--) {
            best.block[at * best.threads] = best.block[(at - 1) * best.threads];
        }
        best.block[at * best.threads] = n;
    }
    int* out = choices_of_head(chosen, s) + (size_t)t * s.K;
    for (int i = 0; i < s.K; i++) {
        out[i] = i < limit ? best.block[i * best.threads] : i == limit ? own : -1;
    }
}

// Bytes of the means of all heads of one launch, with padded rows.
template <class E>
static size_t means_bytes(int num_blocks, BlockSizes sizes, const GateShape& s) {
    const size_t heads = sizes.levels == 1 ? s.G : 1;
    return round_up(heads * num_blocks * parts_of(s.rule) * gate_width(s.D) * sizeof(E), (size_t)256);
}
// Bytes of the sums of queries.
template <class E>
static size_t sums_bytes(int M, const GateShape& s) {
    const bool needed = s.together() && has_scores(s.rule);
    return needed ? round_up((size_t)M * s.G * s.D * sizeof(E), (size_t)256) : 0;
}
template <class E>
size_t gate_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape g) {
    return means_bytes<E>(max_blocks(max_tokens, max_seqs, sizes.smallest()), sizes, g) +
           sums_bytes<E>(max_tokens, g);
}

template <class E>
int gate_versions_gpu(const E* q, const Sequences& seqs, GateShape s) {
    const int K = s.K << (seqs.sizes.levels - 1);
    if (s.rule == Gate::lse) { return 1; }
    const bool tensor = std::is_same_v<E, bf16> && has_scores(s.rule) && s.D <= max_tiled_head_dim &&
                        K <= max_tensor_top_k && packable<E>(s.D, {q}) &&
                        gate_tensor_bytes(s.D, K) <= max_shared_memory();
    return tensor ? (has_wgmma() ? 4 : 3) : s.D <= max_tiled_head_dim ? 2 : 1;
}
template <class E>
void block_means_gpu(const Ctx& ctx, E* means, const E* k, const Sequences& seqs, GateShape s) {
    choose_version(ctx, 1);
    const GateHeads a{seqs.level[0], seqs.num_tokens, s.G, s.G, s.D, 0, s.K, s.D, s.rule, 1};
    launch(gate_means_kernel<E, MeansOrder::blocks>, dim3((unsigned)a.num_means(), s.G),
           std::min(round_up(s.D, warp_size), means_threads), 0, ctx.stream, means, k, a);
    LAUNCHED(ctx);
}

template <class E>
void gate_forward_gpu(const Ctx& ctx, Routing r, const E* q, const E* k, const Sequences& seqs, GateShape s) {
    REQUIRE(s.H % s.G == 0 && s.K >= 1 && (s.K << (seqs.sizes.levels - 1)) <= max_top_k,
            "H = %d, G = %d, K = %d", s.H, s.G, s.K);
    REQUIRE(seqs.sizes.smallest() % parts_of(s.rule) == 0, "blocks of %d tokens in %d parts",
            seqs.sizes.smallest(), parts_of(s.rule));
    const int M = seqs.num_tokens, group = s.together() ? s.H / s.G : 1;
    GateShape choosing = s;  // the heads that choose
    choosing.H = s.H / group;
    E* sums = (E*)ctx.workspace;
    E* mean = (E*)(ctx.workspace + sums_bytes<E>(M, s));
    int most = 0;
    for (int i = 0; i < seqs.sizes.levels; i++) { most = std::max(most, seqs.level[i].num_blocks); }
    REQUIRE(sums_bytes<E>(M, s) + means_bytes<E>(most, seqs.sizes, s) <= ctx.workspace_bytes,
            "workspace of %zu bytes", ctx.workspace_bytes);
    if (sums_bytes<E>(M, s)) {
        launch(gate_sum_queries_kernel<E>, blocks_for((size_t)M * s.G * s.D, means_threads), means_threads, 0,
               ctx.stream, sums, q, M, s);
        LAUNCHED(ctx);
        q = sums;
    }
    const int version = choose_version(ctx, gate_versions_gpu(q, seqs, choosing));
    const int heads = heads_together(seqs.sizes, choosing);
    for (int h = 0; h < choosing.H; h += heads) {
        const BlockTable& blocks = seqs.level[choosing.level(seqs, h)];
        const GateHeads a{blocks,          M,      choosing.H, s.G, s.D, h, choosing.slots(seqs, h),
                          gate_width(s.D), s.rule, group};
        int* chosen = r.chosen + s.first_slot(seqs, h * group);
        if (has_scores(s.rule)) {
            launch(version >= 3 ? gate_means_kernel<E, MeansOrder::exchanged>
                                : gate_means_kernel<E, MeansOrder::heads>,
                   dim3((unsigned)a.num_means(), heads * s.G / choosing.H), std::min(a.width, means_threads),
                   0, ctx.stream, mean, k, a);
            LAUNCHED(ctx);
        }
        if (version == 1 || !has_scores(s.rule)) {
            launch(gate_choose_kernel1<E>, dim3(blocks_for(M, plain_threads), heads), plain_threads,
                   ChosenMemory(nullptr, a.K, plain_threads).bytes, ctx.stream, chosen, q, mean, a);
            LAUNCHED(ctx);
        } else if (version == 2) {
            gate_choose_tiles(ctx, chosen, q, mean, a, heads);
        } else if constexpr (std::is_same_v<E, bf16>) {
            gate_choose_tensor(ctx, version, chosen, q, mean, a, heads);
        }
        if (group > 1) {
            const size_t entries = (size_t)M * a.K;
            launch(gate_share_kernel, dim3(blocks_for(entries, means_threads), heads), means_threads, 0,
                   ctx.stream, chosen, entries, group);
            LAUNCHED(ctx);
        }
    }
}

INSTANTIATE(gate_versions_gpu)
INSTANTIATE(block_means_gpu)
INSTANTIATE(gate_forward_gpu)
INSTANTIATE(gate_workspace_bytes_gpu)

size_t gate_lists_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape g) {
    const int most = g.K << (sizes.levels - 1);  // slots of a query, at most
    return sort_workspace_bytes((size_t)max_tokens * most, max_blocks(max_tokens, max_seqs, sizes.smallest()),
                                heads_together(sizes, g));
}

/* Sorts the entries t*K + slot of a head by the block that they chose: chosen (M, K) has the sort keys. */
void gate_lists_gpu(const Ctx& ctx, Routing r, const Sequences& seqs, GateShape s) {
    choose_version(ctx, 1);
    const int heads = heads_together(seqs.sizes, s);
    for (int h = 0; h < s.H; h += heads) {
        sort_by_key_gpu(ctx, r.list_start + s.first_start(seqs, h), r.list + s.first_slot(seqs, h),
                        r.chosen + s.first_slot(seqs, h), (size_t)seqs.num_tokens * s.slots(seqs, h),
                        seqs.level[s.level(seqs, h)].num_blocks, heads);
    }
}

}  // namespace moba

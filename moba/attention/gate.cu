/* The gate on the GPU: block means, version 1 of the choice of blocks, and the inverse of the choice, the
   lists. Contract: gate.h; definition: gate.cpp. */
#include "moba/attention/gate.cuh"
#include "moba/attention/launch.cuh"
#include "moba/core/sort.cuh"
#include "moba/core/tensor.cuh"
#include <algorithm>

namespace moba {

static const int means_threads = 256, plain_threads = 64;  // of the kernels for means and of version 1

// Query heads per launch: all, or with mixed block sizes those of one key/value head.
static int heads_together(BlockSizes sizes, const GateShape& s) {
    return sizes.levels == 1 ? s.H : s.H / s.G;
}

/* mean[g,n,d] = mean over the tokens of block n of k[t,g,d], rounded to E. exchange: stores the channels in
   the exchanged order of tensor.cuh
   Maps     grid x -> a block of keys; grid y -> a key/value head; thread -> a channel
   Memory   reads are coalesced along the channels of a key */
template <class E, bool exchange>
__global__ void gate_means_kernel(E* mean, const E* k, GateHeads s) {
    const int n = blockIdx.x, begin = s.blocks.start[n], end = s.blocks.start[n + 1];
    const int g = s.first / (s.H / s.G) + blockIdx.y;
    for (int d = threadIdx.x; d < s.width; d += blockDim.x) {
        float sum = 0;
        for (int t = begin; t < end && d < s.D; t++) { sum += (float)k[((size_t)t * s.G + g) * s.D + d]; }
        mean[((size_t)blockIdx.y * s.blocks.num_blocks + n) * s.width + (exchange ? exchanged(d) : d)] =
            E(sum / (end - begin));
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
   Maps     thread -> a query, for all past blocks of its sequence; grid y -> a query head
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
    if (s.rule == Gate::topk) {
        const E* row = q + ((size_t)t * s.H + s.first + blockIdx.y) * s.D;
        const E* means = means_of_head(mean, s);
        int count = 0;
        for (int n = first; n < own; n++) {
            float score = 0;
            for (int d = 0; d < s.D; d++) { score += (float)row[d] * (float)means[(size_t)n * s.width + d]; }
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
    return (size_t)(sizes.levels == 1 ? s.G : 1) * num_blocks * gate_width(s.D) * sizeof(E);
}
template <class E>
size_t gate_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape g) {
    return means_bytes<E>(max_blocks(max_tokens, max_seqs, sizes.smallest()), sizes, g);
}

template <class E>
int gate_versions_gpu(const E* q, const Sequences& seqs, GateShape s) {
    const int K = s.K << (seqs.sizes.levels - 1);
    const bool tensor = std::is_same_v<E, bf16> && s.rule == Gate::topk && s.D <= max_tiled_head_dim &&
                        K <= max_tensor_top_k && packable<E>(s.D, {q}) &&
                        gate_tensor_bytes(s.D, K) <= max_shared_memory();
    return tensor ? (has_wgmma() ? 4 : 3) : s.D <= max_tiled_head_dim ? 2 : 1;
}
template <class E>
void gate_forward_gpu(const Ctx& ctx, Routing r, const E* q, const E* k, const Sequences& seqs, GateShape s) {
    REQUIRE(s.H % s.G == 0 && s.K >= 1 && (s.K << (seqs.sizes.levels - 1)) <= max_top_k,
            "H = %d, G = %d, K = %d", s.H, s.G, s.K);
    const int version = choose_version(ctx, gate_versions_gpu(q, seqs, s));
    const int heads = heads_together(seqs.sizes, s), M = seqs.num_tokens;
    E* mean = (E*)ctx.workspace;
    for (int h = 0; h < s.H; h += heads) {
        const BlockTable& blocks = seqs.level[s.level(seqs, h)];
        REQUIRE(means_bytes<E>(blocks.num_blocks, seqs.sizes, s) <= ctx.workspace_bytes,
                "workspace of %zu bytes", ctx.workspace_bytes);
        const GateHeads a{blocks, M, s.H, s.G, s.D, h, s.slots(seqs, h), gate_width(s.D), s.rule};
        int* chosen = r.chosen + s.first_slot(seqs, h);
        if (s.rule == Gate::topk) {
            launch(version >= 3 ? gate_means_kernel<E, true> : gate_means_kernel<E, false>,
                   dim3(blocks.num_blocks, heads * s.G / s.H), std::min(a.width, means_threads), 0,
                   ctx.stream, mean, k, a);
            LAUNCHED(ctx);
        }
        if (version == 1 || s.rule != Gate::topk) {
            launch(gate_choose_kernel1<E>, dim3(blocks_for(M, plain_threads), heads), plain_threads,
                   ChosenMemory(nullptr, a.K, plain_threads).bytes, ctx.stream, chosen, q, mean, a);
            LAUNCHED(ctx);
        } else if (version == 2) {
            gate_choose_tiles(ctx, chosen, q, mean, a, heads);
        } else if constexpr (std::is_same_v<E, bf16>) {
            gate_choose_tensor(ctx, version, chosen, q, mean, a, heads);
        }
    }
}

INSTANTIATE(gate_versions_gpu)
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

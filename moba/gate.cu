/* The gate on the GPU: block means, the choice, and the choice turned around into lists. Contract: gate.h; definition: gate.cpp. */
#include "moba/gate.h"
#include "moba/sort.cuh"
#include <algorithm>

// One query head, or one key/value head for the means.
struct GateHead {
    BlockTable blocks;
    int M, H, G, D, h, g;
    int K;
    Gate gate;
};

/* mean[n,d] = mean over the tokens of block n of k[t,d], rounded to E
   Maps     a block -> a block of keys, a thread -> a channel
   Memory   coalesced along the channels of a key */
template <class E>
__global__ void gate_means_kernel(E* mean, const E* k, GateHead s) {
    const int n = blockIdx.x, begin = s.blocks.start[n], end = s.blocks.start[n + 1];
    for (int d = threadIdx.x; d < s.D; d += blockDim.x) {
        float sum = 0;
        for (int t = begin; t < end; t++) { sum += (float)k[((size_t)t * s.G + s.g) * s.D + d]; }
        mean[(size_t)n * s.D + d] = E(sum / (end - begin));
    }
}

/* The blocks that a thread has chosen so far, in shared memory: K of them do not live in registers. Entry i of thread t lies at
   i * threads + t, so that neighbours touch neighbouring banks. */
struct Chosen {
    float* score;
    int* block;
    int threads;

    __device__ void put(int i, float x, int n) {
        score[i * threads] = x;
        block[i * threads] = n;
    }
    // Into the first `count` entries, best first; equals stay in the order in which they came, which is ascending.
    __device__ int offer(int count, int room, float x, int n) {
        if (!(x == x)) { x = -INFINITY; }
        if (count == room && (room == 0 || !(x > score[(count - 1) * threads]))) { return count; }
        int at = count < room ? count : count - 1;
        for (; at > 0 && x > score[(at - 1) * threads]; at--) {
            put(at, score[(at - 1) * threads], block[(at - 1) * threads]);
        }
        put(at, x, n);
        return count < room ? count + 1 : count;
    }
};

/* chosen[t,:] = the past blocks of highest score, ascending, then the own block, then -1; recent and sink by place
   Maps     a thread -> a query, over all past blocks of its sequence
   Memory   all threads of a warp read the same mean at once (a broadcast); q through the cache; the list in shared memory
   Sync     none: a thread touches its own entries only
   Differs  version 1: gate.cpp's naive version, query by query; no T x N scores are written */
template <class E>
__global__ void gate_choose_kernel1(int* chosen, const E* q, const E* mean, GateHead s) {
    SHARED_MEMORY;
    const int t = blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= s.M) { return; }
    const int own = s.blocks.own[t], first = s.blocks.first[own], room = min(s.K - 1, own - first);
    float* scores = (float*)shared_memory;
    Chosen best{scores + threadIdx.x, (int*)(scores + s.K * blockDim.x) + threadIdx.x, (int)blockDim.x};
    if (s.gate == Gate::topk) {
        const E* row = q + ((size_t)t * s.H + s.h) * s.D;
        int count = 0;
        for (int n = first; n < own; n++) {
            float score = 0;
            for (int d = 0; d < s.D; d++) { score += (float)row[d] * (float)mean[(size_t)n * s.D + d]; }
            count = best.offer(count, room, score, n);
        }
    } else {
        for (int i = 0; i < room; i++) { best.put(i, 0, own - room + i); }
        if (s.gate == Gate::sink && room > 0) { best.put(0, 0, first); }
    }
    for (int i = 1; i < room; i++) {  // by block, ascending
        const int n = best.block[i * best.threads];
        int at = i;
        for (; at > 0 && best.block[(at - 1) * best.threads] > n; at--) {
            best.block[at * best.threads] = best.block[(at - 1) * best.threads];
        }
        best.block[at * best.threads] = n;
    }
    int* out = chosen + (size_t)t * s.K;
    for (int i = 0; i < s.K; i++) { out[i] = i < room ? best.block[i * best.threads] : i == room ? own : -1; }
}

template <class E>
size_t gate_workspace_bytes_gpu(int max_tokens, int max_seqs, int S, int num_levels, GateShape g) {
    return (size_t)max_blocks(max_tokens, max_seqs, S >> (num_levels - 1)) * g.D * sizeof(E);
}

template <class E>
void gate_forward_gpu(const Ctx& ctx, Routing r, const E* q, const E* k, const Sequences& seqs, GateShape s) {
    REQUIRE(s.H % s.G == 0 && s.K >= 1 && (s.K << (seqs.num_levels - 1)) <= max_top_k,
            "H = %d, G = %d, K = %d", s.H, s.G, s.K);
    choose_version(ctx, 1);
    const int group = s.H / s.G, threads = 64;
    E* mean = (E*)ctx.workspace;
    for (int g = 0; g < s.G; g++) {
        const BlockTable& blocks = seqs.level[s.level(seqs, g * group)];
        REQUIRE((size_t)blocks.num_blocks * s.D * sizeof(E) <= ctx.workspace_bytes, "workspace of %zu bytes",
                ctx.workspace_bytes);
        for (int h = g * group; h < (g + 1) * group; h++) {
            const GateHead head{blocks, seqs.num_tokens, s.H, s.G, s.D, h, g, s.slots(seqs, h), s.gate};
            if (h == g * group && s.gate == Gate::topk) {
                launch(gate_means_kernel<E>, blocks.num_blocks, std::min(s.D, 256), 0, ctx.stream, mean, k,
                       head);
                LAUNCHED(ctx);
            }
            launch(gate_choose_kernel1<E>, blocks_for(seqs.num_tokens, threads), threads,
                   8 * (size_t)head.K * threads, ctx.stream, r.chosen + s.first_slot(seqs, h), q, mean, head);
            LAUNCHED(ctx);
        }
    }
}

#define INSTANTIATE(E)                                                                                       \
    template void gate_forward_gpu(const Ctx&, Routing, const E*, const E*, const Sequences&, GateShape);    \
    template size_t gate_workspace_bytes_gpu<E>(int, int, int, int, GateShape);
INSTANTIATE(float)
INSTANTIATE(bf16)

size_t gate_lists_workspace_bytes_gpu(int max_tokens, int max_seqs, int S, int num_levels, GateShape g) {
    const int most = g.K << (num_levels - 1);  // slots of a head
    return sort_workspace_bytes((size_t)max_tokens * most,
                                max_blocks(max_tokens, max_seqs, S >> (num_levels - 1)));
}

/* A head's (M, K) choices are keys; the entries t*K + slot of a block are the elements that have it. */
void gate_lists_gpu(const Ctx& ctx, Routing r, const Sequences& seqs, GateShape s) {
    for (int h = 0; h < s.H; h++) {
        sort_by_key_gpu(ctx, r.list_start + s.first_start(seqs, h), r.list + s.first_slot(seqs, h),
                        r.chosen + s.first_slot(seqs, h), (size_t)seqs.num_tokens * s.slots(seqs, h),
                        seqs.level[s.level(seqs, h)].num_blocks);
    }
}

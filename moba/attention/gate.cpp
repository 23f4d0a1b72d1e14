#include "moba/attention/gate_cpu.h"
#include "moba/core/parallel.h"
#include "moba/core/tile.h"
#include <algorithm>

namespace moba {

static const int tile_queries = 64;

size_t routing_slots(int max_tokens, BlockSizes sizes, GateShape g) {
    return g.slots_before(sizes, g.H) * max_tokens;
}

size_t routing_starts(int max_tokens, int max_seqs, BlockSizes sizes, GateShape g) {
    size_t n = 0;
    for (int h = 0; h < g.H; h++) {
        n += max_blocks(max_tokens, max_seqs, sizes.of_level(g.level(sizes, h))) + 1;
    }
    return n;
}

template <class A>
static size_t thread_bytes(int D) {
    return (size_t)tile_queries * (D + MeanPanels<A>::width) * sizeof(A);
}

template <class E>
size_t gate_workspace_bytes_cpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape g) {
    using A = acc_t<E>;
    const size_t means = MeanPanels<A>::elements(max_blocks(max_tokens, max_seqs, sizes.smallest()), g.D);
    return means * sizeof(A) + max_threads() * round_up(thread_bytes<A>(g.D), (size_t)64);
}

// The means of one key/value head.
template <class E>
static void block_means(MeanPanels<acc_t<E>> means, const E* k, int g, const BlockTable& blocks,
                        GateShape s) {
    parallel_ranges(blocks.num_blocks, 16, [&](size_t b, size_t e) {
        for (size_t n = b; n < e; n++) {
            const int t = blocks.start[n];
            block_mean(means.mean((int)n), means.width, k + ((size_t)t * s.G + g) * s.D, (size_t)s.G * s.D,
                       blocks.start[n + 1] - t, s.D);
        }
    });
}

template <class E>
static void choose_naive(int* chosen, const E* q, MeanPanels<acc_t<E>> means, int h, int K,
                         const BlockTable& blocks, int M, GateShape s) {
    using A = acc_t<E>;
    parallel_for(M, [&](size_t t, int) {
        const int own = blocks.own[t], first = blocks.first[own];
        Best<A> best;
        best.limit = std::min(K - 1, own - first);
        for (int n = first; n < own; n++) {
            A score = 0;
            for (int d = 0; d < s.D; d++) {
                score += A(q[(t * s.H + h) * s.D + d]) * means.mean(n)[d * means.width];
            }
            best.offer(score, n);
        }
        write_choice(chosen + t * K, K, best.block, best.count, own);
    });
}

template <class E>
static void choose_tiled(const Ctx& ctx, int* chosen, const E* q, MeanPanels<acc_t<E>> means, int h, int K,
                         const BlockTable& blocks, int M, GateShape s, char* scratch) {
    using A = acc_t<E>;
    constexpr int width = MeanPanels<A>::width;
    const size_t bytes = round_up(thread_bytes<A>(s.D), (size_t)64);
    REQUIRE(scratch + max_threads() * bytes <= ctx.workspace + ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    parallel_for(ceil_div(M, tile_queries), [&](size_t tile, int thread) {
        A* rows = (A*)(scratch + thread * bytes);
        A* scores = rows + (size_t)tile_queries * s.D;
        const int t0 = (int)tile * tile_queries, count = std::min(tile_queries, M - t0);
        for (int i = 0; i < count; i++) {
            const E* from = q + ((size_t)(t0 + i) * s.H + h) * s.D;
            for (int d = 0; d < s.D; d++) { rows[i * s.D + d] = A(from[d]); }
        }
        Best<A> best[tile_queries];
        const int begin = blocks.first[blocks.own[t0]], end = blocks.own[t0 + count - 1];
        for (int i = 0; i < count; i++) {
            const int own = blocks.own[t0 + i];
            best[i].limit = std::min(K - 1, own - blocks.first[own]);
        }
        for (int n0 = begin / width * width; n0 < end; n0 += width) {
            tile_matmul<A>(scores, width, rows, s.D, 1, means.panel(n0), width, count, width, s.D);
            for (int i = 0; i < count; i++) {
                const int own = blocks.own[t0 + i];
                const int n = std::max(n0, blocks.first[own]), n1 = std::min(n0 + width, own);
                if (n < n1) { best[i].offer_all(scores + i * width + n - n0, n1 - n, n); }
            }
        }
        for (int i = 0; i < count; i++) {
            write_choice(chosen + (size_t)(t0 + i) * K, K, best[i].block, best[i].count, blocks.own[t0 + i]);
        }
    });
}

template <class E>
void gate_forward_cpu(const Ctx& ctx, Routing r, const E* q, const E* k, const Sequences& seqs, GateShape s) {
    using A = acc_t<E>;
    REQUIRE(s.H % s.G == 0 && s.K >= 1 && (s.K << (seqs.sizes.levels - 1)) <= max_top_k,
            "H = %d, G = %d, K = %d", s.H, s.G, s.K);
    const int M = seqs.num_tokens, group = s.H / s.G;
    const MeanPanels<A> means{(A*)ctx.workspace, s.D};
    for (int g = 0; g < s.G; g++) {
        const BlockTable& blocks = seqs.level[s.level(seqs, g * group)];
        char* scratch = ctx.workspace + means.elements(blocks.num_blocks, s.D) * sizeof(A);
        if (s.rule == Gate::topk) { block_means(means, k, g, blocks, s); }
        for (int h = g * group; h < (g + 1) * group; h++) {
            const int K = s.slots(seqs, h);
            int* chosen = r.chosen + s.first_slot(seqs, h);
            if (s.rule != Gate::topk) {
                for (int t = 0; t < M; t++) {
                    const int own = blocks.own[t];
                    choose_by_place(chosen + (size_t)t * K, K, blocks.first[own], own, s.rule);
                }
            } else if (ctx.kernel_version == 1) {
                choose_naive(chosen, q, means, h, K, blocks, M, s);
            } else {
                choose_tiled(ctx, chosen, q, means, h, K, blocks, M, s, scratch);
            }
        }
    }
}

// A counting sort by block. Entries are visited in ascending order, so every list is in ascending order.
void gate_lists_cpu(const Ctx&, Routing r, const Sequences& seqs, GateShape s) {
    parallel_for(s.H, [&](size_t h, int) {
        const int K = s.slots(seqs, (int)h), N = seqs.level[s.level(seqs, (int)h)].num_blocks;
        const int* chosen = r.chosen + s.first_slot(seqs, (int)h);
        int* list = r.list + s.first_slot(seqs, (int)h);
        int* start = r.list_start + s.first_start(seqs, (int)h);
        const size_t slots = (size_t)seqs.num_tokens * K;
        REQUIRE(slots <= 0x7FFFFFFF, "%zu slots in one head", slots);
        std::fill_n(start, N + 1, 0);
        for (size_t i = 0; i < slots; i++) {
            if (chosen[i] >= 0) { start[chosen[i] + 1]++; }
        }
        for (int n = 0; n < N; n++) { start[n + 1] += start[n]; }
        std::vector<int> next(start, start + N);
        for (size_t i = 0; i < slots; i++) {
            if (chosen[i] >= 0) { list[next[chosen[i]]++] = (int)i; }
        }
    });
}

INSTANTIATE_AND_DOUBLE(gate_forward_cpu)
INSTANTIATE_AND_DOUBLE(gate_workspace_bytes_cpu)

}  // namespace moba

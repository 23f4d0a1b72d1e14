#include "moba/attention/gate_cpu.h"
#include "moba/core/arena.h"
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

namespace {

// The workspace of one call.
template <class E>
struct GateWorkspace {
    using A = acc_t<E>;
    A* vectors;    // of one key/value head: GatePanels
    E* sums;       // (M, D) with a shared choice, of the queries of one key/value head
    A *q, *score;  // for each thread: (tile_queries, D), (tile_queries, width)

    GateWorkspace(BumpAllocator& c, int M, int num_blocks, const GateShape& s) {
        vectors = c.take<A>(GatePanels<A>::elements(num_blocks, s.D, parts_of(s.rule)));
        sums = c.take<E>(s.together() ? (size_t)M * s.D : 0);
        q = c.take<A>((size_t)max_threads() * tile_queries * s.D);
        score = c.take<A>((size_t)max_threads() * tile_queries * GatePanels<A>::width);
    }
};

}  // namespace

template <class E>
size_t gate_workspace_bytes_cpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape g) {
    return layout_bytes<GateWorkspace<E>>(max_tokens, max_blocks(max_tokens, max_seqs, sizes.smallest()), g);
}

namespace {

// The vectors of one key/value head. A block's last part ends where the block ends.
template <class E>
void pool_blocks(GatePanels<acc_t<E>> panels, const E* k, int g, const BlockTable& blocks, GateShape s) {
    parallel_ranges(blocks.num_blocks, 16, [&](size_t b, size_t e) {
        for (int n = (int)b; n < (int)e; n++) {
            const int count = blocks.start[n + 1] - blocks.start[n];
            for (int i = 0; i < panels.parts; i++) {
                const int first = count * i / panels.parts, end = count * (i + 1) / panels.parts;
                pool_keys(panels.vector(n, i), panels.width,
                          k + ((size_t)(blocks.start[n] + first) * s.G + g) * s.D, (size_t)s.G * s.D,
                          end - first, s.D, s.rule);
            }
        }
    });
}

}  // namespace

template <class E>
void block_means_cpu(const Ctx&, E* means, const E* k, const Sequences& seqs, GateShape s) {
    using A = acc_t<E>;
    const BlockTable& blocks = seqs.level[0];
    const int parts = parts_of(s.rule);
    for (int g = 0; g < s.G; g++) {
        std::vector<A> panels(GatePanels<A>::elements(blocks.num_blocks, s.D, parts));
        const GatePanels<A> of_head{panels.data(), s.D, parts};
        pool_blocks<E>(of_head, k, g, blocks, s);
        for (int n = 0; n < blocks.num_blocks; n++) {
            for (int i = 0; i < parts; i++) {
                E* mean = means + (((size_t)n * parts + i) * s.G + g) * s.D;
                for (int d = 0; d < s.D; d++) { mean[d] = E(of_head.vector(n, i)[d * of_head.width]); }
            }
        }
    }
}

namespace {

// The queries of one head: row t is at data + t * stride.
template <class E>
struct Queries {
    const E* data;
    size_t stride;
};

template <class E>
void choose_naive(int* chosen, Queries<E> q, GatePanels<acc_t<E>> panels, int K, const BlockTable& blocks,
                  int M) {
    using A = acc_t<E>;
    parallel_for(M, [&](size_t t, int) {
        const int own = blocks.own[t], first = blocks.first[own];
        Best<A> best;
        best.limit = std::min(K - 1, own - first);
        for (int n = first; n < own; n++) {
            A score[4] = {};
            for (int i = 0; i < panels.parts; i++) {
                for (int d = 0; d < panels.D; d++) {
                    score[i] += A(q.data[t * q.stride + d]) * panels.vector(n, i)[d * panels.width];
                }
            }
            best.offer(panels.parts == 1
                           ? score[0]
                           : lse_score(score[0], score[1], score[2], score[3], 1 / std::sqrt(A(panels.D))),
                       n);
        }
        write_choice(chosen + t * K, K, best.block, best.count, own);
    });
}

template <class E>
void choose_tiled(int* chosen, Queries<E> q, GatePanels<acc_t<E>> panels, int K, const BlockTable& blocks,
                  int M, const GateWorkspace<E>& w) {
    using A = acc_t<E>;
    constexpr int width = GatePanels<A>::width;
    const int D = panels.D, together = panels.blocks();
    const A scale = 1 / std::sqrt(A(D));
    parallel_for(ceil_div(M, tile_queries), [&](size_t tile, int thread) {
        A* rows = w.q + (size_t)thread * tile_queries * D;
        A* scores = w.score + (size_t)thread * tile_queries * width;
        const int t0 = (int)tile * tile_queries, count = std::min(tile_queries, M - t0);
        for (int i = 0; i < count; i++) {
            for (int d = 0; d < D; d++) { rows[i * D + d] = A(q.data[(t0 + i) * q.stride + d]); }
        }
        Best<A> best[tile_queries];
        const int begin = blocks.first[blocks.own[t0]], end = blocks.own[t0 + count - 1];
        for (int i = 0; i < count; i++) {
            const int own = blocks.own[t0 + i];
            best[i].limit = std::min(K - 1, own - blocks.first[own]);
        }
        for (int n0 = begin / together * together; n0 < end; n0 += together) {
            tile_matmul<A>(scores, width, rows, D, 1, panels.panel(n0), width, count, width, D);
            for (int i = 0; i < count; i++) {
                A* row = scores + i * width;
                if (panels.parts > 1) { best[i].join_parts(row, together, 1, together, scale); }
                const int own = blocks.own[t0 + i];
                const int n = std::max(n0, blocks.first[own]), n1 = std::min(n0 + together, own);
                if (n < n1) { best[i].offer_all(row + n - n0, n1 - n, n); }
            }
        }
        for (int i = 0; i < count; i++) {
            write_choice(chosen + (size_t)(t0 + i) * K, K, best[i].block, best[i].count, blocks.own[t0 + i]);
        }
    });
}

}  // namespace

template <class E>
void gate_forward_cpu(const Ctx& ctx, Routing r, const E* q, const E* k, const Sequences& seqs, GateShape s) {
    using A = acc_t<E>;
    REQUIRE(s.H % s.G == 0 && s.K >= 1 && (s.K << (seqs.sizes.levels - 1)) <= max_top_k,
            "H = %d, G = %d, K = %d", s.H, s.G, s.K);
    REQUIRE(seqs.sizes.smallest() % parts_of(s.rule) == 0, "blocks of %d tokens in %d parts",
            seqs.sizes.smallest(), parts_of(s.rule));
    const int M = seqs.num_tokens, group = s.H / s.G;
    int most = 0;
    for (int i = 0; i < seqs.sizes.levels; i++) { most = std::max(most, seqs.level[i].num_blocks); }
    const auto w = lay_out_workspace<GateWorkspace<E>>(ctx, M, most, s);
    const GatePanels<A> panels{w.vectors, s.D, parts_of(s.rule)};
    for (int g = 0; g < s.G; g++) {
        const int first = g * group, K = s.slots(seqs, first);
        const BlockTable& blocks = seqs.level[s.level(seqs, first)];
        const auto choices = [&](int h) { return r.chosen + s.first_slot(seqs, h); };
        if (has_scores(s.rule)) { pool_blocks(panels, k, g, blocks, s); }
        for (int h = first; h < first + (s.together() ? 1 : group); h++) {
            Queries<E> queries{q + (size_t)h * s.D, (size_t)s.H * s.D};
            if (s.together() && has_scores(s.rule)) {
                parallel_ranges(M, 256, [&](size_t b, size_t e) {
                    for (size_t t = b; t < e; t++) {
                        sum_queries(w.sums + t * s.D, queries.data + t * queries.stride, group, s.D);
                    }
                });
                queries = {w.sums, (size_t)s.D};
            }
            if (!has_scores(s.rule)) {
                for (int t = 0; t < M; t++) {
                    const int own = blocks.own[t];
                    choose_by_place(choices(h) + (size_t)t * K, K, blocks.first[own], own, s.rule);
                }
            } else if (ctx.kernel_version == 1) {
                choose_naive(choices(h), queries, panels, K, blocks, M);
            } else {
                choose_tiled(choices(h), queries, panels, K, blocks, M, w);
            }
        }
        for (int h = first + 1; s.together() && h < first + group; h++) {
            std::copy_n(choices(first), (size_t)M * K, choices(h));
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

INSTANTIATE_AND_DOUBLE(block_means_cpu)
INSTANTIATE_AND_DOUBLE(gate_forward_cpu)
INSTANTIATE_AND_DOUBLE(gate_workspace_bytes_cpu)

}  // namespace moba

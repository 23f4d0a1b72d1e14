/* Attention on the CPU, version 2 of MoBA: block by block, by the same method as on the GPU.

   A block's keys and values are copied into tiles once. Then the queries that chose the block (its list) are
   processed in tiles. The queries that lie in the block itself come first in the list; they need the causal
   mask. Forward: the normalised result of (query, block) is stored in the query's slot together with its lse;
   merge_slots then adds up the slots of each query, weighted by their lse. Backward: one thread computes dk
   and dv of a block and sums over its whole list. dq is stored in slots, which are added in a fixed order. */
#include "moba/attention/cpu.h"

namespace moba {

namespace {

const int tile_queries = 64, tile_keys = 128;
const int item_entries = 1024;  // a longer list is divided into several items

// Scratch memory of one thread: one block of keys, and one tile of queries.
template <class E>
struct BlockScratch {
    using A = acc_t<E>;
    A* k_t;             // (D, width), transposed; width = padded(keys of the block)
    A* v;               // forward (width, Dp); backward (D, width), transposed
    A *k, *dk, *dv;     // (width, Dp), backward only
    A *q, *dout, *sum;  // (tile_queries, Dp); sum: of out, or of dq
    A *p, *ds;          // (tile_queries, tile_keys)
    BlockScratch(BumpAllocator& c, int S, int D, Direction direction) {
        const bool backward = direction == Direction::backward;
        const size_t wide = (size_t)round_up(S, tile_keys) * padded(D),
                     queries = (size_t)tile_queries * padded(D);
        k_t = c.take<A>(wide);
        v = c.take<A>(wide);
        k = c.take<A>(backward ? wide : 0);
        dk = c.take<A>(backward ? wide : 0);
        dv = c.take<A>(backward ? wide : 0);
        q = c.take<A>(queries);
        dout = c.take<A>(backward ? queries : 0);
        sum = c.take<A>(queries);
        p = c.take<A>(tile_queries * tile_keys);
        ds = c.take<A>(backward ? tile_queries * tile_keys : 0);
    }
};

// The workspace of one call: the slots of one group of heads. The groups use it one after another.
template <class E>
struct MobaWorkspace {
    using A = acc_t<E>;
    E* part;      // (group, M, K, D) partial out, or partial dq
    A* part_lse;  // (group, M, K)
    char* scratch;
    size_t scratch_bytes;
    MobaWorkspace(BumpAllocator& c, int M, BlockSizes sizes, const AttentionShape& s, Direction direction) {
        const size_t slots = (size_t)(s.H / s.G) * M * (s.gate.K << (sizes.levels - 1));
        part = c.take<E>(slots * s.D);
        part_lse = c.take<A>(slots);
        scratch_bytes = layout_bytes<BlockScratch<E>>(sizes.S, s.D, direction);
        scratch = c.take<char>(max_threads() * scratch_bytes);
    }
};

}  // namespace

template <class E>
size_t moba_workspace_bytes(int max_tokens, BlockSizes sizes, AttentionShape s, Direction direction) {
    return layout_bytes<MobaWorkspace<E>>(max_tokens, sizes, s, direction);
}

namespace {

// One key/value head: its blocks, and the lists of the query heads that share it.
struct Group {
    const BlockTable& blocks;
    int g, first_head, heads, K;
    size_t head_slots;  // M * K
    Routing routing;    // points to the entries of first_head

    Group(int g, Routing r, const Sequences& seqs, const AttentionShape& s)
        : blocks(seqs.level[s.gate.level(seqs, g * (s.H / s.G))]), g(g), first_head(g * (s.H / s.G)),
          heads(s.H / s.G), K(s.gate.slots(seqs, first_head)), head_slots((size_t)seqs.num_tokens * K) {
        const size_t slot = s.gate.first_slot(seqs, first_head);
        routing = {r.chosen + slot, r.list_start + s.gate.first_start(seqs, first_head), r.list + slot};
    }
    const int* chosen(int i, size_t t) const { return routing.chosen + i * head_slots + t * K; }
    const int* list(int i) const { return routing.list + i * head_slots; }
    int list_begin(int i, int n) const { return routing.list_start[(size_t)i * (blocks.num_blocks + 1) + n]; }
    int longest_block() const {
        int longest = 0;
        for (int n = 0; n < blocks.num_blocks; n++) {
            longest = std::max(longest, blocks.start[n + 1] - blocks.start[n]);
        }
        return longest;
    }
};

template <class E>
MobaWorkspace<E> workspace_for(const Ctx& ctx, const Sequences& seqs, const AttentionShape& s,
                               Direction direction) {
    int S = 0;  // tokens of the longest block; at most the configured block size
    for (int g = 0; g < s.G; g++) { S = std::max(S, Group(g, {}, seqs, s).longest_block()); }
    return lay_out_workspace<MobaWorkspace<E>>(ctx, seqs.num_tokens, BlockSizes{S, seqs.sizes.levels}, s,
                                               direction);
}

// How many keys query t may see of the tile that begins at key `j` of block n.
int visible_keys(const BlockTable& blocks, int n, int j, int t) {
    const int keys = blocks.start[n + 1] - blocks.start[n];
    return std::clamp(std::min(keys, t - blocks.start[n] + 1) - j, 0, tile_keys);
}

// The rows of a list are scattered, so the hardware prefetcher cannot predict them. The callers prefetch the
// rows of the next tile before they compute the current one.
template <class E>
void prefetch_row(const E* row, int D) {
    for (int d = 0; d < D; d += 64 / (int)sizeof(E)) { __builtin_prefetch(row + d); }
}

template <class E>
void forward_item(const AttentionForward<E>& a, const Group& group, const MobaWorkspace<E>& w,
                  const BlockScratch<E>& x, const AttentionShape& s, int i, int n, int begin, int end) {
    using A = acc_t<E>;
    const int D = s.D, Dp = padded(D), start = group.blocks.start[n],
              keys = group.blocks.start[n + 1] - start;
    const int h = group.first_head + i, width = padded(keys);
    const A scale = 1 / std::sqrt(A(D));
    load_transposed(x.k_t, width, a.k + ((size_t)start * s.G + group.g) * D, (size_t)s.G * D, keys, D);
    for (int j = 0; j < keys; j++) {
        load_row(x.v + j * Dp, a.v + ((size_t)(start + j) * s.G + group.g) * D, D);
    }
    std::fill(x.v + keys * Dp, x.v + width * Dp, A(0));
    for (int e0 = begin; e0 < end; e0 += tile_queries) {
        const int* entry = group.list(i) + e0;
        const int rows = std::min(tile_queries, end - e0);
        RunningSoftmax<E> softmax[tile_queries];
        for (int r = 0; r < rows; r++) {
            load_row(x.q + r * Dp, a.q + ((size_t)(entry[r] / group.K) * s.H + h) * D, D, scale);
        }
        for (int r = rows; r < std::min(2 * tile_queries, end - e0); r++) {
            prefetch_row(a.q + ((size_t)(entry[r] / group.K) * s.H + h) * D, D);
        }
        std::fill_n(x.sum, rows * Dp, A(0));
        for (int j = 0; j < keys; j += tile_keys) {
            const int wide = std::min(tile_keys, width - j);
            tile_matmul<A>(x.p, tile_keys, x.q, Dp, 1, x.k_t + j, width, rows, wide, D);
            for (int r = 0; r < rows; r++) {
                A* p = x.p + r * tile_keys;
                std::fill(p + visible_keys(group.blocks, n, j, entry[r] / group.K), p + wide, A(-INFINITY));
                const A factor = softmax[r].update(p, wide);
                if (factor != 1) {
                    for (int d = 0; d < Dp; d++) { x.sum[r * Dp + d] *= factor; }
                }
            }
            tile_matmul<A>(x.sum, Dp, x.p, tile_keys, 1, x.v + j * Dp, Dp, rows, Dp, wide, Store::add);
        }
        for (int r = 0; r < rows; r++) {
            const size_t slot = i * group.head_slots + entry[r];
            const A inverse = 1 / softmax[r].sum;
            for (int d = 0; d < D; d++) { w.part[slot * D + d] = E(x.sum[r * Dp + d] * inverse); }
            w.part_lse[slot] = softmax[r].lse();
        }
    }
}

// out = sum over the slots of e^(lse_slot - lse) part_slot
template <class E>
void merge_slots(const AttentionForward<E>& a, const Group& group, const MobaWorkspace<E>& w, int M,
                 const AttentionShape& s) {
    using A = acc_t<E>;
    parallel_ranges((size_t)group.heads * M, 256, [&](size_t b, size_t e) {
        std::vector<A> sum(s.D);
        for (size_t row = b; row < e; row++) {
            const int i = (int)(row / M), h = group.first_head + i;
            const size_t t = row % M, slot = i * group.head_slots + t * group.K;
            const int* chosen = group.chosen(i, t);
            A top = -INFINITY, total = 0;
            for (int j = 0; j < group.K && chosen[j] >= 0; j++) { top = std::max(top, w.part_lse[slot + j]); }
            std::fill(sum.begin(), sum.end(), A(0));
            for (int j = 0; j < group.K && chosen[j] >= 0; j++) {
                const A weight = fast_exp(w.part_lse[slot + j] - top);
                total += weight;
                for (int d = 0; d < s.D; d++) { sum[d] += weight * A(w.part[(slot + j) * s.D + d]); }
            }
            for (int d = 0; d < s.D; d++) { a.out[(t * s.H + h) * s.D + d] = E(sum[d] / total); }
            a.lse[(size_t)h * M + t] = top + std::log(total);
        }
    });
}

}  // namespace

template <class E>
void moba_forward(const Ctx& ctx, AttentionForward<E> a, Routing routing, const Sequences& seqs,
                  AttentionShape s) {
    const MobaWorkspace<E> w = workspace_for<E>(ctx, seqs, s, Direction::forward);
    struct Item {
        int head, block, begin, end;
    };
    std::vector<Item> items;
    for (int g = 0; g < s.G; g++) {
        const Group group(g, routing, seqs, s);
        const int longest = group.longest_block();
        items.clear();
        for (int i = 0; i < group.heads; i++) {
            for (int n = 0; n < group.blocks.num_blocks; n++) {
                for (int e = group.list_begin(i, n); e < group.list_begin(i, n + 1); e += item_entries) {
                    items.push_back({i, n, e, std::min(e + item_entries, group.list_begin(i, n + 1))});
                }
            }
        }
        parallel_for(items.size(), [&](size_t item, int thread) {
            BumpAllocator c(w.scratch + thread * w.scratch_bytes);
            const BlockScratch<E> x(c, longest, s.D, Direction::forward);
            const Item& it = items[item];
            forward_item(a, group, w, x, s, it.head, it.block, it.begin, it.end);
        });
        merge_slots(a, group, w, seqs.num_tokens, s);
    }
}

// The gradients from block n for this group of heads: dk and dv of its keys, and its parts of dq, stored in
// slots.
template <class E>
static void backward_block(const AttentionBackward<E>& a, const Group& group, const MobaWorkspace<E>& w,
                           const BlockScratch<E>& x, int M, const AttentionShape& s, int n) {
    using A = acc_t<E>;
    const int D = s.D, Dp = padded(D), start = group.blocks.start[n],
              keys = group.blocks.start[n + 1] - start;
    const int width = padded(keys);
    const size_t at = ((size_t)start * s.G + group.g) * D, stride = (size_t)s.G * D;
    const A scale = 1 / std::sqrt(A(D));
    load_transposed(x.k_t, width, a.k + at, stride, keys, D);
    load_transposed(x.v, width, a.v + at, stride, keys, D);
    for (int j = 0; j < keys; j++) { load_row(x.k + j * Dp, a.k + at + j * stride, D); }
    std::fill(x.k + keys * Dp, x.k + width * Dp, A(0));
    for (A* sum : {x.dk, x.dv}) { std::fill_n(sum, width * Dp, A(0)); }
    for (int i = 0; i < group.heads; i++) {
        const int h = group.first_head + i, end = group.list_begin(i, n + 1);
        for (int e0 = group.list_begin(i, n); e0 < end; e0 += tile_queries) {
            const int* entry = group.list(i) + e0;
            const int rows = std::min(tile_queries, end - e0);
            for (int r = 0; r < rows; r++) {
                const size_t from = ((size_t)(entry[r] / group.K) * s.H + h) * D;
                load_row(x.q + r * Dp, a.q + from, D, scale);
                load_row(x.dout + r * Dp, a.dout + from, D);
            }
            for (int r = rows; r < std::min(2 * tile_queries, end - e0); r++) {
                const size_t from = ((size_t)(entry[r] / group.K) * s.H + h) * D;
                prefetch_row(a.q + from, D);
                prefetch_row(a.dout + from, D);
            }
            for (int j = 0; j < keys; j += tile_keys) {
                const int wide = std::min(tile_keys, width - j);
                tile_matmul<A>(x.p, tile_keys, x.q, Dp, 1, x.k_t + j, width, rows, wide, D);
                tile_matmul<A>(x.ds, tile_keys, x.dout, Dp, 1, x.v + j, width, rows, wide, D);
                for (int r = 0; r < rows; r++) {
                    A *p = x.p + r * tile_keys, *ds = x.ds + r * tile_keys;
                    const int t = entry[r] / group.K, seen = visible_keys(group.blocks, n, j, t);
                    const size_t row = (size_t)h * M + t;
                    softmax_backward_row<E>(p, ds, a.lse[row], a.delta[row], seen);
                    for (A* tail : {p, ds}) { std::fill(tail + seen, tail + wide, A(0)); }
                }
                tile_matmul<A>(x.dv + j * Dp, Dp, x.p, 1, tile_keys, x.dout, Dp, wide, Dp, rows, Store::add);
                tile_matmul<A>(x.dk + j * Dp, Dp, x.ds, 1, tile_keys, x.q, Dp, wide, Dp, rows, Store::add);
                tile_matmul<A>(x.sum, Dp, x.ds, tile_keys, 1, x.k + j * Dp, Dp, rows, Dp, wide,
                               j > 0 ? Store::add : Store::replace);
            }
            for (int r = 0; r < rows; r++) {
                E* part = w.part + (i * group.head_slots + entry[r]) * D;
                for (int d = 0; d < D; d++) { part[d] = E(x.sum[r * Dp + d] * scale); }
            }
        }
    }
    for (int j = 0; j < keys; j++) {
        for (int d = 0; d < D; d++) {
            a.dk[at + j * stride + d] = E(x.dk[j * Dp + d]);
            a.dv[at + j * stride + d] = E(x.dv[j * Dp + d]);
        }
    }
}

template <class E>
void moba_backward(const Ctx& ctx, AttentionBackward<E> a, Routing routing, const Sequences& seqs,
                   AttentionShape s) {
    using A = acc_t<E>;
    const int M = seqs.num_tokens;
    const MobaWorkspace<E> w = workspace_for<E>(ctx, seqs, s, Direction::backward);
    for (int g = 0; g < s.G; g++) {
        const Group group(g, routing, seqs, s);
        const int longest = group.longest_block();
        parallel_for(group.blocks.num_blocks, [&](size_t n, int thread) {
            BumpAllocator c(w.scratch + thread * w.scratch_bytes);
            const BlockScratch<E> x(c, longest, s.D, Direction::backward);
            backward_block(a, group, w, x, M, s, (int)n);
        });
        parallel_ranges((size_t)group.heads * M, 256, [&](size_t b, size_t e) {
            std::vector<A> sum(s.D);
            for (size_t row = b; row < e; row++) {
                const int i = (int)(row / M);
                const size_t t = row % M, slot = i * group.head_slots + t * group.K;
                const int* chosen = group.chosen(i, t);
                std::fill(sum.begin(), sum.end(), A(0));
                for (int j = 0; j < group.K && chosen[j] >= 0; j++) {
                    for (int d = 0; d < s.D; d++) { sum[d] += A(w.part[(slot + j) * s.D + d]); }
                }
                E* dq = a.dq + (t * s.H + group.first_head + i) * s.D;
                for (int d = 0; d < s.D; d++) { dq[d] = E(sum[d]); }
            }
        });
    }
}

INSTANTIATE_AND_DOUBLE(moba_forward)
INSTANTIATE_AND_DOUBLE(moba_backward)
INSTANTIATE_AND_DOUBLE(moba_workspace_bytes)

}  // namespace moba

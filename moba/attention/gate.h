/* Gate: chooses the blocks of keys that each query attends to.

   Source   Lu et al. 2025, arXiv:2502.13189, eq. 5 and 6, section 2.2 "Causality". The paper leaves open,
            and we define: the query's own block counts as one of the K; ties go to the lower block index; -0
            equals +0; NaN ranks as -inf; each query head chooses for itself, also under GQA; blocks restart
            at every sequence. max and lse are not in the paper: Quest (Tang et al. 2024, arXiv:2406.10774)
            bounds a block by the extremes of its channels; lse is what full attention would give the block if
            all keys of a quarter were equal.
   Math     own      = block of t, counted within its sequence; always chosen
            topk, max, lse: the min(K-1, own) past blocks with the highest scores, no parameters
              topk   score[n] = <q, mean of the keys of block n>
              max    score[n] = <q, largest value of each channel in block n>
              lse    score[n] = log sum_i e^(<q, mean of the keys of quarter i of block n> / sqrt(D))
              means are rounded to E
            recent   the min(K-1, own) most recent past blocks                    (sliding window, in blocks)
            sink     the first block of the sequence and the most recent of the rest (attention sink)
            shared   all query heads of a key/value head choose as one whose query is the sum of theirs,
                     rounded to E
            No gradient flows through the choice, so there is no backward function.
   Shapes   q (M, H, D) E · k (M, G, D) E, as attention uses them · Routing: int, see below
   Units    blocks and slots are indices; K in blocks
   Needs    1 <= K << (levels-1) <= 64, H % G == 0, sequences with as many levels as the layer has, with lse
            S a multiple of 4 at each level; a workspace of gate_workspace_bytes_cpu
   Error    a score: 2 (D 2^-24 [+ 2^-8 in bf16]) sum |q mean|; blocks whose scores differ by less may be
            exchanged
   Cost     M*H*N*D flop for sequences of N blocks (on average half are past, 2 flop per channel), lse 4 times
            that, shared H/G times less; bound by arithmetic
   Order    fixed: the order of summation of a score does not depend on the number of threads
   Versions 1 follows the equations, block by block; 2 tiles of 64 queries against all means of a sequence.
            The GPU has 3 and 4 as well: tensor cores, gate_tensor.cu; it has only version 1 of lse */
#pragma once
#include "moba/core/base.h"
#include "moba/core/sequence.h"
#include <cmath>

namespace moba {

enum class Gate { topk, max, lse, recent, sink };

constexpr int max_top_k = 64;

HOST_DEVICE constexpr bool has_scores(Gate g) { return g == Gate::topk || g == Gate::max || g == Gate::lse; }
// How many vectors stand for a block of keys.
HOST_DEVICE constexpr int parts_of(Gate g) { return g == Gate::lse ? 4 : 1; }

/* The score of a block with Gate::lse from the products with its parts; scale = 1 / sqrt(D). The parts are
   added in the order of their size, so that equal parts in another order give an equal score. */
template <class A>
HOST_DEVICE inline A lse_score(A a, A b, A c, A d, A scale) {
    if (a != a || b != b || c != c || d != d) { return A(NAN); }
    const auto order = [](A& x, A& y) {
        const A high = x < y ? y : x;
        y = x < y ? x : y;
        x = high;
    };
    order(a, b), order(c, d), order(a, c), order(b, d), order(b, c);
    if (a - a != 0) { return a; }  // infinite
    const auto part = [=](A x) { return std::exp((x - a) * scale); };
    return a * scale + std::log(1 + (part(d) + part(c) + part(b)));
}

struct GateShape {
    int H, G, D;
    int K;  // blocks chosen at level 0; level i chooses K << i blocks of S >> i tokens
    Gate rule;
    bool shared = false;

    // Whether several query heads choose as one.
    bool together() const { return shared && H > G; }
    int level(BlockSizes sizes, int h) const { return h / (H / G) % sizes.levels; }
    int level(const Sequences& s, int h) const { return level(s.sizes, h); }
    // K of head h
    int slots(BlockSizes sizes, int h) const { return K << level(sizes, h); }
    int slots(const Sequences& s, int h) const { return slots(s.sizes, h); }
    // slots of a token, of all heads before h
    size_t slots_before(BlockSizes sizes, int h) const {
        size_t k = 0;
        for (int i = 0; i < h; i++) { k += slots(sizes, i); }
        return k;
    }
    // where head h begins in the (H, M, K) arrays
    size_t first_slot(const Sequences& s, int h) const { return slots_before(s.sizes, h) * s.num_tokens; }
    // where head h begins in list_start
    size_t first_start(const Sequences& s, int h) const {
        size_t n = 0;
        for (int i = 0; i < h; i++) { n += s.level[level(s, i)].num_blocks + 1; }
        return n;
    }
};

/* The choice of each query, and its inverse: for each block the list of queries that chose it. A list entry
   is t*K + slot, with the K of its head. So it tells both the query and the slot for its partial result. */
struct Routing {
    // (H, M, K) chosen blocks in ascending order, so the query's own block is the last; -1 in unused slots
    int* chosen;
    // (H, num_blocks + 1) where each block's list begins within its head's (M, K)
    int* list_start;
    // (H, M*K) entries grouped by block, ascending; so the queries that lie in the block come first
    int* list;
};

template <class E>
void gate_forward_cpu(const Ctx&, Routing, const E* q, const E* k, const Sequences&, GateShape);
/* means (num_blocks, parts, G, D) E: what the gate compares with a query, of the blocks of level 0. */
template <class E>
void block_means_cpu(const Ctx&, E* means, const E* k, const Sequences&, GateShape);
/* Fills list_start and list from chosen. */
void gate_lists_cpu(const Ctx&, Routing, const Sequences&, GateShape);

template <class E>
size_t gate_workspace_bytes_cpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape);
/* Number of elements of chosen (and of list), and of list_start, for these maximal sizes. */
size_t routing_slots(int max_tokens, BlockSizes sizes, GateShape);
size_t routing_starts(int max_tokens, int max_seqs, BlockSizes sizes, GateShape);

void gate_lists_gpu(const Ctx&, Routing, const Sequences&, GateShape);
inline size_t gate_lists_workspace_bytes_cpu(int, int, BlockSizes, GateShape) { return 0; }
size_t gate_lists_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape);

template <class E>
void block_means_gpu(const Ctx&, E* means, const E* k, const Sequences&, GateShape);
template <class E>
void gate_forward_gpu(const Ctx&, Routing, const E* q, const E* k, const Sequences&, GateShape);
template <class E>
size_t gate_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, GateShape);
/* The highest version of the GPU kernels for these sizes, type E, this card and the alignment of q. */
template <class E>
int gate_versions_gpu(const E* q, const Sequences&, GateShape);

}  // namespace moba

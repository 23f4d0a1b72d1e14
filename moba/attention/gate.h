/* Gate: which blocks of keys each query attends.

   Source   Lu et al. 2025, arXiv:2502.13189, eq. 5 and 6, section 2.2 "Causality". Settled here (the paper leaves it
            open): the own block counts in K; ties go to the lower block; -0 equals +0; NaN ranks as -inf; each query
            head routes by itself, also under GQA; blocks restart at every sequence.
   Math     mean[n]  = sum over the tokens of block n of k[t] / count, rounded to E
            score[n] = <q, mean[n]>                               not scaled, no parameters
            own      = block of t, always chosen
            topk     the min(K-1, own) past blocks of highest score
            recent   the min(K-1, own) most recent past blocks                    (sliding window, in blocks)
            sink     the first block of the sequence and the most recent of the rest (attention sink)
            No gradient flows through the choice; there is no backward.
   Shapes   q (M, H, D) E · k (M, G, D) E, as attention uses them · Routing: int, below
   Units    blocks and slots by index; K in blocks
   Needs    1 <= K << (levels-1) <= 64, H % G == 0, sequences with as many levels as the layer;
            workspace of gate_workspace_bytes_cpu
   Error    a score: 2 (D 2^-24 [+ 2^-8 in bf16]) sum |q mean|; blocks whose scores differ by less may swap
   Cost     M*H*N*D flop for sequences of N blocks (half of them past, 2 flop for each channel); bound by arithmetic
   Order    fixed: a score is summed in the same order whatever the thread count
   Versions 1 the equations, block by block; 2 tiles of 64 queries against all means of a sequence */
#pragma once
#include "moba/core/base.h"
#include "moba/core/sequence.h"

namespace moba {

enum class Gate { topk, recent, sink };

constexpr int max_top_k = 64;

struct GateShape {
    int H, G, D;
    int K;  // of level 0; level i chooses K << i blocks of S >> i tokens
    Gate gate;

    int level(const Sequences& s, int h) const { return h / (H / G) % s.num_levels; }
    int slots(const Sequences& s, int h) const { return K << level(s, h); }  // K of head h
    size_t first_slot(const Sequences& s, int h) const {  // of head h in the (H, M, K) arrays
        size_t k = 0;
        for (int i = 0; i < h; i++) { k += slots(s, i); }
        return k * s.num_tokens;
    }
    size_t first_start(const Sequences& s, int h) const {  // of head h in list_start
        size_t n = 0;
        for (int i = 0; i < h; i++) { n += s.level[level(s, i)].num_blocks + 1; }
        return n;
    }
};

/* The choice, and the same choice turned around. An entry is t*K + slot with the K of its head, so that a list says
   both which query and where its partial result belongs. */
struct Routing {
    int* chosen;      // (H, M, K) blocks in ascending order, so the own block is last; -1 in slots not used
    int* list_start;  // (H, num_blocks + 1) where each block's list begins within its head's (M, K)
    int* list;  // (H, M*K) entries grouped by block, ascending; the own block's queries come first in a list
};

template <class E>
void gate_forward_cpu(const Ctx&, Routing, const E* q, const E* k, const Sequences&, GateShape);
/* Fills list_start and list from chosen. */
void gate_lists_cpu(const Ctx&, Routing, const Sequences&, GateShape);

template <class E>
size_t gate_workspace_bytes_cpu(int max_tokens, int max_seqs, int S, int num_levels, GateShape);
/* Elements of chosen (and list), and of list_start, for at most these sizes. */
size_t routing_slots(int max_tokens, int num_levels, GateShape);
size_t routing_starts(int max_tokens, int max_seqs, int S, int num_levels, GateShape);

void gate_lists_gpu(const Ctx&, Routing, const Sequences&, GateShape);
inline size_t gate_lists_workspace_bytes_cpu(int, int, int, int, GateShape) { return 0; }
size_t gate_lists_workspace_bytes_gpu(int max_tokens, int max_seqs, int S, int num_levels, GateShape);

template <class E>
void gate_forward_gpu(const Ctx&, Routing, const E* q, const E* k, const Sequences&, GateShape);
template <class E>
size_t gate_workspace_bytes_gpu(int max_tokens, int max_seqs, int S, int num_levels, GateShape);
/* The last version of the GPU's kernels that fits these sizes, elements E, this card and the alignment of q. */
template <class E>
int gate_versions_gpu(const E* q, const Sequences&, GateShape);

}  // namespace moba

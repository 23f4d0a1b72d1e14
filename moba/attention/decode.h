/* Decoding: one query against all tokens before it. Their keys, values and block means are cached from step
   to step.

   Source   as gate.h and attention.h; partial softmaxes are merged by their maxima: Milakov & Gimelshein
            2018, arXiv:1805.02867
   Math     the query is at position length-1 of its sequence and attends to the keys that attention.h
            defines: full, moba (chosen as in gate.h; the query's own block is the last one), window. The
            vectors that stand for blocks in the gate, the means, are stored for complete blocks or parts; the
            query's own block needs none.
   Place    place[0] is the position of the first new row. It is read on the device, so that a recorded launch
            can be repeated for every later token
   Shapes   k, v caches (capacity, G, D) E · means acc_t<E>, transposed: (D, columns) for each key/value head,
            part i of block n in column n * parts + i · q, out (H, D) E · rows (count, width) E · place (1)
            int
   Units    capacity, longest, place, count in tokens
   Needs    place + count <= capacity; place < longest <= capacity: decode_attention launches enough threads
            for `longest` tokens, and attends to the first place + 1 of them; one sequence; D <= 256 on the
            GPU; a workspace of decode_workspace_bytes_cpu
   Error    as attention.h; the choice has the same bits as that of gate.h
   Cost     moba: (N + K*S) * D for each query head, N = length/S means and K*S keys; full: length * D; bound
            by memory
   Order    fixed: pieces of 1024 keys, or blocks (the GPU cuts those longer than 1024), merged in order */
#pragma once
#include "moba/attention/attention.h"

namespace moba {

struct CacheShape {
    int capacity, G, D;
    BlockSizes blocks;
    Gate rule = Gate::topk;

    size_t columns(int g) const;
    int tokens_of_mean(int g) const { return blocks.of_head(g) / parts_of(rule); }
    // where head g begins in the means; first_mean(G) is the size of the whole array
    size_t first_mean(int g) const;
};

/* Copies `count` rows into a cache; the first becomes row place[0]. */
template <class E>
void cache_rows_cpu(const Ctx&, E* cache, const E* rows, const int* place, int count, int width);
/* Computes the means of the blocks that became complete by adding the `count` rows from place[0] on. */
template <class E>
void cache_means_cpu(const Ctx&, acc_t<E>* means, const E* k_cache, const int* place, int count, CacheShape);
template <class E>
void decode_attention_cpu(const Ctx&, E* out, const E* q, const E* k_cache, const E* v_cache,
                          const acc_t<E>* means, const int* place, int longest, CacheShape, AttentionShape);

template <class E>
size_t decode_workspace_bytes_cpu(CacheShape, AttentionShape);

template <class E>
void cache_rows_gpu(const Ctx&, E* cache, const E* rows, const int* place, int count, int width);
template <class E>
void cache_means_gpu(const Ctx&, acc_t<E>* means, const E* k_cache, const int* place, int count, CacheShape);
template <class E>
void decode_attention_gpu(const Ctx&, E* out, const E* q, const E* k_cache, const E* v_cache,
                          const acc_t<E>* means, const int* place, int longest, CacheShape, AttentionShape);
template <class E>
size_t decode_workspace_bytes_gpu(CacheShape, AttentionShape);

}  // namespace moba

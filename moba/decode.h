/* Decoding: one query against all tokens before it, whose keys, values and block means are kept from step to step.

   Source   as gate.h and attention.h; parts of a row merged by their maxima: Milakov & Gimelshein 2018, arXiv:1805.02867
   Math     the query at place length-1 of its sequence attends what attention.h lets it: full, moba (gate.h's choice, the
            own block is the last one), window. mean[n] is kept for complete blocks; the own block needs none.
   Shapes   k, v caches (capacity, G, D) E · means acc_t<E>, for each key/value head transposed (D, columns) · q, out (H, D) E ·
            rows (count, width) E
   Units    capacity, length, first, count in tokens
   Needs    first + count <= capacity, 1 <= length <= capacity, one sequence; D <= 256 on the GPU; workspace of decode_workspace_bytes
   Error    as attention.h; the choice has the same bits as gate.h's
   Cost     moba: (N + K*S) * D for each query head, N = length/S means and K*S keys; full: length * D; bound by memory
   Order    fixed: pieces of 1024 keys, or blocks (the GPU cuts those longer than 1024), merged in order */
#pragma once
#include "moba/attention.h"

struct CacheShape {
    int capacity, G, D;
    int S, num_levels;  // head g has blocks of S >> (g % num_levels)

    int block_size(int g) const { return S >> g % num_levels; }
    size_t columns(int g) const;
    size_t first_mean(int g) const;  // of head g in the means; of head G: all of them
};

/* Rows into a cache, behind the `first` that are there. */
template <class E>
void cache_rows_cpu(const Ctx&, E* cache, const E* rows, int first, int count, int width);
/* Means of the blocks that rows first .. first+count-1 made complete. */
template <class E>
void cache_means_cpu(const Ctx&, acc_t<E>* means, const E* k_cache, int first, int count, CacheShape);
template <class E>
void decode_attention_cpu(const Ctx&, E* out, const E* q, const E* k_cache, const E* v_cache,
                          const acc_t<E>* means, int length, CacheShape, AttentionShape);

template <class E>
size_t decode_workspace_bytes(CacheShape, AttentionShape);

template <class E>
void cache_rows_gpu(const Ctx&, E* cache, const E* rows, int first, int count, int width);
template <class E>
void cache_means_gpu(const Ctx&, acc_t<E>* means, const E* k_cache, int first, int count, CacheShape);
template <class E>
void decode_attention_gpu(const Ctx&, E* out, const E* q, const E* k_cache, const E* v_cache,
                          const acc_t<E>* means, int length, CacheShape, AttentionShape);
template <class E>
size_t decode_workspace_bytes_gpu(CacheShape, AttentionShape);

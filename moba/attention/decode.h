/* Decoding: one query against all tokens before it, whose keys, values and block means are kept from step to step.

   Source   as gate.h and attention.h; parts of a row merged by their maxima: Milakov & Gimelshein 2018, arXiv:1805.02867
   Math     the query at place length-1 of its sequence attends what attention.h lets it: full, moba (gate.h's choice, the
            own block is the last one), window. mean[n] is kept for complete blocks; the own block needs none.
   Place    place[0] is the position of the first new row, read on the device: the same launch serves every later token
   Shapes   k, v caches (capacity, G, D) E · means acc_t<E>, for each key/value head transposed (D, columns) · q, out (H, D) E ·
            rows (count, width) E · place (1) int
   Units    capacity, longest, place, count in tokens
   Needs    place + count <= capacity; place < longest <= capacity, of which decode_attention is launched for `longest` tokens,
            and attends place + 1 of them; one sequence; D <= 256 on the GPU; workspace of decode_workspace_bytes_cpu
   Error    as attention.h; the choice has the same bits as gate.h's
   Cost     moba: (N + K*S) * D for each query head, N = length/S means and K*S keys; full: length * D; bound by memory
   Order    fixed: pieces of 1024 keys, or blocks (the GPU cuts those longer than 1024), merged in order */
#pragma once
#include "moba/attention/attention.h"

namespace moba {

struct CacheShape {
    int capacity, G, D;
    int S, num_levels;  // head g has blocks of S >> (g % num_levels)

    int block_size(int g) const { return S >> g % num_levels; }
    size_t columns(int g) const;
    size_t first_mean(int g) const;  // of head g in the means; of head G: all of them
};

/* Rows into a cache: the first becomes row place[0]. */
template <class E>
void cache_rows_cpu(const Ctx&, E* cache, const E* rows, const int* place, int count, int width);
/* Means of the blocks that the `count` rows from place[0] on made complete. */
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

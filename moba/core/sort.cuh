/* Turning a choice around: from "element i has key k" to "these elements have key k", as the gate's
   lists and the gradient of the embedding need it. Included by .cu files only.

   Math     list[start[k] .. start[k+1]) = the elements i with key[i] = k, ascending, k in [0, bins)
            elements whose key is not in [0, bins) (-1: a slot not used) stand after start[bins]
   How      least significant digit first, 8 bits a pass: histogram of every chunk, prefix sum over
            digits and chunks, stable scatter. A chunk of 2048 elements is a block's of 8 warps,
            each of which counts its 256 by itself, 32 at a time; equal digits of a batch find their
            order by ballots. No atomics, so nothing depends on who comes first.
   Shapes   key, list (rows, n) int · start (rows, bins + 1) int; every row by itself
   Needs    n < 2^31 - 2048, bins < 2^24; workspace of sort_workspace_bytes, which covers any
            smaller n and rows too. With less, as long as one row fits, fewer rows go together
   Cost     passes = 1 for 255 bins, 2 for 65535, 3 beyond; each reads and writes n keys and n
            elements; bound by memory. Rows go together up to 2^24 elements: few launches for short
            rows, however many heads */
#pragma once
#include "moba/core/device.cuh"

namespace moba {

void sort_by_key_gpu(const Ctx&, int* start, int* list, const int* key, size_t n, int bins, int rows = 1);
size_t sort_workspace_bytes(size_t n, int bins, int rows = 1);

/* count[i] = count[0] + ... + count[i-1], in place. With a 0 behind the counts their total stands there afterwards.
   Needs    a total below 2^31; workspace of prefix_sum_workspace_bytes
   Cost     two reads and one write of n ints, in 1 launch for 1024 counts, 3 for 2^20, 5 for 2^30 */
void prefix_sum_gpu(const Ctx&, int* count, size_t n);
size_t prefix_sum_workspace_bytes(size_t n);

}  // namespace moba

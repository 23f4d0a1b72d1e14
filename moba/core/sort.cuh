/* Inverts a mapping with a stable counting sort: from "element i has key k" to "these elements have key k".
   Used for the gate's lists and the gradient of the embedding. Included by .cu files only.

   Math     list[start[k] .. start[k+1]) = the elements i with key[i] = k, ascending, for k in [0, bins).
            Elements whose key is not in [0, bins) (-1: an unused slot) come last, from start[bins] on.
   How      radix sort, least significant digit first, 8 bits per pass: a histogram of every chunk, a prefix
            sum over digits and chunks, a stable scatter. A block of 8 warps sorts a chunk of 2048 elements.
            Each warp counts its 256 elements separately, 32 at a time, and ballots give the order of equal
            digits within the 32. There are no atomics, so the result does not depend on the order in which
            threads run.
   Shapes   key, list (rows, n) int · start (rows, bins + 1) int; each row is sorted separately
   Needs    n < 2^31 - 2048, bins < 2^24; workspace of sort_workspace_bytes, which is enough for any smaller n
            and rows too. A smaller workspace also works if one row fits: then fewer rows are sorted per
            launch.
   Cost     passes: 1 up to 255 bins, 2 up to 65535, else 3; each pass reads and writes n keys and n elements;
            memory bound. Rows with up to 2^24 elements in total are sorted by the same launches, so that many
            short rows (one per head) need few launches. */
#pragma once
#include "moba/core/device.cuh"

namespace moba {

/* Arrays of ints in a workspace begin at multiples of this many ints (256 bytes). */
constexpr size_t align_ints = 64;

void sort_by_key_gpu(const Ctx&, int* start, int* list, const int* key, size_t n, int bins, int rows = 1);
size_t sort_workspace_bytes(size_t n, int bins, int rows = 1);

/* count[i] = count[0] + ... + count[i-1], in place. A 0 appended to the counts is replaced by their total.
   Needs    a total below 2^31; workspace of prefix_sum_workspace_bytes
   Cost     two reads and one write of n ints; 1 launch up to 1024 counts, 3 up to 2^20, 5 up to 2^30 */
void prefix_sum_gpu(const Ctx&, int* count, size_t n);
size_t prefix_sum_workspace_bytes(size_t n);

}  // namespace moba

/* Slots: what a query got from each block that it chose, merged into one result. And rows put where they
   belong.

   Source   as the merge inside attention: Dao et al. 2022, arXiv:2205.14135, section 3.1
   Math     over the first used[h,t] slots j:
            merge      lse[h,t] = log sum_j e^part_lse[h,t,j]
                       out[t,h] = sum_j e^(part_lse[h,t,j] - lse[h,t]) part[h,t,j]
            sum        dq[t,h] = sum_j part[h,t,j]
            put_rows   y[row[i],:] = x[i,:]; other rows of y stay
            add_rows   y[row[i],:] += x[i,:]
   Shapes   part (H, M, K, D) E · part_lse (H, M, K), lse (H, M) acc_t<E> · used (H, M) int · out, dq
            (M, H, D) E · x (R, C), y (M, C) E · row (R) int, each at most once. Nothing may alias
   Needs    1 <= used <= K;  0 <= row < M
   Error    one rounding of each output
   Cost     reads all parts once; memory bound
   Order    j ascending */
#pragma once
#include "moba/ops/rows.h"

namespace moba {

struct SlotsShape {
    int M, H, K, D;
};

template <class E>
void merge_slots_cpu(const Ctx&, E* out, acc_t<E>* lse, const E* part, const acc_t<E>* part_lse,
                     const int* used, SlotsShape);
template <class E>
void sum_slots_cpu(const Ctx&, E* dq, const E* part, const int* used, SlotsShape);
template <class E>
void put_rows_cpu(const Ctx&, E* y, const E* x, const int* row, RowsShape);
template <class E>
void add_rows_cpu(const Ctx&, E* y, const E* x, const int* row, RowsShape);

template <class E>
void merge_slots_gpu(const Ctx&, E* out, acc_t<E>* lse, const E* part, const acc_t<E>* part_lse,
                     const int* used, SlotsShape);
template <class E>
void sum_slots_gpu(const Ctx&, E* dq, const E* part, const int* used, SlotsShape);
template <class E>
void put_rows_gpu(const Ctx&, E* y, const E* x, const int* row, RowsShape);
template <class E>
void add_rows_gpu(const Ctx&, E* y, const E* x, const int* row, RowsShape);

}  // namespace moba

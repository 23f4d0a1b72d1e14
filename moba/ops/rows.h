/* Rows: some rows of a matrix side by side, and back to their places. The output layer computes logits only for the
   tokens whose targets count.

   Math     gather   y[i,:] = x[row[i],:]
            scatter  dx[row[i],:] = dy[i,:], all other rows 0      (the backward of gather)
   Shapes   x, dx (M, C) E · y, dy (R, C) E · row (R) int, ascending, none twice. Nothing may alias.
   Units    row: index into x
   Needs    0 <= row < M
   Error    exact
   Cost     2*R*C elements, scatter M*C more; memory bound */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct RowsShape {
    int R, M, C;
};

template <class E>
void gather_rows_cpu(const Ctx&, E* y, const E* x, const int* row, RowsShape);
template <class E>
void scatter_rows_cpu(const Ctx&, E* dx, const E* dy, const int* row, RowsShape);

template <class E>
void gather_rows_gpu(const Ctx&, E* y, const E* x, const int* row, RowsShape);
template <class E>
void scatter_rows_gpu(const Ctx&, E* dx, const E* dy, const int* row, RowsShape);

}  // namespace moba

/* Rows: gathers some rows of a matrix into a smaller matrix, and scatters them back. The output layer uses it
   to compute logits only for tokens whose target counts.

   Math     gather   y[i,:] = x[row[i],:]
            scatter  dx[row[i],:] = dy[i,:], all other rows 0      (the backward pass of gather)
   Shapes   x, dx (M, C) E · y, dy (R, C) E · row (R) int, scatter: strictly ascending. Nothing may alias.
   Units    row: index of a row of x
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

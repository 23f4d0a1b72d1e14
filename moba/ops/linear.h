/* Linear: a matrix product with a weight, no bias.

   Source   torch.nn.Linear; weights stored as there, (outputs, inputs)
   Math     y[m,o]   = sum_i x[m,i] w[o,i]
            backward:  dx[m,i] = sum_o dy[m,o] w[o,i]     dw[o,i] += sum_m dy[m,o] x[m,i]
   Shapes   x, dx (M, I) E · w (O, I) E · y (M, O) Out, dy (M, O) E · dw (O, I) acc_t<E>. Nothing may alias.
            Out is E, or acc_t<E> for logits.
   Units    -
   Needs    M, I, O >= 1; by hand on the GPU at most 65535 tiles of rows: M (dw: O) <= 16, 32, 64 * 65535 by version; workspace of
            linear_workspace_bytes_cpu: cuBLASLt gets no more, so nothing else decides which algorithm it takes
   Error    fp32 against fp64: about sqrt(k) * 2^-24 relative to the largest value, k the length of the sum (measured 6e-7)
   Cost     2*M*I*O flop each; bound by arithmetic from I, O of about 64 on
   Order    fixed by the shapes. dw sums rows in up to 32 splits of at least 512 rows, added in order. */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct LinearShape {
    int M, I, O;
};

template <class E, class Out>
void linear_forward_cpu(const Ctx&, Out* y, const E* x, const E* w, LinearShape);
/* dx = ..., or dx += ... with add. */
template <class E>
void linear_backward_input_cpu(const Ctx&, E* dx, const E* dy, const E* w, LinearShape, bool add);
template <class E>
void linear_backward_weight_cpu(const Ctx&, acc_t<E>* dw, const E* dy, const E* x, LinearShape);

template <class E>
size_t linear_workspace_bytes_cpu(LinearShape);

/* By hand: 1 naive, 2 shared-memory tiles, 3 register tiles; 4 cuBLASLt. */
template <class E, class Out>
void linear_forward_gpu(const Ctx&, Out* y, const E* x, const E* w, LinearShape);
template <class E>
void linear_backward_input_gpu(const Ctx&, E* dx, const E* dy, const E* w, LinearShape, bool add);
template <class E>
void linear_backward_weight_gpu(const Ctx&, acc_t<E>* dw, const E* dy, const E* x, LinearShape);
template <class E>
size_t linear_workspace_bytes_gpu(LinearShape);

}  // namespace moba

/* Linear: a matrix product with a weight, no bias.

   Source   torch.nn.Linear; weights are stored in the same layout, (outputs, inputs)
   Math     y[m,o]   = sum_i x[m,i] w[o,i]
            backward:  dx[m,i] = sum_o dy[m,o] w[o,i]     dw[o,i] += sum_m dy[m,o] x[m,i]
   Shapes   x, dx (M, I) E · w (O, I) E · y (M, O) Out, dy (M, O) E · dw (O, I) acc_t<E>. Nothing may alias.
            Out is E, or acc_t<E> for logits.
   Units    -
   Needs    I, O >= 1; M >= 0: with M = 0 nothing is written. GPU versions 1, 2, 3: M (dw: O) <= 16, 32, 64 *
            65535, that is 65535 tiles of rows; workspace of linear_workspace_bytes_cpu or _gpu. cuBLASLt
            never gets more than that, so that no other operation changes its choice of an algorithm
   Error    fp32 against fp64: about sqrt(k) * 2^-24 relative to the largest value, for sums of length k
            (measured 6e-7)
   Cost     2*M*I*O flop each; compute bound if I and O are about 64 or more
   Order    fixed by the shapes. On the CPU dw: up to 32 partial sums of at least 512 rows, added in order;
            y of a single row (M = 1): dot products, four_dots in tile.h, also in a build with a BLAS */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct LinearShape {
    int M, I, O;
};

template <class E, class Out>
void linear_forward_cpu(const Ctx&, Out* y, const E* x, const E* w, LinearShape);
template <class E>
void linear_backward_input_cpu(const Ctx&, E* dx, const E* dy, const E* w, LinearShape);
template <class E>
void linear_backward_weight_cpu(const Ctx&, acc_t<E>* dw, const E* dy, const E* x, LinearShape);

template <class E>
size_t linear_workspace_bytes_cpu(LinearShape);

/* Versions: 1 naive, 2 tiles in shared memory, 3 tiles in registers, 4 cuBLASLt. */
template <class E, class Out>
void linear_forward_gpu(const Ctx&, Out* y, const E* x, const E* w, LinearShape);
template <class E>
void linear_backward_input_gpu(const Ctx&, E* dx, const E* dy, const E* w, LinearShape);
template <class E>
void linear_backward_weight_gpu(const Ctx&, acc_t<E>* dw, const E* dy, const E* x, LinearShape);
template <class E>
size_t linear_workspace_bytes_gpu(LinearShape);

}  // namespace moba

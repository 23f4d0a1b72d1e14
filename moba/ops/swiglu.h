/* SwiGLU: one projection gates the other. (The three projections of the MLP are computed by linear.h.)

   Source   Shazeer 2020, arXiv:2002.05202, eq. 6, without biases
   Math     y = SiLU(gate) up,  SiLU(x) = x / (1 + e^-x)
            backward, with s = 1 / (1 + e^-gate):
            dgate = dy up s (1 + gate (1 - s))          dup = dy gate s
   Shapes   y, dy (M, F) E · gate, up, dgate, dup (M, F) E, rows `stride` elements apart: one matrix product
            computes gate and up side by side, (M, 2F). dgate may alias gate, dup may alias up.
   Needs    stride >= F
   Error    fp32 against fp64: 4.4e-7 relative to the largest value (measured 2.2e-7; on the CPU with fast_exp
            of parallel.h)
   Cost     forward 3*M*F elements, backward 5*M*F; memory bound */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct SwigluShape {
    int M, F;
    size_t stride;
    size_t n() const { return (size_t)M * F; }
};

template <class E>
void swiglu_forward_cpu(const Ctx&, E* y, const E* gate, const E* up, SwigluShape);
template <class E>
void swiglu_backward_cpu(const Ctx&, E* dgate, E* dup, const E* dy, const E* gate, const E* up, SwigluShape);

template <class E>
void swiglu_forward_gpu(const Ctx&, E* y, const E* gate, const E* up, SwigluShape);
template <class E>
void swiglu_backward_gpu(const Ctx&, E* dgate, E* dup, const E* dy, const E* gate, const E* up, SwigluShape);

}  // namespace moba

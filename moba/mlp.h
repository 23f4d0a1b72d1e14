/* SwiGLU: one projection gates the other. (The three projections of the MLP are linear's.)

   Source   Shazeer 2020, arXiv:2002.05202, eq. 6, without biases
   Math     y = SiLU(gate) up,  SiLU(x) = x / (1 + e^-x)
            backward, with s = 1 / (1 + e^-gate):
            dgate = dy up s (1 + gate (1 - s))          dup = dy gate s
   Shapes   all (n) E. dgate may alias gate and dup may alias up.
   Needs    -
   Error    fp32 against fp64: 4.4e-7 relative to the largest value (measured 2.2e-7; the exponential is parallel.h's)
   Cost     forward 3*n elements, backward 5*n; memory bound */
#pragma once
#include "moba/base.h"

template <class E>
void swiglu_forward_cpu(const Ctx&, E* y, const E* gate, const E* up, size_t n);
template <class E>
void swiglu_backward_cpu(const Ctx&, E* dgate, E* dup, const E* dy, const E* gate, const E* up, size_t n);

template <class E>
void swiglu_forward_gpu(const Ctx&, E* y, const E* gate, const E* up, size_t n);
template <class E>
void swiglu_backward_gpu(const Ctx&, E* dgate, E* dup, const E* dy, const E* gate, const E* up, size_t n);

/* AdamW with clipping by the global norm, over all weights at once.

   Source   Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2; decay as in PyTorch (scaled by the learning rate)
   Math     norm = sqrt(sum g^2) over all weights;  g <- g min(1, clip / (norm + 1e-6))     (clip = 0: no clipping)
            m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2
            w <- w - lr (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + decay w),   lr = learning_rate * lr_factor
            A norm that is not finite changes nothing: the caller sees it and stops with good weights.
   Shapes   w, m, v, g: one allocation each with the same layout, acc_t<E>; ranges: the tensors in it, by element.
            w_low (same layout) E: the copy the kernels read where E is narrower than w, else null
   Units    t = StepState.step, from 1
   Needs    ranges ascending, none over another; gradients outside every range are 0 (the padding between tensors)
   Error    fp32 against fp64 over a few steps, relative to the largest: w 1.8e-6, moments 8e-7 (measured 9e-7, 4e-7)
   Cost     7 reads and writes of every weight; memory bound
   Order    norm: sums over 4096 elements in double, added in order */
#pragma once
#include "moba/core/base.h"
#include "moba/ops/residual.h"

namespace moba {

struct ParamRange {
    size_t begin, count;  // elements
    float lr_factor;
    float decay;
};

struct AdamWShape {
    size_t n;  // elements in all, padding included
    double beta1, beta2, eps, clip;
};

template <class A>
void grad_norm_cpu(const Ctx&, A* norm, const A* g, size_t n);
template <class E>
void adamw_cpu(const Ctx&, acc_t<E>* w, E* w_low, acc_t<E>* m, acc_t<E>* v, const acc_t<E>* g,
               const acc_t<E>* norm, const ParamRange* ranges, int num_ranges, const StepState*, AdamWShape);

template <class A>
size_t grad_norm_workspace_bytes_cpu(size_t n);

template <class A>
void grad_norm_gpu(const Ctx&, A* norm, const A* g, size_t n);
template <class E>
void adamw_gpu(const Ctx&, acc_t<E>* w, E* w_low, acc_t<E>* m, acc_t<E>* v, const acc_t<E>* g,
               const acc_t<E>* norm, const ParamRange* ranges, int num_ranges, const StepState*, AdamWShape);
template <class A>
size_t grad_norm_workspace_bytes_gpu(size_t n);

}  // namespace moba

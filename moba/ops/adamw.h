/* AdamW for all weights in one call, with clipping by the global gradient norm.

   Source   Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2; weight decay is scaled by the learning
            rate, as in PyTorch
   Math     sums[c] = sum g^2 over chunk c, of 4096 elements;  norm = sqrt(sum sums[c])
            g <- g min(1, clip / (norm + 1e-6))                   (clip = 0: no clipping)
            m <- b1 m + (1-b1) g;  v <- b2 v + (1-b2) g^2
            w <- w - lr (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + decay w),  lr = learning_rate * lr_factor
            If the norm is not finite, nothing changes: the caller sees the norm and can stop with good
            weights.
   Shapes   sums (square_sums_count(n)) double: of one call, or of several, one after another. So ranks that
            have different weights only exchange their sums
            w, m, v, g: acc_t<E>, each contiguous, all with the same layout
            ranges: the tensors in this layout, counted in elements
            w_low (same layout) E: the copy of w that the other operations read if E is narrower than
            acc_t<E>, else null
   Units    t = StepState.step, which starts at 1
   Needs    ranges ascending and not overlapping; gradients outside all ranges (padding between tensors) are 0
   Error    fp32 against fp64 over a few steps, relative to the largest value: w 1.8e-6, moments 8e-7
            (measured 9e-7, 4e-7)
   Cost     7 reads and writes of every weight; memory bound
   Order    both sums are in double, in a fixed order */
#pragma once
#include "moba/ops/step_state.h"

namespace moba {

struct ParamRange {
    size_t begin, count;  // elements
    float lr_factor;
    float decay;
};

struct AdamWShape {
    size_t n;  // number of elements, including padding
    double beta1, beta2, eps, clip;
};

constexpr size_t norm_chunk = 4096;  // elements
inline size_t square_sums_count(size_t n) { return ceil_div(n, norm_chunk); }

template <class A>
void square_sums_cpu(const Ctx&, double* sums, const A* g, size_t n);
template <class A>
void grad_norm_cpu(const Ctx&, A* norm, const double* sums, size_t count);
template <class E>
void adamw_cpu(const Ctx&, acc_t<E>* w, E* w_low, acc_t<E>* m, acc_t<E>* v, const acc_t<E>* g,
               const acc_t<E>* norm, const ParamRange* ranges, int num_ranges, const StepState*, AdamWShape);

template <class A>
void square_sums_gpu(const Ctx&, double* sums, const A* g, size_t n);
template <class A>
void grad_norm_gpu(const Ctx&, A* norm, const double* sums, size_t count);
template <class E>
void adamw_gpu(const Ctx&, acc_t<E>* w, E* w_low, acc_t<E>* m, acc_t<E>* v, const acc_t<E>* g,
               const acc_t<E>* norm, const ParamRange* ranges, int num_ranges, const StepState*, AdamWShape);

}  // namespace moba

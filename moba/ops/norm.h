/* RMSNorm: scales every row to root mean square 1, then multiplies each channel by a weight.

   Source   Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4; eps inside the root, as in Llama
   Math     r[m]   = 1 / sqrt(mean_c x[m,c]^2 + eps)          y[m,c] = x[m,c] r[m] w[c]
            backward, with g = dy w and h = x r:
            dx[m,c] += r (g[c] - h[c] mean_c(g h))            dw[c] += sum_m dy[m,c] h[m,c]
            residual_norm: y = x + mask b / (1-p) (residual.h), norm = RMSNorm of y as stored. y and norm have
            the same bits as from the two operations one after the other; its backward pass is theirs.
   Shapes   x, y, dx, dy (M, C) E · w (C) E · rstd (M) acc_t<E>, r saved for the backward · dw (C) acc_t<E>.
            dx already holds the gradient of the residual path around the norm. y may alias x, dx aliases
            nothing.
            residual_norm: x, b, y, norm (M, C) E; y may alias x, norm aliases nothing
   Units    eps in squared units of x
   Needs    C >= 1; backward: workspace of norm_workspace_bytes_cpu or _gpu; residual_norm: n of the
            DropoutShape = M*C
   Error    fp32 against fp64, relative to the largest value: y and dx 4e-7, dw 1.2e-6 (measured 1.8e-7 and
            3.6e-7)
   Cost     forward 2*M*C elements; backward 4*M*C (on the GPU 6*M*C, because dw reads dy and x again);
            residual_norm 4*M*C (5*M*C as two operations); memory bound
   Order    dw: partial sums of 256 rows on the CPU; on the GPU of 64 rows, or of more if 64 would give more
            than 256 partial sums; added in a fixed order */
#pragma once
#include "moba/ops/residual.h"

namespace moba {

struct NormShape {
    int M, C;
    float eps;
};

template <class E>
void norm_forward_cpu(const Ctx&, E* y, acc_t<E>* rstd, const E* x, const E* w, NormShape);
template <class E>
void residual_norm_forward_cpu(const Ctx&, E* y, E* norm, acc_t<E>* rstd, const E* x, const E* b, const E* w,
                               const StepState*, DropoutShape, NormShape);
template <class E>
void norm_backward_cpu(const Ctx&, E* dx, acc_t<E>* dw, const E* dy, const E* x, const E* w,
                       const acc_t<E>* rstd, NormShape);

template <class E>
size_t norm_workspace_bytes_cpu(NormShape);

template <class E>
void norm_forward_gpu(const Ctx&, E* y, acc_t<E>* rstd, const E* x, const E* w, NormShape);
template <class E>
void residual_norm_forward_gpu(const Ctx&, E* y, E* norm, acc_t<E>* rstd, const E* x, const E* b, const E* w,
                               const StepState*, DropoutShape, NormShape);
template <class E>
void norm_backward_gpu(const Ctx&, E* dx, acc_t<E>* dw, const E* dy, const E* x, const E* w,
                       const acc_t<E>* rstd, NormShape);
template <class E>
size_t norm_workspace_bytes_gpu(NormShape);

}  // namespace moba

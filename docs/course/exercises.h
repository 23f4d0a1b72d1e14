/* The exercises of the course (docs/course.md): each file beside this one has a kernel that is right and slow.
   Make it faster; `make judge OP=norm` says whether it is still right, and what it costs beside the kernels of
   the project. E is float or bf16; sums are in fp32. */
#pragma once
#include "moba/core/base.h"
#include "moba/ops/linear.h"
#include "moba/ops/norm.h"
#include "moba/ops/swiglu.h"

namespace moba {

// y[m,f] = gate u / (1 + e^-gate): gate, up (M, s.stride), of which s.F columns are used; y (M, F)
template <class E>
void my_swiglu(const Ctx&, E* y, const E* gate, const E* up, SwigluShape s);

// y[m,c] = x[m,c] rstd[m] w[c], rstd[m] = 1 / sqrt(mean of x[m,:]^2 + eps): x, y (M, C); w (C); rstd (M)
template <class E>
void my_norm(const Ctx&, E* y, float* rstd, const E* x, const E* w, NormShape s);

// y[m,o] = sum over i of x[m,i] w[o,i]: x (M, I); w (O, I); y (M, O)
template <class E>
void my_linear(const Ctx&, E* y, const E* x, const E* w, LinearShape s);

// out[t,h] = the mean of v[j,h], j <= t, weighted by e^(<q[t,h], k[j,h]> / sqrt(D)): all (T, H, D); D <= 128
template <class E>
void my_attention(const Ctx&, E* out, const E* q, const E* k, const E* v, int T, int H, int D);

}  // namespace moba

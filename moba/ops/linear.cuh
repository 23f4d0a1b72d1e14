/* The matrix product that computes all three operations of linear.h. Included by .cu files only. */
#pragma once
#include "moba/core/device.cuh"
#include "moba/ops/linear.h"

namespace moba {

/* C[m,n] = sum_k A[m*am + k*ak] B[k*bk + n*bn], C row-major. A transposed operand only has other strides. */
template <class E, class Out>
struct Product {
    Out* c;
    const E *a, *b;
    int M, N, K;
    size_t am, ak, bk, bn;
    bool add;  // C += A B instead of C = A B
};

/* The best version on this machine: 4 with cuBLASLt, else 3. The first call tries to load the library. */
#ifdef SIMT_CPU
constexpr int best_linear_version() { return 3; }
#else
int best_linear_version();
/* Version 4. Works without a workspace, but is faster with one. */
template <class E, class Out>
void product_cublaslt(const Ctx&, const Product<E, Out>&);
#endif

}  // namespace moba

/* The one product that all three of linear.h are. Included by .cu files only. */
#pragma once
#include "moba/core/device.cuh"
#include "moba/ops/linear.h"

namespace moba {

/* C (m,n) = sum_k A[m*am + k*ak] B[k*bk + n*bn], row after row; a transposed operand is another pair of strides. */
template <class E, class Out>
struct Product {
    Out* c;
    const E *a, *b;
    int M, N, K;
    size_t am, ak, bk, bn;
    bool add;  // C += instead of C =
};

/* The best version that this machine can run: 4 with cuBLASLt, else 3. The first call looks for the library. */
#ifdef SIMT_CPU
constexpr int best_linear_version() { return 3; }
#else
int best_linear_version();
/* Version 4. Needs nothing of the workspace, but is faster with some. */
template <class E, class Out>
void product_cublaslt(const Ctx&, const Product<E, Out>&);
#endif

}  // namespace moba

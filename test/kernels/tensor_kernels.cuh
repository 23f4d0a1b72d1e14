/* What the .cu files of tensor_kernels.h share. */
#pragma once
#include "moba/core/tensor.cuh"
#include "test/kernels/tensor_kernels.h"

namespace moba {

namespace tensor_kernels {

/* Whether a kernel asked to make `wrong` makes this mistake. GPUs have no code for any. */
__device__ constexpr bool makes([[maybe_unused]] Mistake wrong, [[maybe_unused]] Mistake mistake) {
#ifdef SIMT_CPU
    return wrong == mistake;
#else
    return false;
#endif
}

}  // namespace tensor_kernels

}  // namespace moba

/* Shared by the .cu files of tensor_kernels.h. */
#pragma once
#include "moba/core/tensor.cuh"
#include "test/kernels/tensor_kernels.h"

namespace moba {

namespace tensor_kernels {

/* Whether a kernel that was asked to make `wrong` makes this mistake. Code for mistakes exists only on the
   simulator. */
__device__ constexpr bool makes([[maybe_unused]] Mistake wrong, [[maybe_unused]] Mistake mistake) {
#ifdef SIMT_CPU
    return wrong == mistake;
#else
    return false;
#endif
}

}  // namespace tensor_kernels

}  // namespace moba

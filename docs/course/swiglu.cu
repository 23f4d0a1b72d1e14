/* Exercise of lessons 1 and 2. A thread computes one element. Let it compute a pack of 16 bytes: load_pack and
   store_pack in moba/core/device.cuh. What if F is odd? */
#include "docs/course/exercises.h"
#include "moba/core/device.cuh"

namespace moba {

template <class E>
__global__ void my_swiglu_kernel(E* y, const E* gate, const E* up, SwigluShape s) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= s.M * s.F) { return; }
    const int m = i / s.F, f = i % s.F;
    const float g = gate[m * s.stride + f], u = up[m * s.stride + f];
    y[i] = E(g * u / (1 + expf(-g)));
}

template <class E>
void my_swiglu(const Ctx& ctx, E* y, const E* gate, const E* up, SwigluShape s) {
    const int threads = 256;
    launch(my_swiglu_kernel<E>, blocks_for(s.M * s.F, threads), threads, 0, ctx.stream, y, gate, up, s);
}
INSTANTIATE(my_swiglu)

}  // namespace moba

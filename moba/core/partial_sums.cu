/* add_partials, the last step of several operations: adds their partial sums. Contract: device.cuh. */
#include "moba/core/device.cuh"

namespace moba {

/* Maps     a block of 8 warps -> 32 elements; a lane -> an element; a warp -> every 8th of its partial sums
   Memory   coalesced along the elements
   Sync     one barrier after the 8 warps have stored their sums; then the first warp adds these in order */
__global__ static void add_partials_kernel(float* __restrict__ out, const float* __restrict__ partial,
                                           int count, int n) {
    __shared__ float of_warp[8][warp_size];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size,
              i = blockIdx.x * warp_size + lane;
    float sum = 0;
    for (int p = warp; p < count && i < n; p += 8) { sum += partial[(size_t)p * n + i]; }
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || i >= n) { return; }
    for (int w = 1; w < 8; w++) { sum += of_warp[w][lane]; }
    out[i] += sum;
}

void add_partials(const Ctx& ctx, float* out, const float* partial, int count, int n) {
    launch(add_partials_kernel, blocks_for(n, warp_size), 8 * warp_size, 0, ctx.stream, out, partial, count,
           n);
    LAUNCHED(ctx);
}

}  // namespace moba

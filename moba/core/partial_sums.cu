/* add_partials, the last step of several operations: adds their partial sums. Contract: device.cuh. */
#include "moba/core/device.cuh"

namespace moba {

static const int warps = 8;  // of a thread block

/* Maps     a block of 8 warps -> 32 elements; a lane -> an element; a warp -> every 8th of its partial sums
   Memory   coalesced along the elements
   Sync     one barrier after the 8 warps have stored their sums; then the first warp adds these in order */
__global__ static void add_partials_kernel(float* __restrict__ out, const float* __restrict__ partial,
                                           int count, int n) {
    __shared__ float of_warp[warps][warp_size];  // each warp's sum of each element
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size,
              i = blockIdx.x * warp_size + lane;
    float sum = 0;
    for (int p = warp; p < count && i < n; p += warps) { sum += partial[(size_t)p * n + i]; }
    of_warp[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || i >= n) { return; }
    for (int w = 1; w < warps; w++) { sum += of_warp[w][lane]; }
    out[i] += sum;
}

void add_partials(const Ctx& ctx, float* out, const float* partial, int count, int n) {
    launch(add_partials_kernel, blocks_for(n, warp_size), warps * warp_size, 0, ctx.stream, out, partial,
           count, n);
    LAUNCHED(ctx);
}

}  // namespace moba

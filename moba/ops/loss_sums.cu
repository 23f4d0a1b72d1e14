/* Sums of losses on the GPU. Contract: loss_sums.h; definition: loss_sums.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/loss_sums.h"

namespace moba {

static const int sum_threads = 1024;

/* Maps     one block of 1024 threads; a thread -> every 1024th token
   Memory   coalesced; one sum per warp in shared memory
   Sync     one barrier after the warps have stored their sums; then the first warp adds them */
__global__ static void __launch_bounds__(sum_threads)
    loss_sums_kernel(double* sums, const float* loss, const int* correct, int M) {
    constexpr int warps = sum_threads / warp_size;
    // Each warp's sums
    __shared__ double loss_of_warp[warps];
    __shared__ int right_of_warp[warps];
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    double sum = 0;
    int right = 0;
    for (int m = threadIdx.x; m < M; m += sum_threads) {
        sum += (double)loss[m];
        right += correct[m];
    }
    sum = warp_sum(sum);
    right = warp_sum(right);
    if (lane == 0) {
        loss_of_warp[warp] = sum;
        right_of_warp[warp] = right;
    }
    __syncthreads();
    if (warp > 0) { return; }
    sum = warp_sum(loss_of_warp[lane]);
    right = warp_sum(right_of_warp[lane]);
    if (lane == 0) {
        sums[0] += sum;
        sums[1] += (double)right;
    }
}

template <>
void loss_sums_gpu(const Ctx& ctx, double* sums, const float* loss, const int* correct, int M) {
    launch(loss_sums_kernel, 1, sum_threads, 0, ctx.stream, sums, loss, correct, M);
    LAUNCHED(ctx);
}

}  // namespace moba

/* AdamW and the global gradient norm on the GPU. Contract: adamw.h; definition: adamw.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/adamw.h"
#include <climits>

namespace moba {

static const int chunk_threads = 256, norm_threads = 1024;  // threads of a block; norm_threads: norm_kernel
static const int chunk = (int)norm_chunk;  // elements per thread block, in AdamW and in a sum of squares
constexpr int at_once = 4;    // elements that a thread of AdamW loads before it uses the first one
constexpr int in_flight = 8;  // elements that a thread of the norm loads before it uses the first one

/* partial[b] = sum of g^2 over a chunk, in double
   Maps     a block of 256 threads -> a chunk, a thread -> every 256th element
   Memory   coalesced; a thread loads 8 elements before it adds the first one
   Sync     the barriers of block_tree_sum, after every step of the tree */
__global__ static void square_sum_kernel(double* partial, const float* g, size_t n) {
    __shared__ double of_thread[chunk_threads];  // each thread's sum
    const size_t begin = (size_t)blockIdx.x * chunk;
    const int end = (int)min((size_t)chunk, n - begin);
    double mine = 0;
    for (int i = threadIdx.x; i < end; i += in_flight * blockDim.x) {
        float x[in_flight];
#pragma unroll
        for (int j = 0; j < in_flight; j++) {
            const int at = i + j * blockDim.x;
            x[j] = at < end ? g[begin + at] : 0.f;
        }
#pragma unroll
        for (int j = 0; j < in_flight; j++) { mine += (double)x[j] * x[j]; }
    }
    const double sum = block_tree_sum(mine, of_thread);
    if (threadIdx.x == 0) { partial[blockIdx.x] = sum; }
}

/* norm = sqrt of the sum of the partial sums
   Maps     one block of 1024 threads; a thread -> every 1024th partial sum
   Memory   as above. This is the only block, so it keeps 8192 loads in flight to hide latency
   Sync     as above */
__global__ static void norm_kernel(float* norm, const double* partial, int count) {
    __shared__ double of_thread[norm_threads];  // each thread's sum
    double mine = 0;
    for (int i = threadIdx.x; i < count; i += in_flight * blockDim.x) {
        double x[in_flight];
#pragma unroll
        for (int j = 0; j < in_flight; j++) {
            const int at = i + j * blockDim.x;
            x[j] = at < count ? partial[at] : 0.0;
        }
#pragma unroll
        for (int j = 0; j < in_flight; j++) { mine += x[j]; }
    }
    const double sum = block_tree_sum(mine, of_thread);
    if (threadIdx.x == 0) { *norm = (float)sqrt(sum); }
}

namespace {

struct AdamWStep {
    float b1, b2, rest1, rest2, eps, clip;
    double log_beta1, log_beta2;
};

/* 1 / (1 - beta^step). Since beta^step = e^(step log beta), the difference is -expm1f(step log beta). This
   needs no pow in double and loses no digits when beta^step is near 1. Relative error at most 3e-7. */
__device__ float correction(double log_beta, const StepState* state) {
    return -1 / expm1f((float)(state->step * log_beta));
}

}  // namespace

/* Maps     a block of 256 threads -> a chunk of all elements, a thread -> every 256th element; elements
            between two ranges are skipped. All threads together find the range in which the chunk begins:
            each checks every 256th range. (In a bisection every load would have to wait for the one before
            it.)
   Memory   coalesced; each number is read and written once; a thread has 16 loads in flight. The step, the
            norm and the ranges are in device memory, so that a recorded step can be replayed
   Sync     one barrier after a thread has written `first` */
template <class E>
__global__ void __launch_bounds__(chunk_threads, 4)
    adamw_kernel(float* __restrict__ w, E* __restrict__ w_low, float* __restrict__ m, float* __restrict__ v,
                 const float* __restrict__ g, const float* __restrict__ norm,
                 const ParamRange* __restrict__ ranges, int num_ranges, const StepState* __restrict__ state,
                 size_t n, AdamWStep s) {
    // The last range that begins at or before the chunk; range 0 if there is none.
    __shared__ int first;
    if (!isfinite(*norm)) { return; }
    const size_t begin = (size_t)blockIdx.x * chunk, end = min(n, begin + chunk);
    for (int r = threadIdx.x; r < num_ranges; r += blockDim.x) {
        const bool begun = r == 0 || ranges[r].begin <= begin;
        // True for one thread only.
        if (begun && (r + 1 == num_ranges || ranges[r + 1].begin > begin)) { first = r; }
    }
    const float scale = s.clip > 0 ? fminf(1.f, s.clip / (*norm + 1e-6f)) : 1.f;
    const float correct1 = correction(s.log_beta1, state), correct2 = correction(s.log_beta2, state);
    __syncthreads();
    int at = first;
    for (size_t i0 = begin + threadIdx.x; i0 < end; i0 += at_once * blockDim.x) {
        float grads[at_once], means[at_once], squares[at_once], weights[at_once];
#pragma unroll
        for (int j = 0; j < at_once; j++) {
            size_t i = i0 + j * blockDim.x;
            // Past the end, load the first element again: a branch would make the loads wait.
            if (i >= end) { i = i0; }
            grads[j] = g[i], means[j] = m[i], squares[j] = v[i], weights[j] = w[i];
        }
#pragma unroll
        for (int j = 0; j < at_once; j++) {
            const size_t i = i0 + j * blockDim.x;
            if (i >= end) { break; }
            while (at + 1 < num_ranges && ranges[at + 1].begin <= i) { at++; }
            const ParamRange range = ranges[at];
            if (i < range.begin || i >= range.begin + range.count) { continue; }
            const float lr = (float)(state->learning_rate * range.lr_factor), grad = grads[j] * scale;
            const float mean = s.b1 * means[j] + s.rest1 * grad,
                        square = s.b2 * squares[j] + s.rest2 * grad * grad;
            float weight = weights[j];
            weight -= lr * (mean * correct1 / (sqrtf(square * correct2) + s.eps) + range.decay * weight);
            m[i] = mean;
            v[i] = square;
            w[i] = weight;
            if (w_low) { w_low[i] = E(weight); }
        }
    }
}

template <class A>
void square_sums_gpu(const Ctx& ctx, double* sums, const A* g, size_t n) {
    choose_version(ctx, 1);
    launch(square_sum_kernel, blocks_for(n, chunk), chunk_threads, 0, ctx.stream, sums, g, n);
    LAUNCHED(ctx);
}

template <class A>
void grad_norm_gpu(const Ctx& ctx, A* norm, const double* sums, size_t count) {
    REQUIRE(count <= INT_MAX, "%zu sums", count);
    choose_version(ctx, 1);
    launch(norm_kernel, 1, norm_threads, 0, ctx.stream, norm, sums, (int)count);
    LAUNCHED(ctx);
}

template <class E>
void adamw_gpu(const Ctx& ctx, acc_t<E>* w, E* w_low, acc_t<E>* m, acc_t<E>* v, const acc_t<E>* g,
               const acc_t<E>* norm, const ParamRange* ranges, int num_ranges, const StepState* state,
               AdamWShape s) {
    REQUIRE(num_ranges >= 1, "%d ranges", num_ranges);
    choose_version(ctx, 1);
    const AdamWStep step{(float)s.beta1, (float)s.beta2, (float)(1 - s.beta1), (float)(1 - s.beta2),
                         (float)s.eps,   (float)s.clip,  std::log(s.beta1),    std::log(s.beta2)};
    launch(adamw_kernel<E>, blocks_for(s.n, chunk), chunk_threads, 0, ctx.stream, w, w_low, m, v, g, norm,
           ranges, num_ranges, state, s.n, step);
    LAUNCHED(ctx);
}

INSTANTIATE(adamw_gpu)
INSTANTIATE_ONE(grad_norm_gpu, float)
INSTANTIATE_ONE(square_sums_gpu, float)

}  // namespace moba

/* AdamW and the global norm on the GPU. Contract: adamw.h; definition: adamw.cpp. */
#include "moba/adamw.h"
#include "moba/device.cuh"

static const int chunk = 4096;  // elements of a block: of one partial sum of the norm, and of AdamW

/* partial[b] = sum of g^2 over a chunk, in double
   Maps     a block of 256 threads -> a chunk, a thread -> every 256th element
   Sync     a barrier after every step of the tree, which adds in the same order whatever comes first */
__global__ static void square_sum_kernel(double* partial, const float* g, size_t n) {
    __shared__ double sum[256];
    const size_t begin = (size_t)blockIdx.x * chunk, end = min(n, begin + chunk);
    double mine = 0;
    for (size_t i = begin + threadIdx.x; i < end; i += blockDim.x) { mine += (double)g[i] * g[i]; }
    sum[threadIdx.x] = mine;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) { sum[threadIdx.x] += sum[threadIdx.x + half]; }
        __syncthreads();
    }
    if (threadIdx.x == 0) { partial[blockIdx.x] = sum[0]; }
}

/* norm = sqrt of the sum of the partial sums. Maps: one block; as above */
__global__ static void norm_kernel(float* norm, const double* partial, int count) {
    __shared__ double sum[256];
    double mine = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) { mine += partial[i]; }
    sum[threadIdx.x] = mine;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) { sum[threadIdx.x] += sum[threadIdx.x + half]; }
        __syncthreads();
    }
    if (threadIdx.x == 0) { *norm = (float)sqrt(sum[0]); }
}

struct AdamWStep {
    float b1, b2, rest1, rest2, eps, clip;
    double beta1, beta2;
};

// The last range that begins at or before element i; the first where none does.
__device__ static int range_of(const ParamRange* ranges, int num_ranges, size_t i) {
    int low = 0, high = num_ranges;  // low begins there or is the first, high begins behind
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        (ranges[middle].begin <= i ? low : high) = middle;
    }
    return low;
}

/* Maps     a block of 256 threads -> a chunk of all elements, a thread -> every 256th; what lies between two ranges is skipped
   Memory   coalesced, each number read and written once; the step, the norm and the ranges come from device memory, so that a
            captured step can be replayed
   Sync     one barrier behind what is the same for the chunk: the powers are in double, and one thread makes them */
template <class E>
__global__ void adamw_kernel(float* __restrict__ w, E* __restrict__ w_low, float* __restrict__ m,
                             float* __restrict__ v, const float* __restrict__ g,
                             const float* __restrict__ norm, const ParamRange* __restrict__ ranges,
                             int num_ranges, const StepState* __restrict__ state, size_t n, AdamWStep s) {
    __shared__ float correct[2];
    __shared__ int first;
    if (!isfinite(*norm)) { return; }
    const size_t begin = (size_t)blockIdx.x * chunk, end = min(n, begin + chunk);
    if (threadIdx.x == 0) {
        correct[0] = (float)(1 / (1 - pow(s.beta1, (double)state->step)));
        correct[1] = (float)(1 / (1 - pow(s.beta2, (double)state->step)));
        first = range_of(ranges, num_ranges, begin);
    }
    __syncthreads();
    const float scale = s.clip > 0 ? fminf(1.f, s.clip / (*norm + 1e-6f)) : 1.f;
    const float correct1 = correct[0], correct2 = correct[1];
    int at = first;
    for (size_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        while (at + 1 < num_ranges && ranges[at + 1].begin <= i) { at++; }
        const ParamRange range = ranges[at];
        if (i < range.begin || i >= range.begin + range.count) { continue; }
        const float lr = (float)(state->learning_rate * range.lr_factor), grad = g[i] * scale;
        const float mean = s.b1 * m[i] + s.rest1 * grad, square = s.b2 * v[i] + s.rest2 * grad * grad;
        float weight = w[i];
        weight -= lr * (mean * correct1 / (sqrtf(square * correct2) + s.eps) + range.decay * weight);
        m[i] = mean;
        v[i] = square;
        w[i] = weight;
        if (w_low) { w_low[i] = E(weight); }
    }
}

template <class A>
size_t grad_norm_workspace_bytes_gpu(size_t n) {
    return ceil_div(n, (size_t)chunk) * sizeof(double);
}

template <class A>
void grad_norm_gpu(const Ctx& ctx, A* norm, const A* g, size_t n) {
    REQUIRE(grad_norm_workspace_bytes_gpu<A>(n) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    choose_version(ctx, 1);
    double* partial = (double*)ctx.workspace;
    const unsigned chunks = blocks_for(n, chunk);
    launch(square_sum_kernel, chunks, 256, 0, ctx.stream, partial, g, n);
    LAUNCHED(ctx);
    launch(norm_kernel, 1, 256, 0, ctx.stream, norm, partial, (int)chunks);
    LAUNCHED(ctx);
}

template <class E>
void adamw_gpu(const Ctx& ctx, acc_t<E>* w, E* w_low, acc_t<E>* m, acc_t<E>* v, const acc_t<E>* g,
               const acc_t<E>* norm, const ParamRange* ranges, int num_ranges, const StepState* state,
               AdamWShape s) {
    REQUIRE(num_ranges >= 1, "%d ranges", num_ranges);
    choose_version(ctx, 1);
    const AdamWStep step{(float)s.beta1,
                         (float)s.beta2,
                         (float)(1 - s.beta1),
                         (float)(1 - s.beta2),
                         (float)s.eps,
                         (float)s.clip,
                         s.beta1,
                         s.beta2};
    launch(adamw_kernel<E>, blocks_for(s.n, chunk), 256, 0, ctx.stream, w, w_low, m, v, g, norm, ranges,
           num_ranges, state, s.n, step);
    LAUNCHED(ctx);
}

#define INSTANTIATE(E)                                                                                       \
    template void adamw_gpu(const Ctx&, acc_t<E>*, E*, acc_t<E>*, acc_t<E>*, const acc_t<E>*,                \
                            const acc_t<E>*, const ParamRange*, int, const StepState*, AdamWShape);
INSTANTIATE(float)
INSTANTIATE(bf16)
template void grad_norm_gpu(const Ctx&, float*, const float*, size_t);
template size_t grad_norm_workspace_bytes_gpu<float>(size_t);

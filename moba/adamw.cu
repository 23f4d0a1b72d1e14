/* AdamW and the global norm on the GPU. Contract: adamw.h; definition: adamw.cpp. */
#include "moba/adamw.h"
#include "moba/device.cuh"
#include <algorithm>

static const int chunk = 4096;  // elements of one partial sum of the norm

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

/* Maps     grid y -> a range (a tensor), a thread -> elements a grid apart
   Memory   coalesced; the step, the norm and the range come from device memory, so that a captured step can be replayed */
template <class E>
__global__ void adamw_kernel(float* w, E* w_low, float* m, float* v, const float* g, const float* norm,
                             const ParamRange* ranges, const StepState* state, AdamWStep s) {
    if (!isfinite(*norm)) { return; }
    const ParamRange range = ranges[blockIdx.y];
    const float scale = s.clip > 0 ? fminf(1.f, s.clip / (*norm + 1e-6f)) : 1.f;
    const float correct1 = (float)(1 / (1 - pow(s.beta1, (double)state->step)));
    const float correct2 = (float)(1 / (1 - pow(s.beta2, (double)state->step)));
    const float lr = (float)(state->learning_rate * range.lr_factor);
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < range.count;
         i += (size_t)gridDim.x * blockDim.x) {
        const size_t o = range.begin + i;
        const float grad = g[o] * scale;
        m[o] = s.b1 * m[o] + s.rest1 * grad;
        v[o] = s.b2 * v[o] + s.rest2 * grad * grad;
        w[o] -= lr * (m[o] * correct1 / (sqrtf(v[o] * correct2) + s.eps) + range.decay * w[o]);
        if (w_low) { w_low[o] = E(w[o]); }
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
    REQUIRE(num_ranges >= 1 && num_ranges <= 65535, "%d ranges", num_ranges);
    const AdamWStep step{(float)s.beta1,
                         (float)s.beta2,
                         (float)(1 - s.beta1),
                         (float)(1 - s.beta2),
                         (float)s.eps,
                         (float)s.clip,
                         s.beta1,
                         s.beta2};
    // As many blocks for each tensor as the largest could use, up to a few for every multiprocessor.
    const unsigned across = (unsigned)std::min<size_t>(64, blocks_for(s.n, 1024));
    launch(adamw_kernel<E>, dim3(across, num_ranges), 256, 0, ctx.stream, w, w_low, m, v, g, norm, ranges,
           state, step);
    LAUNCHED(ctx);
}

#define INSTANTIATE(E)                                                                                       \
    template void adamw_gpu(const Ctx&, acc_t<E>*, E*, acc_t<E>*, acc_t<E>*, const acc_t<E>*,                \
                            const acc_t<E>*, const ParamRange*, int, const StepState*, AdamWShape);
INSTANTIATE(float)
INSTANTIATE(bf16)
template void grad_norm_gpu(const Ctx&, float*, const float*, size_t);
template size_t grad_norm_workspace_bytes_gpu<float>(size_t);

/* Dropout and the residual addition on the GPU. Contract: dropout.h; definition: dropout.cpp. */
#include "moba/device.cuh"
#include "moba/dropout.h"
#include "moba/philox.h"

struct Mask {
    uint32_t threshold;
    float keep;
    uint32_t site;  // the last counter word
};

static Mask mask_of(DropoutShape s) {
    REQUIRE(s.p >= 0 && s.p < 1 && s.n / 4 <= 0xFFFFFFFFull, "p = %g, n = %zu", s.p, s.n);
    return {(uint32_t)((double)s.p * 4294967296.0), (float)(1 / (1 - (double)s.p)),
            (uint32_t)(8 * s.layer + (int)s.site)};
}

// 0 where element i is dropped, 1/(1-p) where it is kept.
__device__ static float factor(const Philox4& r, int word, const Mask& mask) {
    return r.word[word] >= mask.threshold ? mask.keep : 0.f;
}
__device__ static Philox4 draw(const StepState* state, size_t four, const Mask& mask) {
    return philox(state->seed, (uint32_t)four, state->step, state->micro_batch, mask.site);
}

/* y = x + mask b / (1-p); without x: y = mask b / (1-p)
   Maps     a thread -> an element; draws four words and uses one */
template <class E>
__global__ void residual_kernel1(E* y, const E* x, const E* b, const StepState* state, size_t n, Mask mask) {
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) { return; }
    const float f = mask.threshold ? factor(draw(state, i / 4, mask), (int)(i % 4), mask) : 1.f;
    y[i] = E((x ? (float)x[i] : 0.f) + f * (float)b[i]);
}

/* Maps     a thread -> N neighbouring elements, N a multiple of 4
   Differs  from 1: every word drawn is used; 16-byte accesses */
template <class E>
__global__ void residual_kernel2(E* y, const E* x, const E* b, const StepState* state, size_t n, Mask mask) {
    constexpr int N = pack_elements<E>;
    const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (i >= n) { return; }
    Pack<E, N> in = load_pack<E, N>(b + i), base;
    if (x) { base = load_pack<E, N>(x + i); }
    for (int j = 0; j < N; j += 4) {
        Philox4 r;
        if (mask.threshold) { r = draw(state, (i + j) / 4, mask); }
        for (int k = 0; k < 4; k++) {
            const float f = mask.threshold ? factor(r, k, mask) : 1.f;
            in.at[j + k] = E((x ? (float)base.at[j + k] : 0.f) + f * (float)in.at[j + k]);
        }
    }
    store_pack(y + i, in);
}

template <class E>
static void residual(const Ctx& ctx, E* y, const E* x, const E* b, const StepState* state, DropoutShape s) {
    const Mask mask = mask_of(s);
    const int threads = 256;
    if (choose_version(ctx, packable<E>(s.n, {y, x, b}) ? 2 : 1) == 1) {
        launch(residual_kernel1<E>, blocks_for(s.n, threads), threads, 0, ctx.stream, y, x, b, state, s.n,
               mask);
    } else {
        launch(residual_kernel2<E>, blocks_for(s.n / pack_elements<E>, threads), threads, 0, ctx.stream, y, x,
               b, state, s.n, mask);
    }
    LAUNCHED(ctx);
}

template <class E>
void residual_forward_gpu(const Ctx& ctx, E* y, const E* x, const E* b, const StepState* state,
                          DropoutShape s) {
    residual(ctx, y, x, b, state, s);
}
template <class E>
void residual_backward_gpu(const Ctx& ctx, E* db, const E* dy, const StepState* state, DropoutShape s) {
    residual<E>(ctx, db, nullptr, dy, state, s);  // db = mask dy / (1-p): the same without x
}

#define INSTANTIATE(E)                                                                                       \
    template void residual_forward_gpu(const Ctx&, E*, const E*, const E*, const StepState*, DropoutShape);  \
    template void residual_backward_gpu(const Ctx&, E*, const E*, const StepState*, DropoutShape);
INSTANTIATE(float)
INSTANTIATE(bf16)

/* SwiGLU on the GPU. Contract: mlp.h; definition: mlp.cpp. */
#include "moba/device.cuh"
#include "moba/mlp.h"

/* Maps     a thread -> N neighbouring elements. N = 1 is version 1; a 16-byte pack version 2 */
template <class E, int N>
__global__ void swiglu_forward_kernel(E* y, const E* gate, const E* up, size_t n) {
    const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (i >= n) { return; }
    const Pack<E, N> g = load_pack<E, N>(gate + i), u = load_pack<E, N>(up + i);
    Pack<float, N> out;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float x = g.at[j];
        out.at[j] = x * sigmoid(x) * (float)u.at[j];
    }
    store_pack(y + i, round_pack<E>(out));
}

template <class E, int N>
__global__ void swiglu_backward_kernel(E* dgate, E* dup, const E* dy, const E* gate, const E* up, size_t n) {
    const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (i >= n) { return; }
    const Pack<E, N> d = load_pack<E, N>(dy + i), g = load_pack<E, N>(gate + i), u = load_pack<E, N>(up + i);
    Pack<float, N> dg, du;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float dyj = d.at[j], x = g.at[j], s = sigmoid(x);
        dg.at[j] = dyj * (float)u.at[j] * s * (1 + x * (1 - s));
        du.at[j] = dyj * x * s;
    }
    store_pack(dgate + i, round_pack<E>(dg));
    store_pack(dup + i, round_pack<E>(du));
}

template <class E>
void swiglu_forward_gpu(const Ctx& ctx, E* y, const E* gate, const E* up, size_t n) {
    constexpr int N = pack_elements<E>;
    const int threads = 256;
    if (choose_version(ctx, packable<E>(n, {y, gate, up}) ? 2 : 1) == 1) {
        launch(swiglu_forward_kernel<E, 1>, blocks_for(n, threads), threads, 0, ctx.stream, y, gate, up, n);
    } else {
        launch(swiglu_forward_kernel<E, N>, blocks_for(n / N, threads), threads, 0, ctx.stream, y, gate, up,
               n);
    }
    LAUNCHED(ctx);
}

template <class E>
void swiglu_backward_gpu(const Ctx& ctx, E* dgate, E* dup, const E* dy, const E* gate, const E* up,
                         size_t n) {
    constexpr int N = pack_elements<E>;
    const int threads = 256;
    if (choose_version(ctx, packable<E>(n, {dgate, dup, dy, gate, up}) ? 2 : 1) == 1) {
        launch(swiglu_backward_kernel<E, 1>, blocks_for(n, threads), threads, 0, ctx.stream, dgate, dup, dy,
               gate, up, n);
    } else {
        launch(swiglu_backward_kernel<E, N>, blocks_for(n / N, threads), threads, 0, ctx.stream, dgate, dup,
               dy, gate, up, n);
    }
    LAUNCHED(ctx);
}

#define INSTANTIATE(E)                                                                                       \
    template void swiglu_forward_gpu(const Ctx&, E*, const E*, const E*, size_t);                            \
    template void swiglu_backward_gpu(const Ctx&, E*, E*, const E*, const E*, const E*, size_t);
INSTANTIATE(float)
INSTANTIATE(bf16)

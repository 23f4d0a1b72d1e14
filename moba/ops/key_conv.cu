/* Key convolution on the GPU. Contract: key_conv.h; definition: key_conv.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/key_conv.h"

namespace moba {

static const int max_taps = 8;

/* u[t,c] = sum_{l<W} w[c,l] k[t-l,c] */
template <class E>
__device__ float convolve(const E* k, const E* w, int position, size_t t, int c, KeyConvShape s) {
    float u = 0;
    for (int l = 0; l < s.W && l <= position; l++) {
        u += (float)w[(size_t)c * s.W + l] * (float)k[(t - l) * s.C + c];
    }
    return u;
}
/* The derivative of SiLU at u */
__device__ static float silu_slope(float u) {
    const float g = sigmoid(u);
    return g * (1 + u * (1 - g));
}

/* y[t,c] = k[t,c] + SiLU(u[t,c])
   Maps     a thread -> an element (threads_for_rows); neighbouring threads -> neighbouring channels
   Memory   W rows of k, read through the cache */
template <class E>
__global__ void key_conv_forward_kernel(E* y, const E* k, const E* w, const int* position, KeyConvShape s) {
    const size_t t = row_of_thread();
    const int c = pack_of_thread();
    if (t >= (size_t)s.M || c >= s.C) { return; }
    const size_t row = s.cached ? position[t] : t;  // row of k
    const float u = convolve(k, w, position[t], row, c, s);
    y[t * s.C + c] = E((float)k[row * s.C + c] + u * sigmoid(u));
}

/* du[t,c] = dy[t,c] SiLU'(u[t,c]), in fp32
   Maps     a thread -> an element */
template <class E>
__global__ void key_conv_du_kernel(float* du, const E* dy, const E* k, const E* w, const int* position,
                                   KeyConvShape s) {
    const size_t t = row_of_thread();
    const int c = pack_of_thread();
    if (t >= (size_t)s.M || c >= s.C) { return; }
    const size_t i = t * s.C + c;
    du[i] = (float)dy[i] * silu_slope(convolve(k, w, position[t], t, c, s));
}

/* dk[t,c] = dy[t,c] + sum_{l<W} w[c,l] du[t+l,c], where token t+l is in the same sequence
   Maps     a thread -> an element */
template <class E>
__global__ void key_conv_dk_kernel(E* dk, const E* dy, const float* du, const E* w, const int* position,
                                   KeyConvShape s) {
    const size_t t = row_of_thread();
    const int c = pack_of_thread();
    if (t >= (size_t)s.M || c >= s.C) { return; }
    const size_t i = t * s.C + c;
    float sum = (float)dy[i];
    for (int l = 0; l < s.W && t + l < (size_t)s.M && position[t + l] == position[t] + l; l++) {
        sum += (float)w[(size_t)c * s.W + l] * du[(t + l) * s.C + c];
    }
    dk[i] = E(sum);
}

/* partial[chunk, c, l] = sum of du[t,c] k[t-l,c] over the tokens t of a chunk
   Maps     a block -> a chunk of tokens and 256 channels, a thread -> a channel */
template <class E>
__global__ void key_conv_dw_kernel(float* partial, const float* du, const E* k, const int* position,
                                   int chunk_tokens, KeyConvShape s) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x, chunk = blockIdx.y;
    if (c >= s.C) { return; }
    float sum[max_taps] = {};
    const int begin = chunk * chunk_tokens, end = begin + min(chunk_tokens, s.M - begin);
    for (int t = begin; t < end; t++) {
        const float d = du[(size_t)t * s.C + c];
#pragma unroll
        for (int l = 0; l < max_taps; l++) {  // unrolled, so that the sums stay in registers
            if (l < s.W && l <= position[t]) { sum[l] += d * (float)k[(size_t)(t - l) * s.C + c]; }
        }
    }
#pragma unroll
    for (int l = 0; l < max_taps; l++) {
        if (l < s.W) { partial[((size_t)chunk * s.C + c) * s.W + l] = sum[l]; }
    }
}

template <class E>
size_t key_conv_workspace_bytes_gpu(KeyConvShape s) {
    return ((size_t)s.M * s.C + (size_t)most_partials(s.M) * s.C * s.W) * sizeof(float);
}

template <class E>
void key_conv_forward_gpu(const Ctx& ctx, E* y, const E* k, const E* w, const int* position, KeyConvShape s) {
    REQUIRE(s.W >= 1 && s.W <= max_taps, "W = %d", s.W);
    choose_version(ctx, 1);
    const RowThreads t = threads_for_rows(s.M, s.C);
    launch(key_conv_forward_kernel<E>, t.grid, t.block, 0, ctx.stream, y, k, w, position, s);
    LAUNCHED(ctx);
}

template <class E>
void key_conv_backward_gpu(const Ctx& ctx, E* dk, acc_t<E>* dw, const E* dy, const E* k, const E* w,
                           const int* position, KeyConvShape s) {
    REQUIRE(s.W >= 1 && s.W <= max_taps, "W = %d", s.W);
    REQUIRE(key_conv_workspace_bytes_gpu<E>(s) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    choose_version(ctx, 1);
    const int threads = 256, chunk_tokens = partial_rows(s.M), chunks = ceil_div(s.M, chunk_tokens);
    const RowThreads t = threads_for_rows(s.M, s.C);
    float *du = (float*)ctx.workspace, *partial = du + (size_t)s.M * s.C;
    launch(key_conv_du_kernel<E>, t.grid, t.block, 0, ctx.stream, du, dy, k, w, position, s);
    LAUNCHED(ctx);
    launch(key_conv_dk_kernel<E>, t.grid, t.block, 0, ctx.stream, dk, dy, du, w, position, s);
    LAUNCHED(ctx);
    launch(key_conv_dw_kernel<E>, dim3(blocks_for(s.C, threads), chunks), threads, 0, ctx.stream, partial, du,
           k, position, chunk_tokens, s);
    LAUNCHED(ctx);
    add_partials(ctx, dw, partial, chunks, s.C * s.W);
}

INSTANTIATE(key_conv_forward_gpu)
INSTANTIATE(key_conv_backward_gpu)
INSTANTIATE(key_conv_workspace_bytes_gpu)

}  // namespace moba

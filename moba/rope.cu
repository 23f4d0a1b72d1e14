/* RoPE on the GPU. Contract: rope.h; definition: rope.cpp. */
#include "moba/device.cuh"
#include "moba/rope.h"

// cos and sin of position * f[i], from the split table: cos(a + b), sin(a + b).
__device__ static void angle(float* cosine, float* sine, const float* table, int position, int i, int D) {
    const float* fine = table + (size_t)(position % rope_split) * D + 2 * i;
    const float* coarse = table + (size_t)(rope_split + position / rope_split) * D + 2 * i;
    *cosine = coarse[0] * fine[0] - coarse[1] * fine[1];
    *sine = coarse[1] * fine[0] + coarse[0] * fine[1];
}

/* Maps     a thread -> one pair (x[i], x[i + D/2])
   Memory   two loads and two stores of one element; neighbouring threads touch neighbouring elements
   Differs  version 1: rope.cpp, pair by pair */
template <class E>
__global__ void rope_kernel1(E* y, const E* x, const int* position, const float* table, RopeShape s,
                             float sign) {
    const int half = s.D / 2;
    const size_t pair = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (pair >= (size_t)s.M * s.H * half) { return; }
    const int i = (int)(pair % half);
    const size_t head = pair / half;  // m * H + h
    float c, n;
    angle(&c, &n, table, position[head / s.H], i, s.D);
    n *= sign;
    const size_t o = head * s.D + i;
    const float re = x[o], im = x[o + half];
    y[o] = E(re * c - im * n);
    y[o + half] = E(re * n + im * c);
}

/* Maps     a thread -> a pack of neighbouring pairs
   Differs  from 1: 16-byte accesses
   Needs    D/2 a multiple of a pack, 16-byte aligned tensors */
template <class E>
__global__ void rope_kernel2(E* y, const E* x, const int* position, const float* table, RopeShape s,
                             float sign) {
    constexpr int N = pack_elements<E>;
    const int half = s.D / 2;
    const size_t first = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (first >= (size_t)s.M * s.H * half) { return; }
    const int i = (int)(first % half);
    const size_t head = first / half, o = head * s.D + i;
    Pack<E, N> re = load_pack<E, N>(x + o), im = load_pack<E, N>(x + o + half);
    const int t = position[head / s.H];
    for (int j = 0; j < N; j++) {
        float c, n;
        angle(&c, &n, table, t, i + j, s.D);
        n *= sign;
        const float a = re.at[j], b = im.at[j];
        re.at[j] = E(a * c - b * n);
        im.at[j] = E(a * n + b * c);
    }
    store_pack(y + o, re);
    store_pack(y + o + half, im);
}

template <class E>
static void rotate(const Ctx& ctx, E* y, const E* x, const int* position, const float* table, RopeShape s,
                   float sign) {
    REQUIRE(s.D % 2 == 0, "D = %d", s.D);
    const int threads = 256;
    const size_t pairs = (size_t)s.M * s.H * (s.D / 2);
    if (choose_version(ctx, packable<E>(s.D / 2, {y, x}) ? 2 : 1) == 1) {
        launch(rope_kernel1<E>, blocks_for(pairs, threads), threads, 0, ctx.stream, y, x, position, table, s,
               sign);
    } else {
        launch(rope_kernel2<E>, blocks_for(pairs / pack_elements<E>, threads), threads, 0, ctx.stream, y, x,
               position, table, s, sign);
    }
    LAUNCHED(ctx);
}

template <class E>
void rope_forward_gpu(const Ctx& ctx, E* y, const E* x, const int* position, const acc_t<E>* table,
                      RopeShape s) {
    rotate(ctx, y, x, position, table, s, 1.f);
}
template <class E>
void rope_backward_gpu(const Ctx& ctx, E* dx, const E* dy, const int* position, const acc_t<E>* table,
                       RopeShape s) {
    rotate(ctx, dx, dy, position, table, s, -1.f);
}

#define INSTANTIATE(E)                                                                                       \
    template void rope_forward_gpu(const Ctx&, E*, const E*, const int*, const acc_t<E>*, RopeShape);        \
    template void rope_backward_gpu(const Ctx&, E*, const E*, const int*, const acc_t<E>*, RopeShape);
INSTANTIATE(float)
INSTANTIATE(bf16)

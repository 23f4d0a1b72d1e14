/* RoPE on the GPU. Contract: rope.h; definition: rope.cpp. */
#include "moba/device.cuh"
#include "moba/rope.h"

/* cos and sin of position * f[i + j] from the split table: cos(a + b), sin(a + b). The table holds
   cos and sin in pairs, so N of them are 2 N numbers of two rows. They are loaded W at a time. */
template <int N, int W>
__device__ void angles(Pack<float, N>* cosine, Pack<float, N>* sine, const float* table, int position, int i,
                       int D) {
    const unsigned t = position;
    const float* fine = table + (size_t)(t % rope_split) * D + 2 * i;
    const float* coarse = table + (size_t)(rope_split + t / rope_split) * D + 2 * i;
    Pack<float, 2 * N> a, b;
#pragma unroll
    for (int j = 0; j < 2 * N; j += W) {
        const Pack<float, W> of_a = load_pack<float, W>(fine + j), of_b = load_pack<float, W>(coarse + j);
#pragma unroll
        for (int k = 0; k < W; k++) { a.at[j + k] = of_a.at[k], b.at[j + k] = of_b.at[k]; }
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
        cosine->at[j] = b.at[2 * j] * a.at[2 * j] - b.at[2 * j + 1] * a.at[2 * j + 1];
        sine->at[j] = b.at[2 * j + 1] * a.at[2 * j] + b.at[2 * j] * a.at[2 * j + 1];
    }
}

/* Maps     threadIdx.x -> N neighbouring pairs (x[i], x[i + D/2]) of a head, y -> the head, z -> the
            token, so no index is divided
   Memory   two loads and two stores of N elements; neighbouring threads touch neighbouring elements.
            Table rows come from the cache, the same for all heads of a token, W numbers at a time
   Differs  N = 1 and W = 1 is version 1: rope.cpp, pair by pair. N = a 16-byte pack and W = 4 is
            version 2: 16-byte accesses, also of the table
   Needs    version 2: D/2 a multiple of a pack, 16-byte aligned tensors and table */
template <class E, int N, int W>
__global__ void rope_kernel(E* y, const E* x, const int* position, const float* table, RopeShape s,
                            float sign) {
    const int half = s.D / 2, i = threadIdx.x * N, h = blockIdx.y * blockDim.y + threadIdx.y,
              m = blockIdx.x * blockDim.z + threadIdx.z;
    if (h >= s.H || m >= s.M) { return; }
    const size_t o = ((size_t)m * s.H + h) * s.D + i;
    const Pack<E, N> re = load_pack<E, N>(x + o), im = load_pack<E, N>(x + o + half);
    Pack<float, N> c, n, real, imaginary;
    angles<N, W>(&c, &n, table, position[m], i, s.D);
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float a = re.at[j], b = im.at[j], signed_sine = n.at[j] * sign;
        real.at[j] = a * c.at[j] - b * signed_sine;
        imaginary.at[j] = a * signed_sine + b * c.at[j];
    }
    store_pack(y + o, round_pack<E>(real));
    store_pack(y + o + half, round_pack<E>(imaginary));
}

template <class E>
static void rotate(const Ctx& ctx, E* y, const E* x, const int* position, const float* table, RopeShape s,
                   float sign) {
    REQUIRE(s.D % 2 == 0 && s.D <= 512, "D = %d", s.D);
    constexpr int N = pack_elements<E>;
    const int threads = 256, version = choose_version(ctx, packable<E>(s.D / 2, {y, x, table}) ? 2 : 1);
    const int packs = s.D / 2 / (version == 1 ? 1 : N), heads = std::min(s.H, threads / packs),
              tokens = std::min(64, threads / (packs * heads));  // 64: the most that a block may have along z
    const dim3 grid(blocks_for(s.M, tokens), blocks_for(s.H, heads)), block(packs, heads, tokens);
    if (version == 1) {
        launch(rope_kernel<E, 1, 1>, grid, block, 0, ctx.stream, y, x, position, table, s, sign);
    } else {
        launch(rope_kernel<E, N, 4>, grid, block, 0, ctx.stream, y, x, position, table, s, sign);
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

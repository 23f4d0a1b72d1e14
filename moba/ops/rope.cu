/* RoPE on the GPU. Contract: rope.h; definition: rope.cpp. */
#include "moba/ops/rope.cuh"

namespace moba {

/* Maps     threadIdx.x -> N neighbouring pairs (x[i], x[i + D/2]) of a head; y -> the head; z -> the token.
            So no index needs a division
   Memory   two loads and two stores of N elements; neighbouring threads access neighbouring elements. Rows of
            the table come from the cache, because all heads of a token use the same ones; W numbers per load
   Differs  N = 1 and W = 1 is version 1: the same steps as rope.cpp. N = a 16-byte pack and W = 4 is
            version 2: 16-byte accesses, also to the table
   Needs    version 2: D/2 a multiple of a pack, 16-byte aligned tensors and table */
template <class E, int N, int W>
__global__ void rope_kernel(E* y, const E* x, const int* position, const float* table, RopeShape s,
                            float sign) {
    const int half = s.D / 2, i = threadIdx.x * N, h = blockIdx.y * blockDim.y + threadIdx.y,
              m = blockIdx.x * blockDim.z + threadIdx.z;
    if (h >= s.H || m >= s.M) { return; }
    const size_t o = ((size_t)m * s.H + h) * s.D + i;
    Pack<E, N> re = load_pack<E, N>(x + o), im = load_pack<E, N>(x + o + half);
    rotate<W>(&re, &im, table, position[m], i, s.D, sign);
    store_pack(y + o, re);
    store_pack(y + o + half, im);
}

template <class E>
static void rope_gpu(const Ctx& ctx, E* y, const E* x, const int* position, const float* table, RopeShape s,
                     float sign) {
    REQUIRE(s.D % 2 == 0 && s.D <= 512, "D = %d", s.D);
    constexpr int N = pack_elements<E>;
    const int version = choose_version(ctx, packable<E>(s.D / 2, {y, x, table}) ? 2 : 1);
    const RowThreads t = threads_for_heads(s.M, s.H, s.D / 2 / (version == 1 ? 1 : N));
    launch(version == 1 ? rope_kernel<E, 1, 1> : rope_kernel<E, N, 4>, t.grid, t.block, 0, ctx.stream, y, x,
           position, table, s, sign);
    LAUNCHED(ctx);
}

template <class E>
void rope_forward_gpu(const Ctx& ctx, E* y, const E* x, const int* position, const acc_t<E>* table,
                      RopeShape s) {
    rope_gpu(ctx, y, x, position, table, s, 1.f);
}
template <class E>
void rope_backward_gpu(const Ctx& ctx, E* dx, const E* dy, const int* position, const acc_t<E>* table,
                       RopeShape s) {
    rope_gpu(ctx, dx, dy, position, table, s, -1.f);
}

INSTANTIATE(rope_forward_gpu)
INSTANTIATE(rope_backward_gpu)

}  // namespace moba

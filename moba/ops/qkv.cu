/* Splitting and joining queries, keys and values on the GPU. Contract: qkv.h; definition: qkv.cpp. */
#include "moba/ops/qkv.h"
#include "moba/ops/rope.cuh"

namespace moba {

/* Maps     threadIdx.x -> N neighbouring pairs (x[i], x[i + D/2]) of a head; y -> the head, of q, k or v;
            z -> the token
   Memory   each element is read and written once; neighbouring threads -> neighbouring elements; table:
            rope.cu
   Differs  N = 1 and W = 1 is version 1, N = a 16-byte pack and W = 4 is version 2
   Needs    version 2: D/2 a multiple of a pack, 16-byte aligned tensors and table */
template <class E, int N, int W, bool join>
__global__ void qkv_kernel(E* q, E* k, E* v, E* qkv, const int* position, const float* table, QkvShape s) {
    const int half = s.D / 2, i = threadIdx.x * N, h = blockIdx.y * blockDim.y + threadIdx.y,
              m = blockIdx.x * blockDim.z + threadIdx.z;
    if (h >= s.heads() || m >= s.M) { return; }
    const bool of_q = h < s.H, of_k = !of_q && h < s.H + s.G;
    E* part = of_q   ? q + ((size_t)m * s.H + h) * s.D
              : of_k ? k + ((size_t)m * s.G + h - s.H) * s.D
                     : v + ((size_t)m * s.G + h - s.H - s.G) * s.D;
    E* row = qkv + ((size_t)m * s.heads() + h) * s.D;
    const E* from = (join ? part : row) + i;
    E* to = (join ? row : part) + i;
    Pack<E, N> re = load_pack<E, N>(from), im = load_pack<E, N>(from + half);
    if (!(of_q ? s.rotate_q : of_k && s.rotate_k)) {
        store_pack(to, re);
        store_pack(to + half, im);
        return;
    }
    rotate<W>(&re, &im, table, position[m], i, s.D, join ? -1.f : 1.f);
    store_pack(to, re);
    store_pack(to + half, im);
}

template <class E, bool join>
static void qkv_gpu(const Ctx& ctx, E* q, E* k, E* v, E* qkv, const int* position, const float* table,
                    QkvShape s) {
    REQUIRE(s.D % 2 == 0 && s.D <= 512, "D = %d", s.D);
    constexpr int N = pack_elements<E>;
    const int version = choose_version(ctx, packable<E>(s.D / 2, {q, k, v, qkv, table}) ? 2 : 1);
    const RowThreads t = threads_for_heads(s.M, s.heads(), s.D / 2 / (version == 1 ? 1 : N));
    launch(version == 1 ? qkv_kernel<E, 1, 1, join> : qkv_kernel<E, N, 4, join>, t.grid, t.block, 0,
           ctx.stream, q, k, v, qkv, position, table, s);
    LAUNCHED(ctx);
}

template <class E>
void qkv_split_gpu(const Ctx& ctx, E* q, E* k, E* v, const E* qkv, const int* position, const acc_t<E>* table,
                   QkvShape s) {
    qkv_gpu<E, false>(ctx, q, k, v, (E*)qkv, position, table, s);
}
template <class E>
void qkv_join_gpu(const Ctx& ctx, E* dqkv, const E* dq, const E* dk, const E* dv, const int* position,
                  const acc_t<E>* table, QkvShape s) {
    qkv_gpu<E, true>(ctx, (E*)dq, (E*)dk, (E*)dv, dqkv, position, table, s);
}

INSTANTIATE(qkv_split_gpu)
INSTANTIATE(qkv_join_gpu)

}  // namespace moba

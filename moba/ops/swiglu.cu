/* SwiGLU on the GPU. Contract: swiglu.h; definition: swiglu.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/swiglu.h"

namespace moba {

/* Maps     a thread -> N neighbouring elements of a row. N = 1 is version 1, N = a 16-byte pack is version 2.
            The backward kernel maps them in the same way */
template <class E, int N>
__global__ void swiglu_forward_kernel(E* y, const E* gate, const E* up, SwigluShape s) {
    const size_t m = row_of_thread();
    const int f = pack_of_thread() * N;
    if (m >= (size_t)s.M || f >= s.F) { return; }
    const size_t i = m * s.stride + f, o = m * s.F + f;
    const Pack<E, N> g = load_pack<E, N>(gate + i), u = load_pack<E, N>(up + i);
    Pack<float, N> out;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float x = g.at[j];
        out.at[j] = x * sigmoid(x) * (float)u.at[j];
    }
    store_pack(y + o, round_pack<E>(out));
}

template <class E, int N>
__global__ void swiglu_backward_kernel(E* dgate, E* dup, const E* dy, const E* gate, const E* up,
                                       SwigluShape s) {
    const size_t m = row_of_thread();
    const int f = pack_of_thread() * N;
    if (m >= (size_t)s.M || f >= s.F) { return; }
    const size_t i = m * s.stride + f;
    const Pack<E, N> d = load_pack<E, N>(dy + m * s.F + f), g = load_pack<E, N>(gate + i),
                     u = load_pack<E, N>(up + i);
    Pack<float, N> dg, du;
#pragma unroll
    for (int j = 0; j < N; j++) {
        const float dyj = d.at[j], x = g.at[j], share = sigmoid(x);
        dg.at[j] = dyj * (float)u.at[j] * share * (1 + x * (1 - share));
        du.at[j] = dyj * x * share;
    }
    store_pack(dgate + i, round_pack<E>(dg));
    store_pack(dup + i, round_pack<E>(du));
}

// Chooses the version: 2 if packs fit, else 1.
template <class E>
static int swiglu_version(const Ctx& ctx, SwigluShape s, std::initializer_list<const void*> pointers) {
    REQUIRE(s.stride >= (size_t)s.F, "rows of %d elements, %zu apart", s.F, s.stride);
    return choose_version(ctx, packable<E>(s.F, pointers) && packable<E>(s.stride, {}) ? 2 : 1);
}

template <class E>
void swiglu_forward_gpu(const Ctx& ctx, E* y, const E* gate, const E* up, SwigluShape s) {
    constexpr int N = pack_elements<E>;
    const int version = swiglu_version<E>(ctx, s, {y, gate, up});
    const RowThreads t = threads_for_rows(s.M, version == 1 ? s.F : s.F / N);
    launch(version == 1 ? swiglu_forward_kernel<E, 1> : swiglu_forward_kernel<E, N>, t.grid, t.block, 0,
           ctx.stream, y, gate, up, s);
    LAUNCHED(ctx);
}

template <class E>
void swiglu_backward_gpu(const Ctx& ctx, E* dgate, E* dup, const E* dy, const E* gate, const E* up,
                         SwigluShape s) {
    constexpr int N = pack_elements<E>;
    const int version = swiglu_version<E>(ctx, s, {dgate, dup, dy, gate, up});
    const RowThreads t = threads_for_rows(s.M, version == 1 ? s.F : s.F / N);
    launch(version == 1 ? swiglu_backward_kernel<E, 1> : swiglu_backward_kernel<E, N>, t.grid, t.block, 0,
           ctx.stream, dgate, dup, dy, gate, up, s);
    LAUNCHED(ctx);
}

INSTANTIATE(swiglu_forward_gpu)
INSTANTIATE(swiglu_backward_gpu)

}  // namespace moba

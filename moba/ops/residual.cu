/* Dropout and the residual addition on the GPU. Contract: residual.h; definition: residual.cpp. */
#include "moba/ops/residual.cuh"

namespace moba {

/* y = x + mask b / (1-p); without x: y = mask b / (1-p)
   Maps     a thread -> N neighbouring elements
   Differs  N = 1 is version 1: a thread draws four random words and uses one. N = a 16-byte pack is
            version 2: all words are used */
template <class E, int N>
__global__ void residual_kernel(E* y, const E* x, const E* b, const StepState* state, size_t n,
                                DropoutMask<float> mask) {
    const size_t i = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (i >= n) { return; }
    const size_t g = mask.token ? mask.token[i / mask.width] * (size_t)mask.width + i % mask.width : i;
    store_pack(y + i, add_masked<E, N>(x, b, i, g, state, mask));
}

template <class E>
static void residual(const Ctx& ctx, E* y, const E* x, const E* b, const StepState* state, DropoutShape s) {
    constexpr int N = pack_elements<E>;
    const bool whole_packs = packable<E>(s.n, {y, x, b}) && (!s.token || s.width % N == 0);
    const int threads = 256, version = choose_version(ctx, whole_packs ? 2 : 1);
    launch(version == 1 ? residual_kernel<E, 1> : residual_kernel<E, N>,
           blocks_for(version == 1 ? s.n : s.n / N, threads), threads, 0, ctx.stream, y, x, b, state, s.n,
           dropout_mask<float>(s));
    LAUNCHED(ctx);
}

template <class E>
void residual_forward_gpu(const Ctx& ctx, E* y, const E* x, const E* b, const StepState* state,
                          DropoutShape s) {
    residual(ctx, y, x, b, state, s);
}
template <class E>
void residual_backward_gpu(const Ctx& ctx, E* db, const E* dy, const StepState* state, DropoutShape s) {
    residual<E>(ctx, db, nullptr, dy, state, s);  // db = mask dy / (1-p): the forward pass without x
}

INSTANTIATE(residual_forward_gpu)
INSTANTIATE(residual_backward_gpu)

}  // namespace moba

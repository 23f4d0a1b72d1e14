// Planted mistake: a query sees later keys.
#include "docs/course/exercises.h"
#include "moba/core/device.cuh"

namespace moba {

template <class E>
__global__ void my_attention_kernel(E* out, const E* q, const E* k, const E* v, int T, int H, int D) {
    const int t = blockIdx.x * blockDim.x + threadIdx.x, h = blockIdx.y;
    if (t >= T) { return; }
    const auto at = [&](int token) { return ((size_t)token * H + h) * D; };
    const auto score = [&](int j) {
        float x = 0;
        for (int d = 0; d < D; d++) { x += (float)q[at(t) + d] * (float)k[at(j) + d]; }
        return x / sqrtf((float)D);
    };
    float top = -INFINITY;
    for (int j = 0; j <= t; j++) { top = fmaxf(top, score(j)); }
    float sum = 0, mean[128] = {};
    for (int j = 0; j < T; j++) {
        const float weight = expf(score(j) - top);
        sum += weight;
        for (int d = 0; d < D; d++) { mean[d] += weight * (float)v[at(j) + d]; }
    }
    for (int d = 0; d < D; d++) { out[at(t) + d] = E(mean[d] / sum); }
}

template <class E>
void my_attention(const Ctx& ctx, E* out, const E* q, const E* k, const E* v, int T, int H, int D) {
    const int threads = 64;
    launch(my_attention_kernel<E>, dim3(ceil_div(T, threads), H), threads, 0, ctx.stream, out, q, k, v, T, H,
           D);
}
INSTANTIATE(my_attention)

}  // namespace moba

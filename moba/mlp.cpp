#include "moba/mlp.h"
#include "moba/parallel.h"

template <class E>
void swiglu_forward_cpu(const Ctx&, E* y, const E* gate, const E* up, size_t n) {
    using A = acc_t<E>;
    parallel_ranges(n, 8192, [&](size_t b, size_t e) {
#pragma omp simd
        for (size_t i = b; i < e; i++) {
            const A g = A(gate[i]);
            y[i] = E(g / (1 + fast_exp(-g)) * A(up[i]));
        }
    });
}

template <class E>
void swiglu_backward_cpu(const Ctx&, E* dgate, E* dup, const E* dy, const E* gate, const E* up, size_t n) {
    using A = acc_t<E>;
    parallel_ranges(n, 8192, [&](size_t b, size_t e) {
#pragma omp simd
        for (size_t i = b; i < e; i++) {
            const A g = A(gate[i]), u = A(up[i]), d = A(dy[i]), s = 1 / (1 + fast_exp(-g));
            dgate[i] = E(d * u * s * (1 + g * (1 - s)));
            dup[i] = E(d * g * s);
        }
    });
}

#define INSTANTIATE(E)                                                                                       \
    template void swiglu_forward_cpu(const Ctx&, E*, const E*, const E*, size_t);                            \
    template void swiglu_backward_cpu(const Ctx&, E*, E*, const E*, const E*, const E*, size_t);
INSTANTIATE(double)
INSTANTIATE(float)
INSTANTIATE(bf16)

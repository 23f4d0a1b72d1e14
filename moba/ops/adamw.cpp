#include "moba/ops/adamw.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

template <class A>
void square_sums_cpu(const Ctx&, double* sums, const A* g, size_t n) {
    parallel_ranges(n, norm_chunk, [&](size_t b, size_t e) {
        double sum = 0;
#pragma omp simd reduction(+ : sum)
        for (size_t i = b; i < e; i++) { sum += (double)g[i] * g[i]; }
        sums[b / norm_chunk] = sum;
    });
}

template <class A>
void grad_norm_cpu(const Ctx&, A* norm, const double* sums, size_t count) {
    double sum = 0;
    for (size_t c = 0; c < count; c++) { sum += sums[c]; }
    *norm = (A)std::sqrt(sum);
}

template <class E>
void adamw_cpu(const Ctx&, acc_t<E>* w, E* w_low, acc_t<E>* m, acc_t<E>* v, const acc_t<E>* g,
               const acc_t<E>* norm, const ParamRange* ranges, int num_ranges, const StepState* state,
               AdamWShape s) {
    using A = acc_t<E>;
    if (!std::isfinite(*norm)) { return; }
    const A scale = s.clip > 0 ? std::min(A(1), A(s.clip) / (*norm + A(1e-6))) : A(1);
    const A b1 = (A)s.beta1, b2 = (A)s.beta2, eps = (A)s.eps;
    // Subtracted in double: 1 - 0.999f would have a relative error of 1e-5.
    const A rest1 = A(1 - s.beta1), rest2 = A(1 - s.beta2);
    const A correct1 = A(1 / (1 - std::pow(s.beta1, state->step)));
    const A correct2 = A(1 / (1 - std::pow(s.beta2, state->step)));
    for (int r = 0; r < num_ranges; r++) {
        const ParamRange& range = ranges[r];
        REQUIRE(range.begin + range.count <= s.n, "range %d ends at %zu of %zu", r, range.begin + range.count,
                s.n);
        const A lr = A(state->learning_rate * range.lr_factor), decay = A(range.decay);
        parallel_ranges(range.count, norm_chunk, [&](size_t b, size_t e) {
#pragma omp simd
            for (size_t i = range.begin + b; i < range.begin + e; i++) {
                const A grad = g[i] * scale;
                m[i] = b1 * m[i] + rest1 * grad;
                v[i] = b2 * v[i] + rest2 * grad * grad;
                w[i] -= lr * (m[i] * correct1 / (std::sqrt(v[i] * correct2) + eps) + decay * w[i]);
            }
            if (w_low) {
                for (size_t i = range.begin + b; i < range.begin + e; i++) { w_low[i] = E(w[i]); }
            }
        });
    }
}

INSTANTIATE_AND_DOUBLE(adamw_cpu)
INSTANTIATE_ONE(grad_norm_cpu, float)
INSTANTIATE_ONE(grad_norm_cpu, double)
INSTANTIATE_ONE(square_sums_cpu, float)
INSTANTIATE_ONE(square_sums_cpu, double)

}  // namespace moba

#include "moba/ops/swiglu.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

// Calls f(count, first element of y, first element of gate and up) in parallel, for parts of rows.
template <class F>
static void each_part(const SwigluShape& s, F f) {
    REQUIRE(s.stride >= (size_t)s.F, "rows of %d elements, %zu apart", s.F, s.stride);
    parallel_ranges(s.n(), 8192, [&](size_t b, size_t e) {
        while (b < e) {
            const size_t m = b / s.F, end = std::min(e, (m + 1) * s.F);
            f(end - b, b, m * s.stride + b % s.F);
            b = end;
        }
    });
}

template <class E>
void swiglu_forward_cpu(const Ctx&, E* y, const E* gate, const E* up, SwigluShape s) {
    using A = acc_t<E>;
    each_part(s, [&](size_t n, size_t o, size_t i0) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            const A g = A(gate[i0 + i]);
            y[o + i] = E(g / (1 + fast_exp(-g)) * A(up[i0 + i]));
        }
    });
}

template <class E>
void swiglu_backward_cpu(const Ctx&, E* dgate, E* dup, const E* dy, const E* gate, const E* up,
                         SwigluShape s) {
    using A = acc_t<E>;
    each_part(s, [&](size_t n, size_t o, size_t i0) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            const A g = A(gate[i0 + i]), u = A(up[i0 + i]), d = A(dy[o + i]), share = 1 / (1 + fast_exp(-g));
            dgate[i0 + i] = E(d * u * share * (1 + g * (1 - share)));
            dup[i0 + i] = E(d * g * share);
        }
    });
}

INSTANTIATE_AND_DOUBLE(swiglu_forward_cpu)
INSTANTIATE_AND_DOUBLE(swiglu_backward_cpu)

}  // namespace moba

/* Work over threads, and the few numeric helpers every CPU op uses. CPU only.

   Rule for equal bits at any thread count: what one call of f computes may depend on i and on shapes, never on the
   thread; sums that cross calls go through partial results that are added in the order of i. */
#pragma once
#include "moba/core/base.h"
#ifdef _OPENMP
#include <omp.h>
#endif

namespace moba {

inline int max_threads() {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

// f(i, thread) for i in [0, n); thread in [0, max_threads()) names the scratch that f may use.
template <class F>
void parallel_for(size_t n, F f) {
#ifdef _OPENMP
    if (n > 1) {
#pragma omp parallel for schedule(dynamic)
        for (size_t i = 0; i < n; i++) { f(i, omp_get_thread_num()); }
        return;
    }
#endif
    for (size_t i = 0; i < n; i++) { f(i, 0); }
}

// The same over ranges [begin, end) of at most `grain` elements: for loops whose body is small.
template <class F>
void parallel_ranges(size_t n, size_t grain, F f) {
    parallel_for(ceil_div(n, grain), [&](size_t c, int) {
        const size_t begin = c * grain, end = begin + grain < n ? begin + grain : n;
        f(begin, end);
    });
}

// Scratch of one thread inside ctx.workspace.
template <class X>
X* thread_scratch(const Ctx& ctx, size_t bytes_per_thread, int thread) {
    REQUIRE((thread + 1) * bytes_per_thread <= ctx.workspace_bytes,
            "%zu bytes for thread %d, workspace has %zu", bytes_per_thread, thread, ctx.workspace_bytes);
    return (X*)(ctx.workspace + thread * bytes_per_thread);
}

/* exp(x) that vectorises: 2^(x/ln 2), the integer part into the exponent bits, the rest by a polynomial of degree 6.
   Error: 2.3e-7 relative for x in [-87, 88]; 0 below -87 (also -inf), NaN stays NaN. Adding and subtracting
   1.5 * 2^23 rounds to the nearest integer. */
inline float fast_exp(float x) {
    const float magic = 12582912.f;
    const float c = x < 88.f ? x : (x != x ? x : 88.f);
    const float n = (c * 1.44269504f + magic) - magic;
    const float r = (c - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two pieces
    float p = 1.f / 720;
    p = p * r + 1.f / 120;
    p = p * r + 1.f / 24;
    p = p * r + 1.f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.f;
    p = p * r + 1.f;
    const int32_t bits = ((int32_t)(n > -127.f ? n : -127.f) + 127) << 23;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return x < -87.f ? 0.f : p * scale;
}
inline double fast_exp(double x) { return std::exp(x); }

// The largest of n >= 1 numbers, in 16 columns because a single running maximum does not vectorise. NaN is passed over.
template <class A>
A highest(const A* x, int n) {
    A column[16];
    for (int l = 0; l < 16; l++) { column[l] = A(-INFINITY); }
    int i = 0;
    for (; i + 16 <= n; i += 16) {
        for (int l = 0; l < 16; l++) { column[l] = x[i + l] > column[l] ? x[i + l] : column[l]; }
    }
    for (; i < n; i++) { column[0] = x[i] > column[0] ? x[i] : column[0]; }
    for (int l = 1; l < 16; l++) { column[0] = column[l] > column[0] ? column[l] : column[0]; }
    return column[0];
}

// round_to<E>(x): what x becomes when it is stored as E and read again.
template <class E>
acc_t<E> round_to(acc_t<E> x) {
    return acc_t<E>(E(x));
}

}  // namespace moba

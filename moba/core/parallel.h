/* Parallel loops, and a few numeric helpers of the CPU operations. CPU only.

   Rule for equal bits with any number of threads: the result of one call of f may depend on i and on shapes,
   but never on the thread. A sum over several calls must store one partial result per i and add them in the
   order of i. */
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

// Calls f(i, thread) for i in [0, n). `thread`, in [0, max_threads()), selects f's scratch memory.
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

// Calls f(begin, end) for ranges of at most `grain` elements: for loops with a small body.
template <class F>
void parallel_ranges(size_t n, size_t grain, F f) {
    parallel_for(ceil_div(n, grain), [&](size_t c, int) {
        const size_t begin = c * grain, end = begin + grain < n ? begin + grain : n;
        f(begin, end);
    });
}

// The scratch memory of one thread, a part of ctx.workspace.
template <class X>
X* thread_scratch(const Ctx& ctx, size_t bytes_per_thread, int thread) {
    REQUIRE((thread + 1) * bytes_per_thread <= ctx.workspace_bytes,
            "%zu bytes for thread %d, workspace has %zu", bytes_per_thread, thread, ctx.workspace_bytes);
    return (X*)(ctx.workspace + thread * bytes_per_thread);
}

/* An exp(x) that the compiler can vectorise: 2^(x/ln 2); the integer part becomes the exponent bits, a
   polynomial of degree 6 gives the rest. Relative error 2.3e-7 for x in [-87, 88]; 0 below -87 (also for
   -inf); NaN stays NaN. Adding and then subtracting 1.5 * 2^23 (`magic`) rounds to the nearest integer. */
inline float fast_exp(float x) {
    const float magic = 12582912.f;
    const float c = x < 88.f ? x : (x != x ? x : 88.f);
    const float n = (c * 1.44269504f + magic) - magic;
    // ln 2 is split into two constants, so that the subtraction loses no digits.
    const float r = (c - n * 0.693359375f) + n * 2.12194440e-4f;
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

// The largest of n >= 1 numbers. NaN is ignored. 16 running maxima, because a single one does not vectorise.
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

// The value of x after it has been stored as E and read again.
template <class E>
acc_t<E> round_to(acc_t<E> x) {
    return acc_t<E>(E(x));
}

}  // namespace moba

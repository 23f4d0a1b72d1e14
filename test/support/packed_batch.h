/* Shared by the unit tests: random inputs, packed batches, a workspace that detects misuse, finite
   differences, and a check that results do not depend on the number of threads.

   Tolerances are measured: with MOBA_SHOW_ERRORS=1 every error is printed with its tolerance. A tolerance is
   about twice the largest error found with 12 other seeds, in a build without vector instructions and in a
   build without optimisation. One rounding to bf16 has a relative error of at most 2^-8. */
#pragma once
#include "moba/core/parallel.h"
#include "moba/core/philox.h"
#include "moba/core/sequence.h"
#include "test/support/check.h"
#include <algorithm>

namespace moba {

// Calls f(E{}) for every element type of the CPU.
template <class F>
void for_all_types(F f) {
    f(double{}), f(float{}), f(bf16{});
}
template <class E>
const char* type_name() {
    return std::is_same_v<E, double> ? "fp64" : std::is_same_v<E, float> ? "fp32" : "bf16";
}

/* Tolerance for element type E. Those of fp32 and bf16 are measured; fp64 gets the fp32 tolerance scaled by
   its rounding, which has 29 bits more. */
template <class E>
double allowed(double fp32, double low) {
    return std::is_same_v<E, bf16>    ? low
           : std::is_same_v<E, float> ? fp32
                                      : fp32 * std::ldexp(1.0, -29) + 1e-15;
}

inline void expect_error(const std::string& what, double error, double tolerance,
                         const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    static const bool show = std::getenv("MOBA_SHOW_ERRORS");
    if (show) { std::printf("  %-44s %.2e  allowed %.2e\n", what.c_str(), error, tolerance); }
    if (!(error <= tolerance)) {
        ADD_FAILURE_AT(file, line) << what << " = " << error << ", allowed " << tolerance;
    }
}

// ---- inputs ----

template <class Y, class X>
std::vector<Y> as(const std::vector<X>& x) {
    std::vector<Y> y;
    for (const X& e : x) { y.push_back(Y((acc_t<Y>)(acc_t<X>)e)); }
    return y;
}

// n normally distributed numbers, rounded to E. Different values of `stream` give independent tensors.
template <class E>
std::vector<E> draw(size_t n, uint64_t stream, double scale = 1) {
    Rng rng(1, Purpose::synthetic, stream);
    std::vector<E> x(n);
    for (E& e : x) { e = E((acc_t<E>)(scale * rng.normal())); }
    return x;
}

// Whole numbers from -limit to limit: their sums are exact in any order.
template <class E>
std::vector<E> draw_integers(size_t n, uint64_t stream, int limit) {
    Rng rng(2, Purpose::synthetic, stream);
    std::vector<E> x(n);
    for (E& e : x) { e = E((acc_t<E>)(rng.below(2 * limit + 1) - limit)); }
    return x;
}

inline std::vector<int> draw_below(size_t n, uint64_t stream, int limit) {
    Rng rng(3, Purpose::synthetic, stream);
    std::vector<int> x(n);
    for (int& e : x) { e = rng.below(limit); }
    return x;
}

// Packed sequences of these lengths.
struct PackedBatch {
    std::vector<int> cu{0}, table;
    Sequences seqs;

    PackedBatch(const std::vector<int>& lengths, BlockSizes sizes) {
        for (int n : lengths) { cu.push_back(cu.back() + n); }
        seqs = build_sequences(table, cu, sizes);
    }
    PackedBatch(const PackedBatch&) = delete;
    PackedBatch& operator=(const PackedBatch&) = delete;
};

/* Exactly as many bytes as an operation asked for. They are filled with NaN, so that reading scratch memory
   before writing it is detected, and followed by guard bytes. */
class Workspace {
  public:
    explicit Workspace(size_t bytes, int version = 0) : bytes_(bytes), device_(bytes + guard, (char)0xFF) {
        std::fill(device_.begin() + bytes, device_.end(), (char)0xC5);
        ctx.kernel_version = version;
        ctx.workspace = device_.data();
        ctx.workspace_bytes = bytes;
    }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    bool intact() const {
        return std::all_of(device_.begin() + bytes_, device_.end(), [](char c) { return c == (char)0xC5; });
    }
    Ctx ctx;

  private:
    static const size_t guard = 256;
    size_t bytes_;
    std::vector<char> device_;
};

// ---- gradients ----

template <class X>
double inner(const std::vector<X>& a, const std::vector<X>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) { sum += (double)a[i] * (double)b[i]; }
    return sum;
}

// Sets the number of threads until the end of the scope. A workspace made before must have been made for at
// least as many threads.
class Threads {
  public:
#ifdef _OPENMP
    explicit Threads(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
    ~Threads() { omp_set_num_threads(before_); }
#else
    explicit Threads(int) : before_(1) {}
#endif
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

  private:
    int before_;
};

/* Compares dx with central differences of f(), which reads x. Returns the largest difference relative to the
   largest |dx|. Tests about `samples` elements, at odd distances so that they fall into all rows and columns.
   One thread is enough: f is small. */
template <class F>
double gradient_error(std::vector<double>& x, const std::vector<double>& dx, F f, size_t samples = 100) {
    if (x.size() != dx.size()) { return INFINITY; }
    const Threads one(1);
    const double step = 1e-5;
    double worst = 0;
    for (size_t i = 0; i < x.size(); i += (x.size() / samples) | 1) {
        const double before = x[i];
        x[i] = before + step;
        const double above = f();
        x[i] = before - step;
        const double below = f();
        x[i] = before;
        const double d = std::fabs((above - below) / (2 * step) - dx[i]);
        if (!(d <= worst)) { worst = std::isnan(d) ? INFINITY : d; }
    }
    return worst / std::max(max_abs(dx.data(), dx.size()), 1e-30);
}
// measured: 1e-11 to 2e-9, the error of the finite differences
const double gradient_tolerance = 4e-9;

// ---- threads ----

template <class... V>
std::string bits(const V&... vectors) {
    std::string all;
    (all.append((const char*)vectors.data(), vectors.size() * sizeof(*vectors.data())), ...);
    return all;
}

/* run() returns the bits of all its results, which must be equal with 1, 2 and 3 threads. Workspaces must be
   made inside run(), because their sizes depend on the number of threads. */
template <class F>
void expect_same_bits_on_threads(F run) {
#ifdef _OPENMP
    std::string want;
    for (int n : {1, 2, 3}) {
        const Threads threads(n);
        const std::string got = run();
        if (n == 1) { want = got; }
        EXPECT_TRUE(got == want) << n << " threads give other bits than one";
    }
#else
    GTEST_SKIP() << "built without OpenMP";
#endif
}

}  // namespace moba

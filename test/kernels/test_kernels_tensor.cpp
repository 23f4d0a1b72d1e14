/* The wrappers of moba/core/tensor.cuh, one by one, against plain products and copies. The inputs show any
   element in the wrong place, and are whole numbers whose sums are exact, so results are compared bit by bit.
   On a GPU this checks the simulator's model of these instructions (test/simt/tensor_cores.cpp). Then
   mistakes that the simulator must detect. */
#include "test/kernels/tensor_kernels.h"
#include "test/support/kernel_case.h"
#include <numeric>

namespace moba {

bool has_wgmma();  // declared again here, because device.cuh can be included only in .cu files

namespace {

using namespace kernel_case;
using namespace tensor_kernels;

// ---- comparisons: they return "" or the first wrong number ----

std::string difference(const std::vector<double>& got, const std::vector<double>& want) {
    for (size_t i = 0; i < want.size(); i++) {
        if (i < got.size() && got[i] == want[i]) { continue; }
        char text[100];
        std::snprintf(text, sizeof text, "wrong: number %zu of %zu is %.9g, must be %.9g", i, want.size(),
                      i < got.size() ? got[i] : NAN, want[i]);
        return text;
    }
    return "";
}
// The output of call(on), which makes exactly one.
template <class F>
std::vector<double> output_of(F call) {
    return run_in<true, bf16, bf16>(0, call)[0].values;
}

// All elements are different, so a product with a one-hot row shows which element it used.
std::vector<bf16> all_different(size_t n) {
    std::vector<bf16> x(n);
    for (size_t i = 0; i < n; i++) { x[i].bits = (uint16_t)(0x2000 + i); }
    return x;
}
std::vector<bf16> transposed(const std::vector<bf16>& x, int rows) {
    const int columns = (int)x.size() / rows;
    std::vector<bf16> y(x.size());
    for (int i = 0; i < (int)x.size(); i++) { y[i % columns * rows + i / columns] = x[i]; }
    return y;
}
// (M, N) = a (M, K) b (K, N)
std::vector<double> product(const std::vector<bf16>& a, const std::vector<bf16>& b, int K) {
    const int M = (int)a.size() / K, N = (int)b.size() / K;
    const std::vector<double> wide = as<double>(b);
    std::vector<double> c((size_t)M * N);
    for (int m = 0; m < M; m++) {
        for (int k = 0; k < K; k++) {
            const double x = (float)a[m * K + k];
            for (int n = 0; n < N; n++) { c[m * N + n] += x * wide[k * N + n]; }
        }
    }
    return c;
}
/* The factors of one trial. In the first `trials` trials the rows of `a` are one-hot, with another channel in
   each trial, so that together they use every element of b; in later trials both are whole numbers. */
struct Factors {
    std::vector<bf16> a, b;
};
Factors factors(int M, int N, int K, int trial, int trials, int limit) {
    if (trial >= trials) {
        return {draw_integers<bf16>((size_t)M * K, trial, limit),
                draw_integers<bf16>((size_t)K * N, trial + 100, limit)};
    }
    std::vector<bf16> a((size_t)M * K, bf16(0));
    for (int m = 0; m < M; m++) { a[m * K + (61 + trial * (K / trials) + m) % K] = bf16(1); }
    return {a, all_different((size_t)K * N)};
}

enum Stored { by_registers, by_stmatrix, by_transpose };
std::string matrices_differ(bool b_transposed, std::vector<Stored> outputs, Mistake wrong = none) {
    const int M = 16, N = 16, K = 32;
    for (int trial = 0; trial < K + 2; trial++) {
        const Factors f = factors(M, N, K, trial, K, 2);  // sums of at most 128 are exact in bf16
        const std::vector<double> got = output_of([&](auto& on) {
            bf16* c = on.template output<bf16>("c", 3 * M * N);
            matrices(on.ctx, c, on.constant(f.a), on.constant(b_transposed ? f.b : transposed(f.b, K)),
                     b_transposed, wrong);
        });
        for (Stored how : outputs) {
            std::vector<double> want = product(f.a, f.b, K);
            if (how == by_transpose) { want = product(transposed(f.b, K), transposed(f.a, M), K); }
            const std::string d =
                difference({got.begin() + how * M * N, got.begin() + (how + 1) * M * N}, want);
            if (!d.empty()) { return d; }
        }
    }
    return "";
}
std::string copies_differ(int bytes, Mistake wrong = none) {
    const size_t turn = 128 * 4, n = 6 * turn;
    std::vector<int> x(n);
    for (size_t i = 0; i < n; i++) { x[i] = (int)((uint32_t)i * 2654435761u); }
    const std::vector<double> got = output_of([&](auto& on) {
        int* y = on.int_output("y", n);
        copies(on.ctx, y, on.constant(x), bytes, wrong);
    });
    if (bytes == 16) { std::fill_n(x.begin() + 2 * turn, turn, 0); }
    return difference(got, as<double>(x));
}
std::string ring_differs(Mistake wrong = none) {
    const int turns = 7;
    std::vector<float> x(turns * 128);
    std::iota(x.begin(), x.end(), 1.f);
    std::vector<double> want;
    for (int i = 0; i < turns * 32; i++) {
        const float* four = &x[i / 32 * 128 + (i % 32 ^ 5) * 4];
        want.push_back(four[0] + four[1] + four[2] + four[3]);
    }
    return difference(output_of([&](auto& on) {
                          float* y = on.template output<float>("y", turns * 32);
                          ring(on.ctx, y, on.constant(x), turns, wrong);
                      }),
                      want);
}
std::string named_differs(Mistake wrong = none) {
    std::vector<double> want;
    for (int i = 0; i < 256; i++) { want.push_back(i / 64 * 64 + 63 - i % 64); }
    return difference(output_of([&](auto& on) { named(on.ctx, on.int_output("y", 256), wrong); }), want);
}
std::string product_differs(int N, A form, bool b_transposed, Mistake wrong = none) {
    const int M = 64, K = 128;
    for (int trial = 0; trial < 3; trial++) {
        const Factors f = factors(M, N, K, trial, 2, 100);
        const std::vector<double> got = output_of([&](auto& on) {
            float* c = on.template output<float>("c", M * N);
            warpgroup_product(on.ctx, c, on.constant(form == A::transposed ? transposed(f.a, M) : f.a),
                              on.constant(b_transposed ? f.b : transposed(f.b, K)), N, form, b_transposed,
                              wrong);
        });
        const std::string d = difference(got, product(f.a, f.b, K));
        if (!d.empty()) { return d; }
    }
    return "";
}

std::string exchanged_differs() {
    const int M = 16, N = 8, K = 64;
    for (int trial = 0; trial < K + 2; trial++) {
        const Factors f = factors(M, N, K, trial, K, 100);
        const std::vector<double> got = output_of([&](auto& on) {
            float* c = on.template output<float>("c", M * N);
            exchanged_product(on.ctx, c, on.constant(f.a), on.constant(transposed(f.b, K)));
        });
        const std::string d = difference(got, product(f.a, f.b, K));
        if (!d.empty()) { return d; }
    }
    return "";
}

const char* const needs_sm_90 = "these instructions came with sm_90, and the code that runs is older";
bool runs_sm_90() { return arch_of_code({}) >= 900; }

// ---- correct kernels ----

TEST(TensorCores, Mma) {
    EXPECT_EQ(matrices_differ(false, {by_registers}), "");
    EXPECT_EQ(matrices_differ(true, {by_registers}), "") << "ldmatrix .trans";
}
TEST(TensorCores, ExchangedChannels) { EXPECT_EQ(exchanged_differs(), ""); }
TEST(TensorCores, Stmatrix) {
    if (!runs_sm_90()) { GTEST_SKIP() << needs_sm_90; }
    EXPECT_EQ(matrices_differ(false, {by_stmatrix}), "");
    EXPECT_EQ(matrices_differ(false, {by_transpose}), "") << ".trans";
}
TEST(TensorCores, CpAsync) {
    EXPECT_EQ(copies_differ(16), "");
    EXPECT_EQ(copies_differ(4), "");
}
TEST(TensorCores, Mbarrier) {
    if (!runs_sm_90()) { GTEST_SKIP() << needs_sm_90; }
    EXPECT_EQ(ring_differs(), "");
}
TEST(TensorCores, NamedBarriers) { EXPECT_EQ(named_differs(), ""); }
TEST(TensorCores, Wgmma) {
    if (!has_wgmma()) {
        GTEST_SKIP() << "wgmma exists only on sm_90a: this is another card, or the kernels were compiled "
                        "without it (MOBA_ARCHS)";
    }
    for (int N : {16, 32, 64, 96, 128}) {
        for (A form : {A::rows, A::transposed, A::registers}) {
            for (bool b_transposed : {false, true}) {
                EXPECT_EQ(product_differs(N, form, b_transposed), "")
                    << "N " << N << ", form of a " << (int)form << (b_transposed ? ", b transposed" : "");
            }
        }
    }
}

// The special function unit has an error of 2^-22: relative for 2^x; for log2 relative or absolute, whichever
// is larger.
TEST(TensorCores, SpecialFunctionsAndQuads) {
    const int n = 4096;
    std::vector<float> x(n);
    for (int i = 0; i < n; i++) { x[i] = (float)(i - n / 2) * (60.f / n) + 1e-3f; }
    const std::vector<double> y = output_of([&](auto& on) {
        float* to = on.template output<float>("y", 4 * n);
        functions(on.ctx, to, on.constant(x), n);
    });
    for (int i = 0; i < n; i++) {
        const double power = std::exp2((double)x[i]), log = std::log2(std::abs((double)x[i]));
        const float *quad = &x[i / 4 * 4], largest = std::max({quad[0], quad[1], quad[2], quad[3]});
        EXPECT_NEAR(y[i], power, 3e-7 * power) << x[i];
        EXPECT_NEAR(y[n + i], log, 3e-7 * std::max(1.0, std::abs(log))) << x[i];
        EXPECT_EQ(y[2 * n + i], largest);
        EXPECT_NEAR(y[3 * n + i], (double)quad[0] + quad[1] + quad[2] + quad[3], 1e-5);
    }
}

// The purpose of the swizzle: the eight rows of a piece lie in eight different groups of banks. Without it
// all eight lie in the same group.
TEST(TensorCores, SwizzledTilesHaveNoBankConflicts) {
    if (!simulated()) { GTEST_SKIP() << "only the simulator counts them"; }
    for (bool b_transposed : {false, true}) {
        for (Mistake wrong : {none, unswizzled}) {
            const MatrixAccesses before = matrix_accesses();
            EXPECT_EQ(matrices_differ(b_transposed, {by_registers, by_stmatrix, by_transpose}, wrong), "");
            const long rows8 = matrix_accesses().rows8 - before.rows8;
            EXPECT_EQ(rows8, 34 * 4 * (2 * 2 + 2)) << "trials, matrices, two steps of a and b and two stores";
            EXPECT_EQ(matrix_accesses().conflicts - before.conflicts, wrong == none ? 0 : 7 * rows8);
        }
    }
}

// ---- mistakes ----

// How a mistake is detected: a wrong number, or the message with which the simulator stops
const char *const number = "wrong: number", *const deadlock = "simt: deadlock";

struct Planted {
    Mistake wrong;
    const char *what, *seen;
};
/* Makes each mistake in a separate process, which may abort. `differs(wrong)` runs and compares. */
template <class F>
void expect_seen(const std::vector<Planted>& mistakes, F differs) {
    if (!simulated()) { GTEST_SKIP() << "a GPU has no code for the mistakes"; }
    const auto make = [&](Mistake wrong) {
        const std::string d = differs(wrong);
        std::fprintf(stderr, "%s\n", d.empty() ? "right" : d.c_str());
        // without destructors, which would write to files of the parent process
        std::_Exit(d.empty() ? 0 : 1);
    };
    const auto not_zero = [](int status) { return status != 0; };
    for (const Planted& p : mistakes) { EXPECT_EXIT(make(p.wrong), not_zero, p.seen) << p.what; }
}

TEST(TensorCoresDeathTest, Matrices) {
    expect_seen({{swapped_matrices, "ldmatrix: two matrices swapped", number},
                 {shifted_lane, "mma: a fragment from another lane", number},
                 {untransposed, "ldmatrix: .trans forgotten", number},
                 {no_copy_wait, "cp.async: no wait", number}},
                [](Mistake wrong) {
                    return matrices_differ(true, {by_registers, by_stmatrix, by_transpose}, wrong);
                });
}
TEST(TensorCoresDeathTest, CpAsync) {
    expect_seen({{one_group_less, "cp.async: a group too few", number},
                 {no_barrier, "cp.async: no barrier after the wait", number},
                 {copy_too_early, "cp.async: into a buffer still read", number}},
                [](Mistake wrong) { return copies_differ(16, wrong); });
}
TEST(TensorCoresDeathTest, Barriers) {
    expect_seen({{wrong_parity, "mbarrier: wrong parity", "wrong: number|simt: deadlock"},
                 {wrong_count, "mbarrier: wrong count", deadlock}},
                [](Mistake wrong) { return ring_differs(wrong); });
    expect_seen({{few_threads, "named barrier: too few threads", "two numbers of threads"},
                 {no_sync, "named barrier: no sync", deadlock}},
                [](Mistake wrong) { return named_differs(wrong); });
}
TEST(TensorCoresDeathTest, Wgmma) {
    expect_seen({{no_proxy_fence, "no fence.proxy.async", number},
                 {one_fences, "fence.proxy.async by one thread", number},
                 {plain_store, "operand by an unmarked store", number},
                 {no_wgmma_fence, "no wgmma.fence", "no wgmma_fence"},
                 {no_wgmma_wait, "no wait", number},
                 {wrong_mode, "64-byte mode of a 128-byte tile", number},
                 {unswizzled, "tile not swizzled", number},
                 {row_off, "one row too far", number},
                 {operand_overwritten, "operand overwritten before the wait", number},
                 {accumulator_touched, "accumulator touched before the wait", "accumulators were written"},
                 {lanes_differ, "lanes with different descriptors", "different descriptors"},
                 {half_warpgroup, "half a warpgroup", "not a whole warpgroup"}},
                [](Mistake wrong) { return product_differs(64, A::rows, false, wrong); });
    expect_seen({{strides_swapped, "leading and stride exchanged", number}},
                [](Mistake wrong) { return product_differs(128, A::rows, true, wrong); });
    expect_seen({{a_changed, "A registers changed before the wait", number}},
                [](Mistake wrong) { return product_differs(64, A::registers, false, wrong); });
}

}  // namespace

}  // namespace moba

#include "moba/ops/adamw.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

const AdamWShape plain{0, 0.9, 0.95, 1e-8, 0};  // each test sets n

template <class A>
A norm_of(const std::vector<A>& g) {
    Guarded<double> sums(square_sums_count(g.size()));
    Guarded<A> norm(1);
    square_sums_cpu<A>({}, sums.data(), g.data(), g.size());
    grad_norm_cpu<A>({}, norm.data(), sums.data(), sums.values().size());
    EXPECT_TRUE(norm.intact() && sums.intact());
    return norm[0];
}

/* Two steps of one weight by hand: w = 1, g = 0.5 then -1, lr = 0.1, decay = 0.25, b1 = 0.9, b2 = 0.95.
   Step 1: m = 0.05, v = 0.0125; corrected 0.5 and 0.25: w = 1 - 0.1 (0.5/0.5 + 0.25) = 0.875
   Step 2: m = 0.045 - 0.1 = -0.055, v = 0.011875 + 0.05 = 0.061875;
           corrected -0.055/0.19 and 0.061875/0.0975 */
TEST(AdamW, WorkedByHand) {
    double w = 1, m = 0, v = 0, g = 0.5, norm = 0.5;
    const ParamRange range{0, 1, 1, 0.25f};
    AdamWShape s = plain;
    s.n = 1, s.eps = 0;
    StepState state{0, 1, 0, 1, 0.1};
    adamw_cpu<double>({}, &w, nullptr, &m, &v, &g, &norm, &range, 1, &state, s);
    EXPECT_NEAR(m, 0.05, 1e-15);
    EXPECT_NEAR(v, 0.0125, 1e-15);
    EXPECT_NEAR(w, 1 - 0.1 * (1 + 0.25), 1e-14);
    g = -1, state.step = 2;
    const double before = w;
    adamw_cpu<double>({}, &w, nullptr, &m, &v, &g, &norm, &range, 1, &state, s);
    EXPECT_NEAR(m, -0.055, 1e-15);
    EXPECT_NEAR(v, 0.061875, 1e-15);
    EXPECT_NEAR(w, before - 0.1 * (-0.055 / 0.19 / std::sqrt(0.061875 / 0.0975) + 0.25 * before), 1e-14);
}

// The learning rate is multiplied by the factor of each range; eps is added after the square root.
TEST(AdamW, RangesAndEps) {
    std::vector<double> w(3, 2), m(3), v(3), g{0.5, 0.5, 0.5};
    const ParamRange ranges[] = {{0, 1, 1, 0}, {1, 1, 3, 0.5f}, {2, 1, 0, 0.5f}};
    const double norm = 1;
    AdamWShape s = plain;
    s.n = 3, s.eps = 0.5;
    const StepState state{0, 1, 0, 1, 0.1};
    adamw_cpu<double>({}, w.data(), nullptr, m.data(), v.data(), g.data(), &norm, ranges, 3, &state, s);
    EXPECT_NEAR(w[0], 2 - 0.1 * 0.5 / (0.5 + 0.5), 1e-14);
    EXPECT_NEAR(w[1], 2 - 0.3 * (0.5 + 0.5 * 2), 1e-14);
    EXPECT_EQ(w[2], 2);
}

// (3, 4) has norm 5: clipped to 1 it becomes (0.6, 0.8); a norm below the limit changes nothing.
TEST(AdamW, Clip) {
    const std::vector<double> g{3, 0, 4};
    const double norm = norm_of(g);
    EXPECT_NEAR(norm, 5, 1e-15);
    for (double clip : {1.0, 10.0, 0.0}) {
        std::vector<double> w(3, 1), m(3), v(3);
        const ParamRange range{0, 3, 1, 0};
        const AdamWShape s{3, 0.9, 0.95, 1e-8, clip};
        const StepState state{0, 1, 0, 1, 1e-3};
        adamw_cpu<double>({}, w.data(), nullptr, m.data(), v.data(), g.data(), &norm, &range, 1, &state, s);
        const double scale = clip == 1 ? 1 / (5 + 1e-6) : 1;
        EXPECT_NEAR(m[0], 0.1 * 3 * scale, 1e-15);
        EXPECT_NEAR(v[2], 0.05 * 16 * scale * scale, 1e-15);
        EXPECT_EQ(w[1], 1);
    }
}

TEST(AdamW, NormIsTheNorm) {
    for (size_t n : {1, 4095, 4096, 4097, 50001}) {
        const auto g = draw<double>(n, 1);
        double sum = 0;
        for (double x : g) { sum += x * x; }
        expect_error("grad_norm fp64", std::fabs(norm_of(g) / std::sqrt(sum) - 1), 1.6e-14);
        const auto low = as<float>(g);
        expect_error("grad_norm fp32", std::fabs((double)norm_of(low) / norm_of(as<double>(low)) - 1), 6e-8);
    }
    EXPECT_GT(norm_of(std::vector<float>(10, 1e30f)), 1e30f);  // the squares are outside the range of fp32
    EXPECT_TRUE(std::isnan(norm_of(std::vector<float>{1, NAN})));
}

TEST(AdamW, NormNotFiniteChangesNothing) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
        std::vector<float> w{1, 2}, m{3, 4}, v{5, 6}, g{NAN, 1};
        std::vector<bf16> low{bf16(1.f), bf16(2.f)};
        const ParamRange range{0, 2, 1, 0.1f};
        AdamWShape s = plain;
        s.n = 2, s.clip = 1;
        const StepState state{0, 1, 0, 1, 0.1};
        adamw_cpu<bf16>({}, w.data(), low.data(), m.data(), v.data(), g.data(), &bad, &range, 1, &state, s);
        EXPECT_EQ(w, (std::vector<float>{1, 2}));
        EXPECT_EQ(m, (std::vector<float>{3, 4}));
        EXPECT_EQ(v, (std::vector<float>{5, 6}));
        EXPECT_EQ((float)low[1], 2.f);
    }
}

template <class E>
struct Weights {
    std::vector<acc_t<E>> w, m, v;
    std::vector<E> low;
};

// `steps` steps of n weights in three ranges. The weights in the gaps between the ranges must stay unchanged.
template <class E>
Weights<E> train(size_t n, int steps, double beta2) {
    using A = acc_t<E>;
    Guarded<A> w(n), m(n), v(n);
    Guarded<E> low(n);
    const auto start = draw<float>(n, 1);
    for (size_t i = 0; i < n; i++) {
        w.data()[i] = start[i], m.data()[i] = 0, v.data()[i] = 0, low.data()[i] = E(7.f);
    }
    const std::vector<ParamRange> ranges{
        {0, n / 3, 1, 0.1f}, {n / 3 + 5, n / 5, 2, 0}, {n * 3 / 5 + 77, n / 4, 0.5f, 0.1f}};
    for (int step = 1; step <= steps; step++) {
        const auto g = as<A>(draw<float>(n, 10 + step, 0.01));
        const A norm = norm_of(g);
        const StepState state{0, (uint32_t)step, 0, 1, 0.01};
        adamw_cpu<E>({}, w.data(), std::is_same_v<E, A> ? nullptr : low.data(), m.data(), v.data(), g.data(),
                     &norm, ranges.data(), 3, &state, {n, 0.9, beta2, 1e-8, 0.5});
    }
    EXPECT_TRUE(w.intact() && m.intact() && v.intact() && low.intact());
    for (size_t i : {n / 3, n / 3 + 4, n * 3 / 5 + 76, n - 1}) { EXPECT_EQ(w[i], (A)start[i]); }
    return {w.values(), m.values(), v.values(), low.values()};
}

// Weights are compared by absolute error, moments by relative error.
TEST(AdamW, Fp32IsCloseToDouble) {
    for (double beta2 : {0.95, 0.999}) {
        for (int steps : {1, 20}) {
            const Weights<float> got = train<float>(10007, steps, beta2);
            const Weights<double> want = train<double>(10007, steps, beta2);
            // weights are up to 4: one rounding at each step, mostly in the opposite direction to the one
            // before
            const double error = max_abs_error(got.w.data(), want.w.data(), want.w.size());
            const std::string name = "adamw b2=" + std::to_string(beta2) + " ";
            expect_error(name + "w", error, 2.4e-7 + steps * 8e-8);
            expect_error(name + "m", relative_error(got.m, want.m), 7e-7);
            expect_error(name + "v", relative_error(got.v, want.v), 8e-7);
        }
    }
}

// bf16: the master weights are those of an fp32 run, and the bf16 copy is their rounding.
TEST(AdamW, LowCopyIsRounded) {
    const Weights<bf16> got = train<bf16>(10007, 3, 0.95);
    const Weights<float> want = train<float>(10007, 3, 0.95);
    EXPECT_EQ(got.w, want.w);
    EXPECT_EQ((float)got.low[10007 / 3], 7.f);  // in a gap between two ranges
    for (size_t i = 0; i < 10007 / 3; i++) { ASSERT_EQ(got.low[i].bits, bf16(want.w[i]).bits); }
}

TEST(AdamW, SameBitsOnThreads) {
    expect_same_bits_on_threads([] {
        const Weights<float> r = train<float>(30011, 2, 0.95);
        return bits(r.w, r.m, r.v);
    });
}

}  // namespace

}  // namespace moba

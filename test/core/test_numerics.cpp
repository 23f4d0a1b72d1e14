/* Tests of the comparisons themselves, and of the numerical basics: bf16, fast_exp, and how work is divided
   among threads. */
#include "test/support/packed_batch.h"
#include <atomic>
#include <gtest/gtest-spi.h>
#include <limits>

namespace moba {

namespace {

TEST(Checks, RejectsNan) {
    const std::vector<float> one{1, 2, 3}, bad{1, NAN, 3};
    EXPECT_EQ(relative_error(bad, one), INFINITY);
    EXPECT_EQ(relative_error(one, bad), INFINITY);
    EXPECT_EQ(relative_error(bad, bad), INFINITY);
    EXPECT_EQ(relative_error(std::vector<float>{1, INFINITY, 3}, one), INFINITY);
    EXPECT_EQ(relative_error(one, std::vector<float>{1, 2}), INFINITY);  // one element is missing
    EXPECT_NONFATAL_FAILURE(EXPECT_WITHIN(NAN, 1.0), "allowed");
    EXPECT_NONFATAL_FAILURE(EXPECT_WITHIN(0.0, NAN), "allowed");
    EXPECT_NONFATAL_FAILURE(expect_error("x", NAN, 1), "allowed");
    EXPECT_NONFATAL_FAILURE(expect_error("x", 2, 1), "allowed");
    EXPECT_WITHIN(relative_error(std::vector<float>{1, 2, 3.3f}, one), 0.11);
    EXPECT_NONFATAL_FAILURE(EXPECT_WITHIN(relative_error(std::vector<float>{1, 2, 3.3f}, one), 0.09),
                            "allowed");
}

TEST(Checks, GradientErrorRejectsNanAndWrongSign) {
    std::vector<double> x{0.5, -2}, nan{1, NAN}, right{1, -4}, wrong{-1, -4};
    const auto f = [&] { return x[0] * x[0] + x[1] * x[1]; };
    EXPECT_LT(gradient_error(x, right, f), 1e-9);
    EXPECT_GT(gradient_error(x, wrong, f), 0.4);
    EXPECT_EQ(gradient_error(x, nan, f), INFINITY);
    EXPECT_EQ(gradient_error(x, {1}, f), INFINITY);
}

TEST(Checks, GuardsSeeAnOverrun) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        Guarded<E> x(5);
        for (size_t i = 0; i < 5; i++) { EXPECT_TRUE(std::isnan((double)x[i])); }
        EXPECT_TRUE(x.intact());
        x.data()[4] = E(1.f);
        EXPECT_TRUE(x.intact());
        x.data()[5] = E(1.f);
        EXPECT_FALSE(x.intact());
        Workspace w(3);
        EXPECT_TRUE(w.intact());
        w.ctx.workspace[3] = 0;
        EXPECT_FALSE(w.intact());
    });
}

static float from_bits(uint32_t u) {
    float f;
    std::memcpy(&f, &u, 4);
    return f;
}
static uint16_t bf16_bits(float f) { return bf16(f).bits; }

// Every finite bf16, the midpoint to the next one, and the floats on both sides of the midpoint.
TEST(Bf16, RoundsToNearestEven) {
    for (uint32_t sign : {0u, 0x8000u}) {
        for (uint32_t b = 0; b < 0x7f80; b++) {
            const uint32_t at = (sign | b) << 16, middle = at + 0x8000;
            const uint16_t down = (uint16_t)(sign | b),
                           up = (uint16_t)(down + 1);  // after the largest finite number comes infinity
            ASSERT_EQ(bf16_bits(from_bits(at)), down);
            ASSERT_EQ(bf16_bits(from_bits(middle - 1)), down);
            ASSERT_EQ(bf16_bits(from_bits(middle + 1)), up);
            ASSERT_EQ(bf16_bits(from_bits(middle)), b % 2 ? up : down);
        }
    }
}

TEST(Bf16, KeepsNanAndInfinity) {
    for (uint32_t nan : {0x7fc00000u, 0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffffffffu}) {
        EXPECT_TRUE(std::isnan((float)bf16(from_bits(nan)))) << std::hex << nan;
        EXPECT_EQ(bf16_bits(from_bits(nan)), 0x7fff) << "the GPU's NaN";
    }
    EXPECT_EQ((float)bf16(INFINITY), INFINITY);
    EXPECT_EQ((float)bf16(-INFINITY), -INFINITY);
    EXPECT_EQ(bf16_bits(-0.f), 0x8000);
    EXPECT_EQ((float)bf16(std::numeric_limits<float>::max()), INFINITY);
    EXPECT_EQ(sizeof(bf16), 2u);
    EXPECT_EQ(round_to<bf16>(1.00390625f), 1.f);  // 1 + 2^-8 is a tie: rounded to even
    EXPECT_EQ(round_to<float>(1.00390625f), 1.00390625f);
}

// The error bound stated in parallel.h, over the whole range of arguments and beyond.
TEST(FastExp, IsCloseToExp) {
    double worst = 0;
    for (double x = -87; x <= 88; x += 1.0 / 4099) {
        const double want = std::exp((double)(float)x);
        worst = std::max(worst, std::fabs((double)fast_exp((float)x) / want - 1));
    }
    // measured over every float: 2.31e-7, without FMA 2.54e-7
    expect_error("fast_exp, relative", worst, 2.6e-7);
    EXPECT_EQ(fast_exp(0.f), 1.f);
    EXPECT_EQ(fast_exp(-87.5f), 0.f);
    EXPECT_EQ(fast_exp(-1e30f), 0.f);
    EXPECT_EQ(fast_exp(-INFINITY), 0.f);
    EXPECT_TRUE(std::isfinite(fast_exp(1e30f)));
    EXPECT_GT(fast_exp(INFINITY), 1e38f);
    EXPECT_TRUE(std::isnan(fast_exp(NAN)));
}

// A loop of fast_exp calls, as the operations have it, is compiled to vector instructions; each result must
// equal that of a single call.
TEST(FastExp, VectorsEqualScalars) {
    std::vector<float> x = draw<float>(1000, 0, 40);
    for (float& e : x) { e = std::clamp(e, -86.f, 88.f); }
    std::vector<float> y(x.size());
#pragma omp simd
    for (size_t i = 0; i < x.size(); i++) { y[i] = fast_exp(x[i]); }
    for (size_t i = 0; i < x.size(); i++) {
        volatile float alone = x[i];
        ASSERT_NEAR(y[i] / std::exp((double)alone), 1, 2.6e-7) << alone;
        ASSERT_NEAR(fast_exp(alone) / y[i], 1, 2.6e-7) << alone;
    }
}

TEST(Highest, IsTheMaximum) {
    for (int n = 1; n <= 70; n++) {
        for (int at = 0; at < n; at++) {
            std::vector<float> x = draw<float>(n, n);
            x[at] = 10;
            ASSERT_EQ(highest(x.data(), n), 10.f) << at << " of " << n;
            x[(at + 1) % n] = NAN;  // NaN is ignored
            ASSERT_EQ(highest(x.data(), n), n == 1 ? -INFINITY : 10.f);
        }
        const std::vector<double> none(n, -INFINITY);
        ASSERT_EQ(highest(none.data(), n), -INFINITY);
    }
}

TEST(Parallel, EveryElementOnce) {
    for (size_t n : {0, 1, 2, 63, 64, 65, 1000}) {
        for (size_t grain : {1, 7, 64, 2000}) {
            std::vector<std::atomic<int>> seen(n);
            parallel_ranges(n, grain, [&](size_t b, size_t e) {
                EXPECT_TRUE(b < e && e - b <= grain && b % grain == 0);
                for (size_t i = b; i < e; i++) { seen[i]++; }
            });
            EXPECT_TRUE(std::all_of(seen.begin(), seen.end(), [](const auto& s) { return s == 1; }));
        }
        std::atomic<int> calls = 0;
        parallel_for(n, [&](size_t, int thread) {
            EXPECT_TRUE(thread >= 0 && thread < max_threads());
            calls++;
        });
        EXPECT_EQ((size_t)calls, n);
    }
}

TEST(Numbers, CeilAndRound) {
    EXPECT_EQ(ceil_div(0, 16), 0);
    EXPECT_EQ(ceil_div(1, 16), 1);
    EXPECT_EQ(ceil_div(16, 16), 1);
    EXPECT_EQ(ceil_div(17, 16), 2);
    EXPECT_EQ(round_up<size_t>((size_t)1 << 40, 256), (size_t)1 << 40);
    EXPECT_EQ(round_up<size_t>(((size_t)1 << 40) + 1, 256), ((size_t)1 << 40) + 256);
}

}  // namespace

}  // namespace moba

#include "moba/config.h"
#include "moba/ops/rope.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

const double theta = 10000;

std::vector<double> frequencies(int D, double factor = 1) {
    std::vector<double> f;
    for (int i = 0; i < D / 2; i++) { f.push_back(std::pow(theta, -2.0 * i / D) / factor); }
    return f;
}

template <class A>
std::vector<A> table_for(int D, int positions, double factor = 1) {
    Guarded<A> table(rope_table_size(positions, D));
    rope_fill_table(table.data(), frequencies(D, factor), positions);
    EXPECT_TRUE(table.intact());
    return table.values();
}

/* Positions where the index into the split table changes row, and a position of a million, where angles
   computed in fp32 would be off by 0.05. */
const std::vector<int> positions{0, 1, 2, 1023, 1024, 1025, 2047, 2048, 65536, 1000000, 999424, 7};
const int longest = 1000001;

template <class E>
std::vector<E> rotated(const std::vector<E>& x, RopeShape s, bool backward, double factor = 1) {
    // of the last D; kept between calls, because computing 2000 rows of sines is slow
    static std::vector<acc_t<E>> table;
    static int made_for = 0;
    static double made_factor = 0;
    if (made_for != s.D || made_factor != factor) { table = table_for<acc_t<E>>(s.D, longest, factor); }
    made_for = s.D, made_factor = factor;
    Guarded<E> y(x.size());
    const auto f = backward ? rope_backward_cpu<E> : rope_forward_cpu<E>;
    f({}, y.data(), x.data(), positions.data(), table.data(), s);
    EXPECT_TRUE(y.intact());
    return y.values();
}

// The definition in rope.h, with angles in fp64
std::vector<double> reference(const std::vector<double>& x, RopeShape s, int sign, double factor = 1) {
    std::vector<double> y(x.size());
    const std::vector<double> f = frequencies(s.D, factor);
    for (size_t row = 0; row < x.size() / s.D; row++) {
        for (int i = 0; i < s.D / 2; i++) {
            const double a = sign * positions[row / s.H] * f[i], re = x[row * s.D + i],
                         im = x[row * s.D + i + s.D / 2];
            y[row * s.D + i] = re * std::cos(a) - im * std::sin(a);
            y[row * s.D + i + s.D / 2] = re * std::sin(a) + im * std::cos(a);
        }
    }
    return y;
}

TEST(Rope, IsTheRotation) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (int D : {2, 6, 16, 64, 80, 96, 128}) {
            const RopeShape s{(int)positions.size(), 3, D};
            const std::vector<E> x = draw<E>((size_t)s.M * s.H * D, D);
            const std::vector<double> wide = as<double>(x);
            const std::string name = std::string("rope ") + type_name<E>() + " D=" + std::to_string(D);
            // double: the angle itself has an error of 10^6 * 2^-53
            const double tolerance = std::is_same_v<E, double> ? 1.8e-10 : allowed<E>(2.4e-7, 4e-3);
            expect_error(name, relative_error(rotated(x, s, false), reference(wide, s, 1)), tolerance);
            expect_error(name + " backward", relative_error(rotated(x, s, true), reference(wide, s, -1)),
                         tolerance);
        }
    });
}

TEST(Rope, LinearScalingDividesPositions) {
    const RopeShape s{(int)positions.size(), 1, 16};
    const auto x = draw<double>((size_t)s.M * s.D, 1);
    expect_error("rope factor 4", relative_error(rotated(x, s, false, 4), reference(x, s, 1, 4)), 1.5e-11);
}

// Position 0 changes nothing; the backward pass undoes the forward pass; in place gives the same bits.
TEST(Rope, IsOrthogonal) {
    const RopeShape s{(int)positions.size(), 2, 96};
    const auto x = draw<float>((size_t)s.M * s.H * s.D, 1);
    std::vector<float> y = rotated(x, s, false);
    for (int i = 0; i < s.H * s.D; i++) { ASSERT_EQ(y[i], x[i]); }
    expect_error("rope back and forth", relative_error(rotated(y, s, true), x), 2.5e-7);
    const std::vector<float> table = table_for<float>(s.D, longest);
    std::vector<float> place = x;
    rope_forward_cpu<float>({}, place.data(), place.data(), positions.data(), table.data(), s);
    EXPECT_EQ(place, y);
    rope_backward_cpu<float>({}, place.data(), place.data(), positions.data(), table.data(), s);
    EXPECT_EQ(place, rotated(y, s, true));
}

// The purpose of RoPE: <rope(q, t), rope(k, j)> depends only on t - j.
TEST(Rope, ScoresDependOnTheDistance) {
    const int D = 80;
    const auto q = draw<double>(D, 1), k = draw<double>(D, 2);
    const std::vector<double> table = table_for<double>(D, 5000);
    const auto score = [&](int t, int j) {
        std::vector<double> a(D), b(D);
        rope_forward_cpu<double>({}, a.data(), q.data(), &t, table.data(), {1, 1, D});
        rope_forward_cpu<double>({}, b.data(), k.data(), &j, table.data(), {1, 1, D});
        return inner(a, b);
    };
    EXPECT_NEAR(score(37, 5), score(4032, 4000), 1e-10);
    EXPECT_NEAR(score(1024, 1023), score(1, 0), 1e-10);
    EXPECT_GT(std::fabs(score(37, 5) - score(37, 6)), 1e-3);
}

TEST(Rope, Gradient) {
    const RopeShape s{(int)positions.size(), 1, 6};
    std::vector<double> x = draw<double>((size_t)s.M * s.D, 1);
    const auto dy = draw<double>(x.size(), 2);
    const auto f = [&] { return inner(rotated(x, s, false), dy); };
    expect_error("rope gradient", gradient_error(x, rotated(dy, s, true), f), gradient_tolerance);
}

// The frequencies of Config are those used in these tests.
TEST(Rope, ConfigFrequencies) {
    Config c;
    c.head_dim = 80;
    c.rope_theta = theta;
    c.rope_scaling = {RopeType::linear, 2.5};
    EXPECT_EQ(c.rope_frequencies(), frequencies(80, 2.5));
}

// yarn: the same rotation, and longer, forward and backward.
TEST(Rope, ATableWithALength) {
    const RopeShape s{(int)positions.size(), 2, 8};
    std::vector<double> table(rope_table_size(longest, s.D)), x(s.M * s.H * s.D);
    rope_fill_table(table.data(), frequencies(s.D), longest, 1.5);
    for (size_t i = 0; i < x.size(); i++) { x[i] = std::sin((double)i); }
    for (const bool backward : {false, true}) {
        std::vector<double> y(x.size()), want = rotated<double>(x, s, backward);
        (backward ? rope_backward_cpu<double> : rope_forward_cpu<double>)({}, y.data(), x.data(),
                                                                          positions.data(), table.data(), s);
        for (size_t i = 0; i < y.size(); i++) { EXPECT_NEAR(y[i], 1.5 * want[i], 1e-12); }
    }
}

}  // namespace

}  // namespace moba

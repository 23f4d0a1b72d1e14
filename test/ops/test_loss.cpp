#include "moba/ops/loss.h"
#include "moba/ops/loss_sums.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

const StepState state{0, 1, 0, 1.0 / 37, 0};

template <class E>
struct Result {
    std::vector<acc_t<E>> loss;
    std::vector<int> correct;
    std::vector<E> dz;
};

template <class E>
Result<E> run(const std::vector<acc_t<E>>& z, const std::vector<int>& target, int V) {
    const int M = (int)target.size();
    Guarded<acc_t<E>> loss(M);
    Guarded<E> dz(z.size());
    std::vector<int> correct(M, 7);
    loss_forward_backward_cpu<E>({}, loss.data(), correct.data(), dz.data(), z.data(), target.data(), &state,
                                 {M, V});
    EXPECT_TRUE(loss.intact() && dz.intact());
    Guarded<acc_t<E>> again(M);  // without a gradient: the same losses
    loss_forward_backward_cpu<E>({}, again.data(), correct.data(), nullptr, z.data(), target.data(), &state,
                                 {M, V});
    EXPECT_EQ(bits(again.values()), bits(loss.values()));
    return {loss.values(), correct, dz.values()};
}

// Targets of which every third is ignored.
std::vector<int> some_ignored(int M, int V) {
    std::vector<int> target = draw_below(M, 9, V);
    for (int m = 1; m < M; m += 3) { target[m] = ignored; }
    return target;
}

const LossShape shapes[] = {{1, 1}, {1, 2}, {15, 17}, {16, 64}, {17, 1000}, {100, 31}, {3, 50257}};

TEST(Loss, IsTheEquation) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (const LossShape& s : shapes) {
            const auto z = draw<acc_t<E>>((size_t)s.M * s.V, 1, 3);
            const std::vector<int> target = some_ignored(s.M, s.V);
            const Result<E> got = run<E>(z, target, s.V);
            std::vector<double> loss(s.M), dz(z.size());
            for (int m = 0; m < s.M; m++) {
                if (target[m] == ignored) { continue; }
                double sum = 0;
                for (int v = 0; v < s.V; v++) { sum += std::exp((double)z[(size_t)m * s.V + v]); }
                loss[m] = std::log(sum) - z[(size_t)m * s.V + target[m]];
                for (int v = 0; v < s.V; v++) {
                    dz[(size_t)m * s.V + v] =
                        (std::exp((double)z[(size_t)m * s.V + v]) / sum - (v == target[m])) *
                        state.loss_scale;
                }
            }
            const std::string name =
                std::string("loss ") + type_name<E>() + " V=" + std::to_string(s.V) + " ";
            const double size = max_abs(loss.data(), loss.size()) + std::log((double)s.V) + 1;
            // the error of a sum of 50257 numbers depends on its order: without vectors they are added one
            // after another
            const double loss_error = s.V > 1000 ? 4e-6 : 1.2e-7, dz_error = s.V > 1000 ? 1.4e-5 : 1.3e-6;
            expect_error(name + "loss / (|loss| + log V + 1)",
                         max_abs_error(got.loss.data(), loss.data(), loss.size()) / size,
                         allowed<E>(loss_error, loss_error));
            expect_error(name + "dz / scale",
                         max_abs_error(got.dz.data(), dz.data(), dz.size()) / state.loss_scale,
                         allowed<E>(dz_error, 4e-3));
        }
    });
}

TEST(Loss, Gradient) {
    const int M = 7, V = 9;
    auto z = draw<double>(M * V, 1, 2);
    const std::vector<int> target = some_ignored(M, V);
    const Result<double> got = run<double>(z, target, V);
    const auto f = [&] {
        double sum = 0;
        for (double l : run<double>(z, target, V).loss) { sum += l; }
        return sum * state.loss_scale;
    };
    expect_error("loss gradient", gradient_error(z, got.dz, f), gradient_tolerance);
}

// Each row of the gradient sums to 0.
TEST(Loss, GradientRowsSumToZero) {
    const int M = 20, V = 1000;
    const auto z = draw<float>((size_t)M * V, 1, 3);
    const std::vector<int> target = some_ignored(M, V);
    const Result<float> got = run<float>(z, target, V);
    for (int m = 0; m < M; m++) {
        double sum = 0;
        for (int v = 0; v < V; v++) { sum += got.dz[(size_t)m * V + v]; }
        EXPECT_NEAR(sum, 0, 1e-7 * state.loss_scale * 20) << m;
        EXPECT_EQ(got.dz[(size_t)m * V + std::max(target[m], 0)] < 0, target[m] != ignored);
    }
}

TEST(Loss, IgnoredTargetsAreZero) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        std::vector<acc_t<E>> z = draw<acc_t<E>>(3 * 5, 1);
        z[7] = (acc_t<E>)NAN;  // this row must not be read
        const Result<E> got = run<E>(z, {2, ignored, 4}, 5);
        EXPECT_EQ(got.loss[1], 0);
        EXPECT_EQ(got.correct[1], 0);
        for (int v = 5; v < 10; v++) { EXPECT_EQ((double)got.dz[v], 0); }
        EXPECT_GT(got.loss[0], 0);
    });
}

TEST(Loss, HugeLogitsStayFinite) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        const Result<E> got = run<E>({10000, -10000, 0, -10000, 10000, 0, 10000, 10000, 10000}, {0, 0, 2}, 3);
        EXPECT_NEAR((double)got.loss[0], 0, 1e-6);
        EXPECT_NEAR((double)got.loss[1], 20000, 1e-2);
        // the spacing of fp32 numbers near 10^4 is 10^-3
        EXPECT_NEAR((double)got.loss[2], std::log(3.0), 2e-3);
        EXPECT_TRUE(got.correct[0] == 1 && got.correct[1] == 0);
        EXPECT_NEAR((double)got.dz[3] / state.loss_scale, -1, 1e-2);
        EXPECT_NEAR((double)got.dz[4] / state.loss_scale, 1, 1e-2);
        for (const E& x : got.dz) { EXPECT_TRUE(std::isfinite((double)x)); }
    });
}

// Of equal largest logits the one with the lowest index is the prediction.
TEST(Loss, CorrectOnTies) {
    const std::vector<float> z{1, 3, 3, 3, 0, 0, 0, 5};
    EXPECT_EQ((run<float>(z, {1, 3}, 4).correct), (std::vector<int>{1, 1}));
    EXPECT_EQ((run<float>(z, {2, 0}, 4).correct), (std::vector<int>{0, 0}));
    EXPECT_TRUE(std::isnan(run<float>({1, NAN, 2}, {0}, 3).loss[0]));
}

TEST(Loss, GradientInPlace) {
    auto z = draw<float>(33 * 70, 1);
    const std::vector<int> target = some_ignored(33, 70);
    const Result<float> want = run<float>(z, target, 70);
    std::vector<float> loss(33);
    std::vector<int> correct(33);
    loss_forward_backward_cpu<float>({}, loss.data(), correct.data(), z.data(), z.data(), target.data(),
                                     &state, {33, 70});
    EXPECT_EQ(z, want.dz);
    EXPECT_EQ(loss, want.loss);
}

TEST(LossDeathTest, TargetOutsideTheVocabulary) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    for (int bad : {-2, 3}) {
        EXPECT_EXIT(run<float>({1, 2, 3}, {bad}, 3), testing::ExitedWithCode(1), "V = 3");
    }
}

TEST(Loss, SumsAreAdded) {
    const std::vector<float> loss{0.5f, 2, 0, 1e-8f};
    const std::vector<int> correct{1, 0, 0, 1};
    double sums[] = {10, 3};
    loss_sums_cpu({}, sums, loss.data(), correct.data(), 4);
    EXPECT_EQ(sums[0], 12.5 + (double)1e-8f) << "summed in double: fp32 would lose the last loss";
    EXPECT_EQ(sums[1], 5);
    loss_sums_cpu({}, sums, loss.data(), correct.data(), 0);
    EXPECT_EQ(sums[1], 5);
}

}  // namespace

}  // namespace moba

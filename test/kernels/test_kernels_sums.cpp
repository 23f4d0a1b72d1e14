/* The sums that a step reports: fewer tokens than threads, as many as threads, and several rounds. */
#include "moba/ops/loss_sums.h"
#include "test/support/kernel_case.h"

namespace moba {

namespace {

using namespace kernel_case;

TEST(Kernels, LossSums) {
    for (const int M : {0, 1, 33, 1024, 5000}) {
        expect_kernels("loss sums", 1, [M](auto& on) {
            using A = typename std::decay_t<decltype(on)>::A;
            std::vector<int> right = draw_below(M, 2, 2);
            const A* loss = on.wide_input(M, 1);
            const int* correct = on.constant(right);
            double* sums = on.template inout<double>("sums", {0.25, 7});
            CALL(loss_sums, A, sums, loss, correct, M);
        });
    }
}

TEST(Kernels, LossSumsKeepNaN) {
    DeviceRun<true, float, float> on(1);
    std::vector<float> values(3000, 1.f);
    values[2999] = NAN;
    double* sums = on.inout<double>("sums", {0, 0});
    loss_sums_gpu(on.ctx, sums, on.constant(values), on.constant(std::vector<int>(3000, 1)), 3000);
    const Outputs out = on.results();
    EXPECT_TRUE(std::isnan(out[0].values[0]));
    EXPECT_EQ(out[0].values[1], 3000);
}

}  // namespace

}  // namespace moba

/* Confidence intervals against published values. */
#include "test/support/check.h"
#include "train/core/statistics.h"

namespace moba {

TEST(Interval, Wilson) {
    const Interval i = wilson(8, 10);
    EXPECT_NEAR(i.low, 0.4901625, 1e-5);
    EXPECT_NEAR(i.high, 0.9433178, 1e-5);
    EXPECT_NEAR(wilson(10, 10).high, 1, 1e-12);
    EXPECT_NEAR(wilson(10, 10).low, 0.7224672, 1e-5);
    EXPECT_NEAR(wilson(0, 1000).low, 0, 1e-12);
}

TEST(Interval, StudentOverTheRuns) {
    // 1, 2, 3: mean 2, deviation 1, so 2 -+ 4.303 / sqrt(3)
    EXPECT_NEAR(student({1, 2, 3}).low, 2 - 2.48434, 1e-4);
    EXPECT_NEAR(student({1, 2, 3}).high, 2 + 2.48434, 1e-4);
    // 0, 1: deviation sqrt(1/2), over sqrt(2): 0.5 -+ 12.706 / 2
    EXPECT_NEAR(student({0, 1}).low, 0.5 - 6.353, 1e-9);
    // 11 values: ten degrees of freedom; 12 values: eleven; 32 values: outside the table
    std::vector<double> v = {-1, 1, -1, 1, -1, 1, -1, 1, -1, 1, 0};
    EXPECT_NEAR(student(v).high, 2.228 / std::sqrt(11.0), 1e-9);  // sum of squares 10, divided by n-1 = 10
    v.back() = -1, v.push_back(1);
    EXPECT_NEAR(student(v).high, 2.201 / std::sqrt(11.0), 1e-9);  // sum of squares 12, divided by 11 * 12
    for (int i = 0; i < 10; i++) { v.push_back(-1), v.push_back(1); }
    EXPECT_NEAR(student(v).high, 1.96 / std::sqrt(31.0), 1e-9);
    EXPECT_EQ(student({0.5, 0.5}).high, 0.5);
}

TEST(Interval, OneRunGivesNone) {
    EXPECT_TRUE(std::isnan(student({1}).low));
    EXPECT_TRUE(std::isnan(student({}).high));
    EXPECT_TRUE(std::isnan(mean({})));
    EXPECT_EQ(mean({1, 2, 6}), 3);
}

TEST(Interval, Median) {
    EXPECT_EQ(median({3, 1, 2}), 2);
    EXPECT_EQ(median({4, 1, 3, 2}), 3);
    EXPECT_EQ(median({7}), 7);
}

}  // namespace moba

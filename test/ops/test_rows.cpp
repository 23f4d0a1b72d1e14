#include "moba/ops/rows.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

// `count` different row indices below M, in ascending order
std::vector<int> some_rows(int count, int M) {
    std::vector<int> all(M), out;
    Rng rng(4, Purpose::test, M);
    for (int m = 0, left = count; m < M; m++) {
        if (rng.below(M - m) < left) {
            out.push_back(m);
            left--;
        }
    }
    return out;
}

TEST(Rows, GatherAndScatter) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (const RowsShape s : {RowsShape{1, 1, 1}, {0, 5, 3}, {3, 3, 7}, {16, 300, 33}, {299, 600, 5}}) {
            const std::vector<int> row = some_rows(s.R, s.M);
            ASSERT_EQ((int)row.size(), s.R);
            std::vector<E> x = draw<E>((size_t)s.M * s.C, 1), back((size_t)s.M * s.C);
            x[0] = E(NAN);
            Guarded<E> y((size_t)s.R * s.C), dx(x.size());
            gather_rows_cpu<E>({}, y.data(), x.data(), row.data(), s);
            scatter_rows_cpu<E>({}, dx.data(), y.data(), row.data(), s);
            for (int i = 0; i < s.R; i++) {
                const E* from = &x[(size_t)row[i] * s.C];
                ASSERT_EQ(std::memcmp(y.data() + (size_t)i * s.C, from, s.C * sizeof(E)), 0);
                std::copy_n(from, s.C, &back[(size_t)row[i] * s.C]);
            }
            EXPECT_EQ(std::memcmp(dx.data(), back.data(), back.size() * sizeof(E)), 0);
            EXPECT_TRUE(y.intact() && dx.intact());
        }
    });
}

TEST(RowsDeathTest, RowOutside) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    std::vector<float> x(6), y(2);
    const int row = 3;
    EXPECT_EXIT(gather_rows_cpu<float>({}, y.data(), x.data(), &row, {1, 3, 2}), testing::ExitedWithCode(1),
                "row 3 of 3");
}

}  // namespace

}  // namespace moba

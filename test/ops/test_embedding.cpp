#include "moba/ops/embedding.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

// Rows are copied bit by bit, whatever they contain.
TEST(Embedding, ForwardCopiesRows) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (const EmbeddingShape s : {EmbeddingShape{1, 1, 1}, {5, 3, 2}, {257, 33, 50}, {300, 64, 1000}}) {
            const std::vector<int> token = draw_below(s.M, 0, s.V);
            std::vector<E> w = draw<E>((size_t)s.V * s.C, 1);
            w[0] = E(NAN);  // even NaN
            Guarded<E> y((size_t)s.M * s.C);
            embedding_forward_cpu<E>({}, y.data(), token.data(), w.data(), s);
            for (int m = 0; m < s.M; m++) {
                ASSERT_EQ(
                    std::memcmp(y.data() + (size_t)m * s.C, &w[(size_t)token[m] * s.C], s.C * sizeof(E)), 0);
            }
            EXPECT_TRUE(y.intact());
        }
    });
}

// Gradients are added to the existing values in the order of the tokens. The batches have few different
// tokens, so most rows are added to many times and some never.
TEST(Embedding, BackwardAddsInOrder) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        using A = acc_t<E>;
        for (const EmbeddingShape s :
             {EmbeddingShape{1, 1, 1}, {65, 31, 3}, {257, 33, 20}, {300, 100, 1000}}) {
            const std::vector<int> token = draw_below(s.M, 0, s.V);
            const std::vector<E> dy = draw<E>((size_t)s.M * s.C, 1);
            const std::vector<A> before = draw<A>((size_t)s.V * s.C, 2);
            Guarded<A> dw(before.size());
            std::copy(before.begin(), before.end(), dw.data());
            std::vector<A> same = before;
            std::vector<double> want = as<double>(before);
            for (int m = 0; m < s.M; m++) {
                for (int c = 0; c < s.C; c++) {
                    want[(size_t)token[m] * s.C + c] += (double)dy[(size_t)m * s.C + c];
                    same[(size_t)token[m] * s.C + c] += A(dy[(size_t)m * s.C + c]);
                }
            }
            embedding_backward_cpu<E>({}, dw.data(), token.data(), dy.data(), s);
            EXPECT_EQ(dw.values(), same);
            expect_error(std::string("embedding dw ") + type_name<E>(), relative_error(dw.values(), want),
                         allowed<E>(3e-7, 3e-7));
            EXPECT_TRUE(dw.intact());
        }
    });
}

TEST(Embedding, Gradient) {
    const EmbeddingShape s{7, 3, 4};
    const std::vector<int> token = draw_below(s.M, 0, s.V);
    std::vector<double> w = draw<double>(s.V * s.C, 1), dw(w.size());
    const std::vector<double> dy = draw<double>(s.M * s.C, 2);
    embedding_backward_cpu<double>({}, dw.data(), token.data(), dy.data(), s);
    const auto f = [&] {
        std::vector<double> y(dy.size());
        embedding_forward_cpu<double>({}, y.data(), token.data(), w.data(), s);
        return inner(y, dy);
    };
    expect_error("embedding gradient", gradient_error(w, dw, f), gradient_tolerance);
}

TEST(Embedding, SameBitsOnThreads) {
    const EmbeddingShape s{1000, 200, 30};
    const std::vector<int> token = draw_below(s.M, 0, s.V);
    const std::vector<float> dy = draw<float>((size_t)s.M * s.C, 1);
    expect_same_bits_on_threads([&] {
        std::vector<float> dw((size_t)s.V * s.C), y(dy.size());
        embedding_backward_cpu<float>({}, dw.data(), token.data(), dy.data(), s);
        embedding_forward_cpu<float>({}, y.data(), token.data(), dw.data(), s);
        return bits(dw, y);
    });
}

TEST(EmbeddingDeathTest, TokenOutsideTheTable) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    std::vector<float> w(6), y(2);
    for (int token : {-1, 3}) {
        EXPECT_EXIT(embedding_forward_cpu<float>({}, y.data(), &token, w.data(), {1, 2, 3}),
                    testing::ExitedWithCode(1), "token .* V = 3");
    }
}

}  // namespace

}  // namespace moba

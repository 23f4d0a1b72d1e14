#include "moba/core/sequence.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

// Three sequences of 5, 1 and 8 tokens, in blocks of 4 and of 2 tokens; every number worked out by hand.
TEST(Sequences, WorkedByHand) {
    const PackedBatch b({5, 1, 8}, {4, 2});
    const Sequences& s = b.seqs;
    EXPECT_EQ(s.num_tokens, 14);
    EXPECT_EQ(s.num_seqs, 3);
    EXPECT_EQ(s.longest, 8);
    EXPECT_EQ(s.sizes.levels, 2);
    const auto ints = [](const int* p, int n) { return std::vector<int>(p, p + n); };
    EXPECT_EQ(ints(s.cu_seqlens, 4), (std::vector<int>{0, 5, 6, 14}));
    EXPECT_EQ(ints(s.position, 14), (std::vector<int>{0, 1, 2, 3, 4, 0, 0, 1, 2, 3, 4, 5, 6, 7}));
    const BlockTable& four = s.level[0];
    ASSERT_EQ(four.num_blocks, 5);
    EXPECT_EQ(ints(four.start, 6), (std::vector<int>{0, 4, 5, 6, 10, 14}));
    EXPECT_EQ(ints(four.first, 5), (std::vector<int>{0, 0, 2, 3, 3}));
    EXPECT_EQ(ints(four.own, 14), (std::vector<int>{0, 0, 0, 0, 1, 2, 3, 3, 3, 3, 4, 4, 4, 4}));
    const BlockTable& two = s.level[1];
    ASSERT_EQ(two.num_blocks, 8);
    EXPECT_EQ(ints(two.start, 9), (std::vector<int>{0, 2, 4, 5, 6, 8, 10, 12, 14}));
    EXPECT_EQ(ints(two.first, 8), (std::vector<int>{0, 0, 0, 3, 4, 4, 4, 4}));
    EXPECT_EQ(ints(two.own, 14), (std::vector<int>{0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7}));
}

// The properties that sequence.h promises, for odd lengths around the block size.
TEST(Sequences, BlocksCoverEverySequence) {
    const int S = 16;
    for (const std::vector<int>& lengths :
         std::vector<std::vector<int>>{{1}, {15}, {16}, {17}, {1, 1, 1}, {33, 15, 1, 64, 17}, {1000}}) {
        for (int levels = 1; levels <= max_levels; levels++) {
            const PackedBatch b(lengths, {S, levels});
            const int M = b.seqs.num_tokens;
            for (int i = 0; i < levels; i++) {
                const BlockTable& t = b.seqs.level[i];
                int blocks = 0;
                for (int n : lengths) { blocks += ceil_div(n, S >> i); }
                ASSERT_EQ(t.num_blocks, blocks);
                EXPECT_LE(blocks, max_blocks(M, (int)lengths.size(), S >> i));
                EXPECT_EQ(t.start[0], 0);
                EXPECT_EQ(t.start[blocks], M);
                for (int m = 0; m < M; m++) {
                    const int n = t.own[m];
                    ASSERT_TRUE(t.start[n] <= m && m < t.start[n + 1]);
                    ASSERT_LE(t.start[n + 1] - t.start[n], S >> i);
                    ASSERT_EQ(n - t.first[n], b.seqs.position[m] / (S >> i));
                    // the first token of the sequence
                    ASSERT_EQ(t.start[t.first[n]], m - b.seqs.position[m]);
                }
            }
            EXPECT_LE(b.table.size(), sequences_capacity(M, (int)lengths.size(), {S, levels}));
        }
    }
}

// The capacity is computed before any batch is known. It must be enough for every division of the tokens into
// at most that many sequences.
TEST(Sequences, CapacityIsEnoughForEveryDivision) {
    Rng rng(1, Purpose::synthetic, 0);
    for (int trial = 0; trial < 300; trial++) {
        const int M = 1 + rng.below(200), max_seqs = 1 + rng.below(M), levels = 1 + rng.below(3);
        std::vector<int> lengths;
        for (int left = M; left > 0;) {
            const bool last = (int)lengths.size() == max_seqs - 1;
            lengths.push_back(last ? left : 1 + rng.below(std::min(left, 40)));
            left -= lengths.back();
        }
        const PackedBatch b(lengths, {16, levels});
        ASSERT_LE(b.table.size(), sequences_capacity(M, max_seqs, {16, levels}));
        for (int i = 0; i < levels; i++) {
            ASSERT_LE(b.seqs.level[i].num_blocks, max_blocks(M, max_seqs, 16 >> i));
        }
    }
}

// A copy of the table at another address, as on a device: every pointer leads to the same numbers.
TEST(Sequences, Rebase) {
    const PackedBatch b({5, 1, 30}, {16, 2});
    const std::vector<int> copy = b.table;
    const Sequences s = rebase(b.seqs, b.table.data(), copy.data());
    const auto same = [&](const int* x, const int* y, int n) {
        return x != y && x >= copy.data() && x + n <= copy.data() + copy.size() && std::equal(x, x + n, y);
    };
    EXPECT_TRUE(same(s.cu_seqlens, b.seqs.cu_seqlens, 4));
    EXPECT_TRUE(same(s.position, b.seqs.position, 36));
    for (int i = 0; i < 2; i++) {
        const BlockTable &x = s.level[i], &y = b.seqs.level[i];
        EXPECT_TRUE(same(x.start, y.start, y.num_blocks + 1));
        EXPECT_TRUE(same(x.first, y.first, y.num_blocks));
        EXPECT_TRUE(same(x.own, y.own, 36));
    }
}

TEST(SequencesDeathTest, BadBoundaries) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    std::vector<int> table(100);
    const auto build = [&](const std::vector<int>& cu, int S, int levels) {
        build_sequences(table, cu, {S, levels});
    };
    EXPECT_EXIT(build({0}, 16, 1), testing::ExitedWithCode(1), "1 entries");
    EXPECT_EXIT(build({1, 3}, 16, 1), testing::ExitedWithCode(1), "cu_seqlens");
    EXPECT_EXIT(build({0, 3, 3}, 16, 1), testing::ExitedWithCode(1), "sequence 1 to hold a token");
    EXPECT_EXIT(build({0, 3, 2}, 16, 1), testing::ExitedWithCode(1), "sequence 1 to hold a token");
    EXPECT_EXIT(build({0, 3}, 16, 5), testing::ExitedWithCode(1), "5 levels");
    EXPECT_EXIT(build({0, 3}, 2, 3), testing::ExitedWithCode(1), "block size 2 >> 2");
}

}  // namespace

}  // namespace moba

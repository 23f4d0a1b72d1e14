/* How alike the choices of neighbouring queries are: worked out by hand. */
#include "moba/choice_overlap.h"
#include "test/support/attention_view_case.h"

namespace moba {

using namespace attention_case;

namespace {

// Past blocks of queries 2 to 5: 0, 0, 1, 1. So 2 of 4 choices are those of the query before, and the union
// of the six queries has two blocks: 6 x 2 pairs for 4 choices.
TEST(ChoiceOverlap, ByHand) {
    const View view = six_tokens();
    ChoiceOverlap overlap;
    EXPECT_TRUE(overlap.empty());
    overlap.add(view.v);
    EXPECT_FALSE(overlap.empty());
    EXPECT_EQ(overlap.same(), 0.5);
    EXPECT_EQ(overlap.extra(), 3);
}

// A tile ends where its sequence ends, and after 64 queries.
TEST(ChoiceOverlap, Tiles) {
    const Case c{.lengths = {6, 6}, .H = 1, .G = 1, .D = 1, .kind = moba, .S = 2, .K = 2};
    const View one = six_tokens();
    std::vector<float> k = one.v.k;
    k.insert(k.end(), one.v.k.begin(), one.v.k.end());
    const View two(c, std::vector<float>(12, 1), k);
    ChoiceOverlap overlap;
    overlap.add(two.v, 0);
    EXPECT_EQ(overlap.same(), 0.5);
    EXPECT_EQ(overlap.extra(), 3);

    // every block of 16 tokens; a query of block n has n past blocks
    const int T = 128, S = 16;
    const Case all{.lengths = {T}, .H = 1, .G = 1, .D = 2, .kind = moba, .S = S, .K = T / S};
    const View whole(all, draw<float>(2 * T, 1), draw<float>(2 * T, 2));
    ChoiceOverlap full;
    full.add(whole.v);
    const double choices = S * (0 + 1 + 2 + 3 + 4 + 5 + 6 + 7), first = 64 * 3, second = 64 * 7;
    EXPECT_DOUBLE_EQ(full.extra(), (first + second) / choices);
    EXPECT_GT(full.same(), 0.95) << "only the block that has just ended is new";
}

TEST(ChoiceOverlap, OtherLayersHaveNoChoice) {
    const View view({.lengths = {4}, .H = 1, .G = 1, .D = 1, .kind = full}, {1, 1, 1, 1}, {1, 2, 3, 4});
    ChoiceOverlap overlap;
    overlap.add(view.v);
    EXPECT_TRUE(overlap.empty());
}

}  // namespace

}  // namespace moba

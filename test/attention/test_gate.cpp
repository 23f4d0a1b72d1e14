/* The gate against an independent choice, and the lists made from the choice. */
#include "test/support/gate_case.h"

namespace moba {

namespace {

using namespace gate_case;

// The chosen blocks and the lists of one call; guards are checked.
struct Choice {
    std::vector<int> chosen, list, start;
    bool operator==(const Choice&) const = default;
};

template <class E>
Choice choose(const Case& c, Gate gate, int version, const std::vector<E>& q, const std::vector<E>& k) {
    const PackedBatch batch(c.lengths, c.sizes());
    const GateShape s = c.shape(gate);
    const int M = batch.seqs.num_tokens, B = (int)c.lengths.size();
    Workspace work(gate_workspace_bytes_cpu<E>(M, B, c.sizes(), s), version);
    Guarded<int> chosen(routing_slots(M, c.sizes(), s)), list(routing_slots(M, c.sizes(), s));
    Guarded<int> start(routing_starts(M, B, c.sizes(), s));
    const Routing r{chosen.data(), start.data(), list.data()};
    gate_forward_cpu<E>(work.ctx, r, q.data(), k.data(), batch.seqs, s);
    gate_lists_cpu(work.ctx, r, batch.seqs, s);
    EXPECT_TRUE(chosen.intact() && list.intact() && start.intact() && work.intact());
    return {chosen.values(), list.values(), start.values()};
}

// Calls check(choose) for both versions.
template <class F>
void for_versions(F check) {
    for (int version : {1, 2}) {
        check([version](const Case& c, Gate gate, const auto& q, const auto& k) {
            return choose(c, gate, version, q, k).chosen;
        });
    }
}

// The whole numbers are so small that most scores of a query are equal to another one: ties everywhere.
TEST(Gate, TiesAreExact) {
    for_all_types([](auto zero) {
        for_versions([](auto choose) { expect_brute_force<decltype(zero)>(1, 1, choose); });
    });
}
TEST(Gate, IntegersAreExact) {
    for_all_types([](auto zero) {
        for_versions([](auto choose) { expect_brute_force<decltype(zero)>(8, 3, choose); });
    });
}
TEST(Gate, SpecialScores) {
    for_all_types(
        [](auto zero) { for_versions([](auto choose) { expect_special_scores<decltype(zero)>(choose); }); });
}

// bf16: the mean is rounded before the score is computed, so 1 + 2^-8 ties with 1 and the lower block wins.
TEST(Gate, MeanIsRoundedToTheElementType) {
    for (int version : {1, 2}) {
        std::vector<float> k{1, 1, 1, 1 + 0x1p-7f, 0, 0}, q(6, 1.f);
        const Case c{{6}, 2, 1, 1, 1, 1, 2};
        EXPECT_EQ(choose<float>(c, Gate::topk, version, q, k).chosen[10], 1);
        EXPECT_EQ(choose<bf16>(c, Gate::topk, version, as<bf16>(q), as<bf16>(k)).chosen[10], 0);
    }
}

TEST(Gate, RandomChoicesAreTheBest) {
    for (Gate gate : {Gate::topk, Gate::max, Gate::lse}) {
        for_all_types([=](auto zero) {
            for_versions([=](auto choose) { expect_best<decltype(zero)>(choose, cases, gate); });
        });
    }
}

TEST(Gate, SpecialParts) {
    for_all_types(
        [](auto zero) { for_versions([](auto choose) { expect_special_parts<decltype(zero)>(choose); }); });
}

// The largest value of a channel, also where all are negative; NaN stays.
TEST(Gate, LargestValues) {
    const std::vector<float> k{-3, -1, -2, -4, 1, NAN, 7, 0, 0};
    for (int version : {1, 2}) {
        const auto chosen = [&](int K) {
            const Case c{{9}, 2, 1, 1, 1, 1, K};
            const std::vector<int> all =
                choose<float>(c, Gate::max, version, std::vector<float>(9, 1), k).chosen;
            return std::vector<int>(all.end() - K, all.end());
        };
        EXPECT_EQ(chosen(2), (std::vector<int>{3, 4}));
        EXPECT_EQ(chosen(3), (std::vector<int>{0, 3, 4})) << "-1";
        EXPECT_EQ(chosen(4), (std::vector<int>{0, 1, 3, 4})) << "-2 before NaN";
    }
}

// The lists are the inverse of the choice: every entry occurs once, in ascending order, and the queries of
// the block itself come first.
TEST(Gate, ListsInvertTheChoice) {
    for (const Case& c : cases) {
        const PackedBatch batch(c.lengths, c.sizes());
        const int M = batch.seqs.num_tokens;
        const GateShape s{c.H, c.G, c.D, c.K, Gate::topk};
        const auto q = draw<float>((size_t)M * c.H * c.D, 1), k = draw<float>((size_t)M * c.G * c.D, 2);
        const Choice r = choose(c, Gate::topk, 2, q, k);
        size_t slot = 0, first_start = 0;
        for (int h = 0; h < c.H; h++) {
            const int level = h / (c.H / c.G) % c.levels, K = c.K << level;
            const BlockTable& blocks = batch.seqs.level[level];
            EXPECT_EQ(s.first_slot(batch.seqs, h), slot);
            EXPECT_EQ(s.first_start(batch.seqs, h), first_start);
            const int* start = r.start.data() + first_start;
            const int *list = r.list.data() + slot, *chosen = r.chosen.data() + slot;
            ASSERT_EQ(start[0], 0);
            ASSERT_EQ(start[blocks.num_blocks],
                      std::count_if(chosen, chosen + (size_t)M * K, [](int n) { return n >= 0; }));
            for (int n = 0; n < blocks.num_blocks; n++) {
                ASSERT_TRUE(std::is_sorted(list + start[n], list + start[n + 1],
                                           // none occurs twice
                                           std::less_equal<int>()));
                const int own = blocks.start[n + 1] - blocks.start[n];
                for (int e = start[n]; e < start[n + 1]; e++) {
                    ASSERT_EQ(chosen[list[e]], n);
                    ASSERT_EQ(blocks.own[list[e] / K] == n, e - start[n] < own);
                }
            }
            slot += (size_t)M * K, first_start += blocks.num_blocks + 1;
        }
        EXPECT_EQ(slot, r.chosen.size());
    }
}

TEST(Gate, EveryQueryChoosesBlockZero) {
    const Case c{{1000}, 16, 1, 2, 1, 6, 2};
    std::vector<float> q(1000 * 2 * 6, 1.f), k(1000 * 6, -1.f);
    std::fill_n(k.begin(), 16 * 6, 1.f);
    const Choice r = choose(c, Gate::topk, 2, q, k);
    EXPECT_EQ(r.start[1], 1000);  // the list of block 0 holds every query
    EXPECT_EQ(r.start[2] - r.start[1], 16);
}

TEST(Gate, SameBitsOnThreads) {
    const Case c{{700, 300}, 64, 2, 4, 2, 33 * 2, 3};
    const auto q = draw<float>(1000 * 4 * 66, 1), k = draw<float>(1000 * 2 * 66, 2);
    expect_same_bits_on_threads([&] {
        const Choice r = choose(c, Gate::topk, 2, q, k);
        return bits(r.chosen, r.list, r.start);
    });
}

}  // namespace

}  // namespace moba

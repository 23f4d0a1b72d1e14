/* The gate against an independent choice: every past block ranked by a full sort. With small whole numbers scores are
   exact in any order of summation, so the choice must be equal, ties included (moba.md, section 2). */
#include "moba/gate.h"
#include "test/cases.h"
#include <numeric>

namespace {

struct Case {
    std::vector<int> lengths;
    int S, levels, H, G, D, K;
};

int tokens(const Case& c) { return std::accumulate(c.lengths.begin(), c.lengths.end(), 0); }

// Chosen blocks and lists of a call, with guards.
struct Choice {
    std::vector<int> chosen, list, start;
    bool operator==(const Choice&) const = default;
};

template <class E>
Choice choose(const Case& c, Gate gate, int version, const std::vector<E>& q, const std::vector<E>& k) {
    const Batch batch(c.lengths, c.S, c.levels);
    const GateShape s{c.H, c.G, c.D, c.K, gate};
    const int M = batch.seqs.num_tokens, B = (int)c.lengths.size();
    Workspace work(gate_workspace_bytes<E>(M, B, c.S, c.levels, s), version);
    Guarded<int> chosen(routing_slots(M, c.levels, s)), list(routing_slots(M, c.levels, s));
    Guarded<int> start(routing_starts(M, B, c.S, c.levels, s));
    const Routing r{chosen.data(), start.data(), list.data()};
    gate_forward_cpu<E>(work.ctx, r, q.data(), k.data(), batch.seqs, s);
    gate_lists_cpu(work.ctx, r, batch.seqs, s);
    EXPECT_TRUE(chosen.intact() && list.intact() && start.intact() && work.intact());
    return {chosen.values(), list.values(), start.values()};
}

// A query of a head, and the score of every past block of its sequence: gate.h word by word, in double.
struct Query {
    int first, own, K;  // block where its sequence starts; its own block and K of its head
    std::vector<double> score, error;
};

// f(Query) for all of them, in the order of the (H, M, K) arrays; mean rounded to E
template <class E, class F>
void for_queries(const Case& c, const std::vector<E>& q, const std::vector<E>& k, F f) {
    for (int h = 0; h < c.H; h++) {
        const int g = h / (c.H / c.G), S = c.S >> g % c.levels;
        int begin = 0, first = 0;  // token and block where a sequence starts
        for (int length : c.lengths) {
            std::vector<double> mean;  // (whole blocks, D)
            for (int j = begin; j + S <= begin + length; j += S) {
                for (int d = 0; d < c.D; d++) {
                    double sum = 0;
                    for (int i = j; i < j + S; i++) { sum += (double)k[((size_t)i * c.G + g) * c.D + d]; }
                    mean.push_back((double)E((acc_t<E>)(sum / S)));
                }
            }
            for (int t = begin; t < begin + length; t++) {
                Query x{first, (t - begin) / S, c.K << g % c.levels, {}, {}};
                for (int n = 0; n < x.own; n++) {
                    double score = 0, size = 0;
                    for (int d = 0; d < c.D; d++) {
                        const double part = (double)q[((size_t)t * c.H + h) * c.D + d] * mean[n * c.D + d];
                        score += part, size += std::fabs(part);
                    }
                    x.score.push_back(score);
                    x.error.push_back(2 * (c.D * 0x1p-24 + (std::is_same_v<E, bf16> ? 0x1p-8 : 0)) * size);
                }
                f(x);
            }
            begin += length, first += ceil_div(length, S);
        }
    }
}

// By a full sort.
template <class E>
std::vector<int> brute_force(const Case& c, Gate gate, const std::vector<E>& q, const std::vector<E>& k) {
    std::vector<int> all;
    for_queries(c, q, k, [&](Query x) {
        std::vector<std::pair<double, int>> rank;  // (-score, block): ascending puts the best first
        for (int n = 0; n < x.own; n++) {
            double score = std::isnan(x.score[n]) ? -INFINITY : x.score[n];
            if (gate != Gate::topk) { score = gate == Gate::sink && n == 0 ? INFINITY : n; }
            rank.push_back({-score + 0.0, n});  // + 0.0: -0 becomes +0
        }
        std::sort(rank.begin(), rank.end());
        rank.resize(std::min(x.K - 1, x.own));
        std::vector<int> mine;
        for (const auto& r : rank) { mine.push_back(x.first + r.second); }
        std::sort(mine.begin(), mine.end());
        mine.push_back(x.first + x.own);
        mine.resize(x.K, -1);
        all.insert(all.end(), mine.begin(), mine.end());
    });
    return all;
}

const Case cases[] = {
    {{1}, 16, 1, 1, 1, 2, 3},
    {{15}, 16, 1, 2, 1, 6, 2},
    {{16}, 16, 1, 1, 1, 16, 2},
    {{17}, 16, 1, 3, 3, 6, 2},
    {{130}, 16, 1, 4, 2, 16, 1},  // K = 1: the own block alone
    {{200}, 16, 1, 2, 1, 64, 3},
    {{333}, 16, 1, 2, 2, 128, 64},  // K beyond the number of blocks
    {{70, 1, 129, 16, 200}, 16, 1, 4, 2, 80, 4},
    {{77, 300}, 64, 2, 4, 4, 96, 2},  // mixed block sizes
    {{150, 1, 200}, 64, 3, 6, 3, 6, 3},
    {{650}, 2, 1, 1, 1, 16, 5},            // more blocks than one tile of scores holds
    {{3, 600, 5, 40}, 1, 1, 2, 1, 2, 64},  // blocks of one token, K = 64
};

template <class E>
void expect_brute_force(int most_q, int most_k) {
    for (const Case& c : cases) {
        const int M = tokens(c);
        const auto q = draw_integers<E>((size_t)M * c.H * c.D, 1, most_q);
        const auto k = draw_integers<E>((size_t)M * c.G * c.D, 2, most_k);
        for (Gate gate : {Gate::topk, Gate::recent, Gate::sink}) {
            const std::vector<int> want = brute_force(c, gate, q, k);
            for (int version : {1, 2}) {
                const Choice got = choose(c, gate, version, q, k);
                ASSERT_EQ(got.chosen.size(), want.size());
                const auto at =
                    std::mismatch(want.begin(), want.end(), got.chosen.begin()).first - want.begin();
                EXPECT_EQ(at, (long)want.size())
                    << type_name<E>() << " version " << version << " T=" << M << " S=" << c.S << " K=" << c.K
                    << " gate " << (int)gate << " slot " << at;
            }
        }
    }
}

// Numbers so small that most scores of a query are equal to another one's: ties everywhere.
TEST(Gate, TiesAreExact) {
    for_all_types([](auto zero) { expect_brute_force<decltype(zero)>(1, 1); });
}
TEST(Gate, IntegersAreExact) {
    for_all_types([](auto zero) { expect_brute_force<decltype(zero)>(8, 3); });
}

// One dimension, S = 1: scores are the keys themselves. NaN is last, -0 is a tie with 0, infinity is first.
TEST(Gate, SpecialScores) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        const float keys[] = {NAN, -1, -0.f, 0, NAN, -INFINITY, INFINITY, 2, 0};
        const std::vector<std::vector<int>> best = {
            {6},          {6, 7},          {2, 6, 7},
            {2, 3, 6, 7}, {1, 2, 3, 6, 7}, {0, 1, 2, 3, 6, 7}};  // NaN and -inf tie: the lowest block
        std::vector<E> q(18, E(1.f)), k;
        for (float x : keys) { k.push_back(E(x)), k.push_back(E(0.f)); }
        for (int version : {1, 2}) {
            for (int K = 2; K <= 7; K++) {
                const std::vector<int> got =
                    choose<E>({{9}, 1, 1, 1, 1, 2, K}, Gate::topk, version, q, k).chosen;
                std::vector<int> want = best[K - 2];
                want.push_back(8);
                EXPECT_EQ(std::vector<int>(got.end() - K, got.end()), want) << version << " " << K;
            }
        }
        const std::vector<E> nan(18, E(NAN));  // a query of NaN: all tie, the lowest blocks
        for (int version : {1, 2}) {
            const std::vector<int> got =
                choose<E>({{9}, 1, 1, 1, 1, 2, 4}, Gate::topk, version, nan, k).chosen;
            EXPECT_EQ(std::vector<int>(got.end() - 4, got.end()), (std::vector<int>{0, 1, 2, 8}));
        }
    });
}

// bf16: the mean is rounded before the score, so 1 + 2^-8 ties with 1, and the lower block wins.
TEST(Gate, MeanIsRoundedToTheElementType) {
    for (int version : {1, 2}) {
        std::vector<float> k{1, 1, 1, 1 + 0x1p-7f, 0, 0}, q(6, 1.f);
        const Case c{{6}, 2, 1, 1, 1, 1, 2};
        EXPECT_EQ(choose<float>(c, Gate::topk, version, q, k).chosen[10], 1);
        EXPECT_EQ(choose<bf16>(c, Gate::topk, version, as<bf16>(q), as<bf16>(k)).chosen[10], 0);
    }
}

/* moba.md (b): with random numbers no chosen past block may score below the (K-1)-th best past block by more than the
   error of a score. */
TEST(Gate, RandomChoicesAreTheBest) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (const Case& c : cases) {
            const auto q = draw<E>((size_t)tokens(c) * c.H * c.D, 1),
                       k = draw<E>((size_t)tokens(c) * c.G * c.D, 2);
            for (int version : {1, 2}) {
                const std::vector<int> got = choose(c, Gate::topk, version, q, k).chosen;
                const int* mine = got.data();
                for_queries(c, q, k, [&](Query x) {
                    const int room = std::min(x.K - 1, x.own);
                    std::vector<double> best = x.score;
                    std::sort(best.rbegin(), best.rend());
                    for (int i = 0; i < room; i++) {
                        const int n = mine[i] - x.first;
                        ASSERT_TRUE(n >= 0 && n < x.own && (i == 0 || mine[i] > mine[i - 1]));
                        ASSERT_TRUE(x.score[n] >= best[room - 1] - x.error[n]) << type_name<E>() << version;
                    }
                    ASSERT_EQ(mine[room], x.first + x.own);
                    for (int i = room + 1; i < x.K; i++) { ASSERT_EQ(mine[i], -1); }
                    mine += x.K;
                });
            }
        }
    });
}

// The lists are the choice turned around: every entry once, ascending, the own block's queries first.
TEST(Gate, ListsInvertTheChoice) {
    for (const Case& c : cases) {
        const Batch batch(c.lengths, c.S, c.levels);
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
                                           std::less_equal<int>()));  // none twice
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
    EXPECT_EQ(r.start[1], 1000);  // block 0's list holds every query
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

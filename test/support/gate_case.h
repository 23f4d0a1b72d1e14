/* What the tests of the gate share: an independent choice (every past block ranked by a full sort) and moba.md's rules of section 2.
   A run is given by choose(case, gate, q, k) -> all choices. With small whole numbers scores are exact in any order of summation,
   so the choice must be equal, ties included. */
#pragma once
#include "moba/attention/gate.h"
#include "test/support/packed_batch.h"
#include <numeric>
#include <span>

namespace moba {

namespace gate_case {

struct Case {
    std::vector<int> lengths;
    int S, levels, H, G, D, K;
};

inline int tokens(const Case& c) { return std::accumulate(c.lengths.begin(), c.lengths.end(), 0); }

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

inline const Case cases[] = {
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
    {{9, 200, 70}, 2, 2, 4, 2, 33, 32},    // the same in half of the heads, mixed block sizes
};

using Cases = std::span<const Case>;

template <class E, class F>
void expect_brute_force(int most_q, int most_k, F choose, Cases of = cases) {
    for (const Case& c : of) {
        const auto q = draw_integers<E>((size_t)tokens(c) * c.H * c.D, 1, most_q);
        const auto k = draw_integers<E>((size_t)tokens(c) * c.G * c.D, 2, most_k);
        for (Gate gate : {Gate::topk, Gate::recent, Gate::sink}) {
            const std::vector<int> want = brute_force(c, gate, q, k), got = choose(c, gate, q, k);
            ASSERT_EQ(got.size(), want.size());
            const auto at = std::mismatch(want.begin(), want.end(), got.begin()).first - want.begin();
            EXPECT_EQ(at, (long)want.size()) << type_name<E>() << " T=" << tokens(c) << " S=" << c.S
                                             << " K=" << c.K << " gate " << (int)gate << " slot " << at;
        }
    }
}

// One dimension of D, S = 1: scores are the keys themselves. NaN is last, -0 is a tie with 0, infinity is first.
template <class E, class F>
void expect_special_scores(F choose, int D = 2) {
    const float keys[] = {NAN, -1, -0.f, 0, NAN, -INFINITY, INFINITY, 2, 0};
    const std::vector<std::vector<int>> best = {
        {6},          {6, 7},          {2, 6, 7},
        {2, 3, 6, 7}, {1, 2, 3, 6, 7}, {0, 1, 2, 3, 6, 7}};  // NaN and -inf tie: the lowest block
    std::vector<E> q(9 * D, E(1.f)), k(9 * D, E(0.f));
    for (int i = 0; i < 9; i++) { k[i * D] = E(keys[i]); }
    for (int K = 2; K <= 7; K++) {
        const std::vector<int> got = choose(Case{{9}, 1, 1, 1, 1, D, K}, Gate::topk, q, k);
        std::vector<int> want = best[K - 2];
        want.push_back(8);
        EXPECT_EQ(std::vector<int>(got.end() - K, got.end()), want) << K;
    }
    const std::vector<E> nan(9 * D, E(NAN));  // a query of NaN: all tie, the lowest blocks
    const std::vector<int> got = choose(Case{{9}, 1, 1, 1, 1, D, 4}, Gate::topk, nan, k);
    EXPECT_EQ(std::vector<int>(got.end() - 4, got.end()), (std::vector<int>{0, 1, 2, 8}));
}

/* moba.md (b): with random numbers no chosen past block may score below the (K-1)-th best past block by more than the
   error of a score. */
template <class E, class F>
void expect_best(F choose, Cases of = cases) {
    for (const Case& c : of) {
        const auto q = draw<E>((size_t)tokens(c) * c.H * c.D, 1),
                   k = draw<E>((size_t)tokens(c) * c.G * c.D, 2);
        const std::vector<int> got = choose(c, Gate::topk, q, k);
        const int* mine = got.data();
        for_queries(c, q, k, [&](Query x) {
            const int run = std::min(x.K - 1, x.own);
            std::vector<double> best = x.score;
            std::sort(best.rbegin(), best.rend());
            for (int i = 0; i < run; i++) {
                const int n = mine[i] - x.first;
                ASSERT_TRUE(n >= 0 && n < x.own && (i == 0 || mine[i] > mine[i - 1]));
                ASSERT_TRUE(x.score[n] >= best[run - 1] - x.error[n]) << type_name<E>();
            }
            ASSERT_EQ(mine[run], x.first + x.own);
            for (int i = run + 1; i < x.K; i++) { ASSERT_EQ(mine[i], -1); }
            mine += x.K;
        });
    }
}

}  // namespace gate_case

}  // namespace moba

/* Shared by the tests of the gate: an independent choice of blocks (a full sort over all past blocks), and
   the rules that a correct choice obeys. The tested code is passed as a function choose(case, gate, q, k)
   that returns all choices. With small whole numbers scores are exact in any order of summation, so the
   choices must be equal, ties included; with random numbers see expect_best(). */
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
    bool shared = false;

    BlockSizes sizes() const { return {S, levels}; }
    GateShape shape(Gate rule) const { return {H, G, D, K, rule, shared}; }
};

inline int tokens(const Case& c) { return std::accumulate(c.lengths.begin(), c.lengths.end(), 0); }

// One query of one head, with the score of every past block of its sequence, as gate.h defines it, in double.
struct Query {
    // first: the first block of the query's sequence; own: the block of the query; K: of its head
    int first, own, K;
    std::vector<double> score, error;
};

// The vector that stands for the keys j .. j + count - 1 of head g, rounded to E.
template <class E>
std::vector<double> pooled(const Case& c, Gate gate, const std::vector<E>& k, int g, int j, int count) {
    std::vector<double> out;
    for (int d = 0; d < c.D; d++) {
        double sum = 0, most = -INFINITY;
        for (int i = j; i < j + count; i++) {
            const double x = (double)k[((size_t)i * c.G + g) * c.D + d];
            sum += x, most = std::isnan(x) || std::isnan(most) ? NAN : std::max(most, x);
        }
        out.push_back((double)E((acc_t<E>)(gate == Gate::max ? most : sum / count)));
    }
    return out;
}

// The query of head h or, with a shared choice, the sum of those of its group, rounded to E.
template <class E>
std::vector<double> query_of(const Case& c, const std::vector<E>& q, int t, int h) {
    const int group = c.H / c.G, first = c.shared ? h / group * group : h;
    std::vector<double> out;
    for (int d = 0; d < c.D; d++) {
        double sum = 0;
        for (int i = first; i < first + (c.shared ? group : 1); i++) {
            sum += (double)q[((size_t)t * c.H + i) * c.D + d];
        }
        out.push_back((double)E((acc_t<E>)sum));
    }
    return out;
}

// Calls f(Query) for all queries, in the order of the (H, M, K) arrays.
template <class E, class F>
void for_queries(const Case& c, Gate gate, const std::vector<E>& q, const std::vector<E>& k, F f) {
    for (int h = 0; h < c.H; h++) {
        const int g = h / (c.H / c.G), S = c.S >> g % c.levels, parts = parts_of(gate);
        int begin = 0, first = 0;  // first token and first block of the sequence
        for (int length : c.lengths) {
            std::vector<std::vector<double>> mean;  // of the parts of all complete blocks
            for (int j = begin; j + S <= begin + length; j += S) {
                for (int i = 0; i < parts; i++) {
                    mean.push_back(pooled(c, gate, k, g, j + S * i / parts, S / parts));
                }
            }
            for (int t = begin; t < begin + length; t++) {
                Query x{first, (t - begin) / S, c.K << g % c.levels, {}, {}};
                const std::vector<double> query = query_of(c, q, t, h);
                const double scale = parts > 1 ? 1 / std::sqrt((double)c.D) : 1;
                for (int n = 0; n < x.own; n++) {
                    double score = 0, error = 0, sum = 0;
                    for (int i = 0; i < parts; i++) {
                        double size = 0;
                        score = 0;
                        for (int d = 0; d < c.D; d++) {
                            const double part = query[d] * mean[n * parts + i][d];
                            score += part, size += std::fabs(part);
                        }
                        sum += std::exp(score * scale);
                        error = std::max(error, 2 * (c.D * 0x1p-24 + (std::is_same_v<E, bf16> ? 0x1p-8 : 0)) *
                                                    size * scale);
                    }
                    if (parts > 1) { score = std::log(sum), error += 16 * 0x1p-24 * (1 + std::fabs(score)); }
                    x.score.push_back(score);
                    x.error.push_back(error);
                }
                f(x);
            }
            begin += length, first += ceil_div(length, S);
        }
    }
}

// The choice by a full sort.
template <class E>
std::vector<int> brute_force(const Case& c, Gate gate, const std::vector<E>& q, const std::vector<E>& k) {
    std::vector<int> all;
    for_queries(c, gate, q, k, [&](Query x) {
        std::vector<std::pair<double, int>> rank;  // (-score, block): in ascending order the best is first
        for (int n = 0; n < x.own; n++) {
            double score = std::isnan(x.score[n]) ? -INFINITY : x.score[n];
            if (!has_scores(gate)) { score = gate == Gate::sink && n == 0 ? INFINITY : n; }
            rank.push_back({-score + 0.0, n});  // + 0.0 turns -0 into +0
        }
        std::sort(rank.begin(), rank.end());
        rank.resize(std::min(x.K - 1, x.own));
        std::vector<int> chosen;
        for (const auto& r : rank) { chosen.push_back(x.first + r.second); }
        std::sort(chosen.begin(), chosen.end());
        chosen.push_back(x.first + x.own);
        chosen.resize(x.K, -1);
        all.insert(all.end(), chosen.begin(), chosen.end());
    });
    return all;
}

inline const Case cases[] = {
    {{1}, 16, 1, 1, 1, 2, 3},
    {{15}, 16, 1, 2, 1, 6, 2},
    {{16}, 16, 1, 1, 1, 16, 2},
    {{17}, 16, 1, 3, 3, 6, 2},
    {{130}, 16, 1, 4, 2, 16, 1},  // K = 1: only the query's own block
    {{200}, 16, 1, 2, 1, 64, 3},
    {{333}, 16, 1, 2, 2, 128, 64},  // K larger than the number of blocks
    {{70, 1, 129, 16, 200}, 16, 1, 4, 2, 80, 4},
    {{77, 300}, 64, 2, 4, 4, 96, 2},  // mixed block sizes
    {{150, 1, 200}, 64, 3, 6, 3, 6, 3},
    {{650}, 2, 1, 1, 1, 16, 5},            // more blocks than one tile of scores holds
    {{3, 600, 5, 40}, 1, 1, 2, 1, 2, 64},  // blocks of one token, K = 64
    {{9, 200, 70}, 2, 2, 4, 2, 33, 32},    // the same, in half of the heads: mixed block sizes
    {{90, 3, 130}, 16, 1, 6, 2, 6, 3, true},
    {{120}, 16, 2, 4, 2, 16, 2, true},
    {{200, 7}, 4, 1, 2, 1, 32, 8, true},
};

using Cases = std::span<const Case>;

template <class E, class F>
void expect_brute_force(int max_q, int max_k, F choose, Cases of = cases) {
    for (const Case& c : of) {
        const auto q = draw_integers<E>((size_t)tokens(c) * c.H * c.D, 1, max_q);
        const auto k = draw_integers<E>((size_t)tokens(c) * c.G * c.D, 2, max_k);
        for (Gate gate : {Gate::topk, Gate::max, Gate::recent, Gate::sink}) {
            const std::vector<int> want = brute_force(c, gate, q, k), got = choose(c, gate, q, k);
            ASSERT_EQ(got.size(), want.size());
            const auto at = std::mismatch(want.begin(), want.end(), got.begin()).first - want.begin();
            EXPECT_EQ(at, (long)want.size()) << type_name<E>() << " T=" << tokens(c) << " S=" << c.S
                                             << " K=" << c.K << " gate " << (int)gate << " slot " << at;
        }
    }
}

// Only one channel is not 0 and S = 1, so the scores are the keys themselves. NaN ranks last, -0 ties with 0,
// infinity ranks first.
template <class E, class F>
void expect_special_scores(F choose, int D = 2) {
    const float keys[] = {NAN, -1, -0.f, 0, NAN, -INFINITY, INFINITY, 2, 0};
    const std::vector<std::vector<int>> best = {
        {6},          {6, 7},          {2, 6, 7},
        {2, 3, 6, 7}, {1, 2, 3, 6, 7}, {0, 1, 2, 3, 6, 7}};  // NaN and -inf tie: the lower block wins
    std::vector<E> q(9 * D, E(1.f)), k(9 * D, E(0.f));
    for (int i = 0; i < 9; i++) { k[i * D] = E(keys[i]); }
    for (int K = 2; K <= 7; K++) {
        const std::vector<int> got = choose(Case{{9}, 1, 1, 1, 1, D, K}, Gate::topk, q, k);
        std::vector<int> want = best[K - 2];
        want.push_back(8);
        EXPECT_EQ(std::vector<int>(got.end() - K, got.end()), want) << K;
    }
    // All scores of a NaN query tie, and the lowest blocks win; there are more than one tile of scores has.
    const int T = 200;
    const std::vector<E> nan(T * D, E(NAN)), zeros(T * D, E(0.f));
    const std::vector<int> got = choose(Case{{T}, 1, 1, 1, 1, D, 4}, Gate::topk, nan, zeros);
    EXPECT_EQ(std::vector<int>(got.end() - 4, got.end()), (std::vector<int>{0, 1, 2, T - 1}));
}

/* With random numbers: no chosen past block may score below the (K-1)-th best past block by more than the
   rounding error of a score. */
template <class E, class F>
void expect_best(F choose, Cases of = cases, Gate gate = Gate::topk) {
    for (const Case& c : of) {
        if ((c.S >> (c.levels - 1)) % parts_of(gate)) { continue; }
        const auto q = draw<E>((size_t)tokens(c) * c.H * c.D, 1),
                   k = draw<E>((size_t)tokens(c) * c.G * c.D, 2);
        const std::vector<int> got = choose(c, gate, q, k);
        const int* chosen = got.data();
        for_queries(c, gate, q, k, [&](Query x) {
            const int num_past = std::min(x.K - 1, x.own);
            std::vector<double> best = x.score;
            std::sort(best.rbegin(), best.rend());
            for (int i = 0; i < num_past; i++) {
                const int n = chosen[i] - x.first;
                ASSERT_TRUE(n >= 0 && n < x.own && (i == 0 || chosen[i] > chosen[i - 1]));
                ASSERT_TRUE(x.score[n] >= best[num_past - 1] - x.error[n]) << type_name<E>();
            }
            ASSERT_EQ(chosen[num_past], x.first + x.own);
            for (int i = num_past + 1; i < x.K; i++) { ASSERT_EQ(chosen[i], -1); }
            chosen += x.K;
        });
    }
}

/* Gate::lse: blocks with the same parts in another order tie, and the lower one wins; NaN ranks last,
   infinity first. S = 4 and D = 1, so the parts of a score are the keys themselves. */
template <class E, class F>
void expect_special_parts(F choose) {
    const float keys[][4] = {{1, 2, 3, 4},    {4, 3, 1, 2}, {9, NAN, 9, 9},      {2, 4, 3, 1},
                             {5, -9, -9, -9}, {5, 4, 4, 0}, {1, INFINITY, 0, 0}, {0, 0, 0, 0}};
    const std::vector<std::vector<int>> best = {
        {6}, {5, 6}, {4, 5, 6}, {0, 4, 5, 6}, {0, 1, 4, 5, 6}, {0, 1, 3, 4, 5, 6}, {0, 1, 3, 4, 5, 6, 7}};
    std::vector<E> k;
    for (const auto& block : keys) {
        for (float x : block) { k.push_back(E(x)); }
    }
    k.push_back(E(0.f));
    const std::vector<E> q(k.size(), E(1.f));
    for (int K = 2; K <= 8; K++) {
        const std::vector<int> got = choose(Case{{33}, 4, 1, 1, 1, 1, K}, Gate::lse, q, k);
        std::vector<int> want = best[K - 2];
        want.push_back(8);
        EXPECT_EQ(std::vector<int>(got.end() - K, got.end()), want) << K;
    }
}

}  // namespace gate_case

}  // namespace moba

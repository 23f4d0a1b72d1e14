/* Attention: a case to check by eye; version 1 (naive) against an independent implementation of the equations
   with a mask, and its gradient against finite differences; version 2 (fast) against version 1. */
#include "test/support/attention_case.h"

namespace moba {

namespace {

using namespace attention_case;

const Case cases[] = {
    {{1}, 1, 1, 2},
    {{63}, 1, 1, 16},
    {{129}, 3, 1, 6},                  // one key more than a tile
    {{70, 1, 65, 128, 17}, 4, 2, 80},  // sequences that cross tiles
    {{300}, 2, 2, 128},
    {{200, 60}, 2, 1, 16, full, 0, 16, 3, 1, Gate::topk, 300},
    {{5}, 2, 1, 16, window, 1},
    {{150}, 2, 1, 64, window, 7},
    {{270, 1, 30}, 4, 2, 6, window, 129},
    {{100, 40}, 1, 1, 96, window, 500},  // wider than the sequences
    {{1}, 2, 1, 6, moba},
    {{15}, 1, 1, 16, moba},
    {{16}, 1, 1, 16, moba},
    {{17}, 1, 1, 16, moba, 0, 16, 2},
    {{150}, 4, 2, 64, moba, 0, 16, 1},  // K = 1: only the query's own block
    {{201}, 2, 1, 128, moba},
    {{90, 1, 129, 16, 33}, 6, 2, 80, moba},  // sequences that cross tiles and blocks
    {{130, 77}, 3, 1, 2, moba, 0, 16, 4, 1, Gate::recent},
    {{222}, 2, 2, 96, moba, 0, 16, 3, 1, Gate::sink},
    {{50, 101}, 2, 1, 16, moba, 0, 4, 5},
    {{300, 50}, 2, 1, 16, moba, 0, 144, 2},  // a block is larger than one tile of keys
    {{600}, 1, 1, 6, moba, 0, 256, 2},
    {{250, 30}, 4, 4, 16, moba, 0, 64, 2, 2},  // mixed block sizes
    {{333}, 6, 3, 6, moba, 0, 64, 2, 3},
    {{1100}, 2, 2, 6, moba, 0, 512, 2, 2},
    {{200, 60}, 2, 1, 16, moba, 0, 16, 3, 1, Gate::topk, 300},
};

// ---- small enough to check by eye ----

/* Four tokens, one head of four channels. Key t is 100 in channel t and 0 elsewhere. A query that is 100 in
   channel j has score 100 * 100 / sqrt(4) = 5000 with key j and 0 with all other keys, and e^-5000 is 0 in
   double. So the query reads exactly value j; if it cannot see key j, all its scores are 0 and it reads the
   mean of the values it sees. The tolerance allows a few roundings of numbers up to 12, about 2e-15 each. */
TEST(Attention, OneHot) {
    const int T = 4, D = 4;
    const auto one_hot = [](const std::vector<int>& channels) {
        std::vector<double> x(T * D);
        for (int t = 0; t < T; t++) { x[t * D + channels[t]] = 100; }
        return x;
    };
    const std::vector<double> k = one_hot({0, 1, 2, 3});
    const std::vector<double> q = one_hot({0, 0, 3, 1});  // query 2 asks for key 3, which comes later
    const std::vector<double> v{3, 0, 0, 0,               //
                                0, 6, 0, 0,               //
                                0, 0, 9, 0,               //
                                0, 0, 0, 12};
    struct OneHotCase {
        Case c;
        std::vector<double> out;
    };
    const OneHotCase one_hot_cases[] = {
        {{.lengths = {T}, .H = 1, .G = 1, .D = D, .kind = full},
         {3, 0, 0, 0,    // value 0
          3, 0, 0, 0,    // value 0
          1, 2, 3, 0,    // the mean of values 0, 1 and 2
          0, 6, 0, 0}},  // value 1
        {{.lengths = {T}, .H = 1, .G = 1, .D = D, .kind = window, .window = 2},
         {3, 0, 0, 0,      // value 0
          3, 0, 0, 0,      // value 0
          0, 3, 4.5, 0,    // the mean of values 1 and 2
          0, 0, 4.5, 6}},  // key 1 is outside the window: the mean of values 2 and 3
        {{.lengths = {T}, .H = 1, .G = 1, .D = D, .kind = moba, .S = 2, .K = 1},
         {3, 0, 0, 0,      // value 0
          3, 0, 0, 0,      // value 0
          0, 0, 9, 0,      // value 2, the first of its block
          0, 0, 4.5, 6}},  // key 1 is in the other block: the mean of values 2 and 3
        {{.lengths = {T}, .H = 1, .G = 1, .D = D, .kind = moba, .S = 2, .K = 2},
         {3, 0, 0, 0,    // both blocks are chosen: as with full attention
          3, 0, 0, 0,    //
          1, 2, 3, 0,    //
          0, 6, 0, 0}},  //
    };
    for (const auto& [c, want] : one_hot_cases) {
        const PackedBatch batch(c.lengths, {c.S});
        const AttentionShape s = shape_of(c);
        Choice choice = choose(c, batch, q, k);
        for (int version : {1, 2}) {
            Workspace work(version == 1
                               ? naive_attention_workspace_bytes<double>(T, s)
                               : attention_workspace_bytes_cpu<double>(T, 1, {c.S}, s, Direction::forward),
                           version);
            std::vector<double> out(T * D), lse(T);
            attention_forward_cpu<double>(work.ctx, out.data(), lse.data(), q.data(), k.data(), v.data(),
                                          choice.routing(), batch.seqs, s);
            for (int i = 0; i < T * D; i++) {
                EXPECT_NEAR(out[i], want[i], 1e-14) << "token " << i / D << ", channel " << i % D;
            }
        }
    }
}

// ---- version 1, which defines the results ----

// May query t of sequence b see key j of the same sequence? Written from attention.h, not from the code.
bool sees(const Case& c, const Choice& r, size_t b, int h, int t, int j) {
    if (j > t || (c.kind == window && t - j >= c.window)) { return false; }
    if (c.kind != moba) { return true; }
    const auto level = [&](int head) { return head / (c.H / c.G) % c.levels; };
    int first_block = 0, begin = 0;
    for (size_t i = 0; i < b; i++) {
        first_block += ceil_div(c.lengths[i], c.S >> level(h));
        begin += c.lengths[i];
    }
    size_t at = 0;
    for (int i = 0; i < h; i++) { at += (size_t)tokens(c) * (c.K << level(i)); }
    const int K = c.K << level(h);
    const int* chosen = r.chosen.data() + at + (size_t)(begin + t) * K;
    return std::count(chosen, chosen + K, first_block + j / (c.S >> level(h))) > 0;
}

TEST(Attention, NaiveIsTheEquation) {
    for (const Case& c : cases) {
        const int M = tokens(c), D = c.D;
        const auto q = draw<double>((size_t)M * c.H * D, 1, c.scale),
                   k = draw<double>((size_t)M * c.G * D, 2), v = draw<double>((size_t)M * c.G * D, 3);
        const PackedBatch batch(c.lengths, c.sizes());
        const Choice choice = choose(c, batch, q, k);
        std::vector<double> out(q.size()), lse((size_t)c.H * M);
        for (int h = 0; h < c.H; h++) {
            const int g = h / (c.H / c.G);
            for (size_t b = 0; b < c.lengths.size(); b++) {
                for (int t = 0; t < c.lengths[b]; t++) {
                    const size_t row = batch.cu[b] + t;
                    std::vector<double> score(t + 1, -INFINITY);
                    for (int j = 0; j <= t; j++) {
                        if (!sees(c, choice, b, h, t, j)) { continue; }
                        score[j] = std::inner_product(&q[(row * c.H + h) * D], &q[(row * c.H + h) * D] + D,
                                                      &k[((batch.cu[b] + j) * c.G + g) * D], 0.0) /
                                   std::sqrt((double)D);
                    }
                    const double top = *std::max_element(score.begin(), score.end());
                    double sum = 0;
                    for (double x : score) { sum += std::exp(x - top); }
                    lse[(size_t)h * M + row] = top + std::log(sum);
                    for (int j = 0; j <= t; j++) {
                        for (int d = 0; d < D; d++) {
                            out[(row * c.H + h) * D + d] +=
                                std::exp(score[j] - top) / sum * v[((batch.cu[b] + j) * c.G + g) * D + d];
                        }
                    }
                }
            }
        }
        const Result<double> got = run<double, double>(c, 1);
        const std::string name = std::string("attention naive fp64 ") + (c.scale > 1 ? "large " : "");
        expect_error(name + "out", relative_error(got.out, out), c.scale > 1 ? 2e-13 : 1.5e-15);
        expect_error(name + "lse", relative_error(got.lse, lse), 1e-15);
    }
}

TEST(Attention, Gradient) {
    for (const Case& c : {Case{{9, 1, 20}, 2, 1, 6}, Case{{40}, 1, 1, 2, window, 5},
                          Case{{37, 18}, 4, 2, 6, moba, 0, 16, 2}, Case{{70}, 2, 2, 4, moba, 0, 32, 2, 2}}) {
        const PackedBatch batch(c.lengths, c.sizes());
        const AttentionShape s = shape_of(c);
        const int M = tokens(c);
        const size_t nq = (size_t)M * c.H * c.D, nk = (size_t)M * c.G * c.D;
        auto q = draw<double>(nq, 1), k = draw<double>(nk, 2), v = draw<double>(nk, 3);
        const auto dout = draw<double>(nq, 4);
        Choice choice = choose(c, batch, q, k);  // stays fixed while q and k are varied
        Workspace work(naive_attention_workspace_bytes<double>(M, s), 1);
        const auto f = [&] {
            std::vector<double> out(nq), lse((size_t)c.H * M);
            attention_forward_cpu<double>(work.ctx, out.data(), lse.data(), q.data(), k.data(), v.data(),
                                          choice.routing(), batch.seqs, s);
            return inner(out, dout);
        };
        for (int version : {1, 2}) {
            const Result<double> got = run<double, double>(c, version);
            expect_error("attention dq gradient", gradient_error(q, got.dq, f), gradient_tolerance);
            expect_error("attention dk gradient", gradient_error(k, got.dk, f), gradient_tolerance);
            expect_error("attention dv gradient", gradient_error(v, got.dv, f), gradient_tolerance);
        }
    }
}

// ---- both versions, in every element type, against version 1 in double on the same inputs ----

template <class E>
void expect_close(int version) {
    for (const Case& c : cases) {
        const Result<E> got = run<E, E>(c, version);
        const Result<double> want = run<double, E>(c, 1);
        // scores of thousands have rounding errors thousands of times larger, and so have their exponentials
        const double more = c.scale > 1 ? 250 : 1;
        const std::string name = std::string("attention ") + (version == 1 ? "naive " : "fast ") +
                                 type_name<E>() + (c.scale > 1 ? " large" : "");
        const double low = 1.1e-2, low_d = c.scale > 1 ? 8e-2 : 2.4e-2;
        expect_error(name + " out", error_of(got.out, want.out), allowed<E>(1.2e-6 * more, low));
        expect_error(name + " lse", error_of(got.lse, want.lse), allowed<E>(6e-7, 6e-7));
        expect_error(name + " dq", error_of(got.dq, want.dq), allowed<E>(3.6e-6 * more, low_d));
        expect_error(name + " dk", error_of(got.dk, want.dk), allowed<E>(3.6e-6 * more, low_d));
        expect_error(name + " dv", error_of(got.dv, want.dv), allowed<E>(3.6e-6 * more, low));
    }
}
/* Checks where bf16 rounds. Version 1 rounds the weights p and ds before a product, and each output once;
   version 2 rounds e^(score - top) instead of p. The same is computed here in double: all but a few elements
   must have the same bits; without the rounding of p or ds about a third of them would differ. */
double same_bits(const std::vector<bf16>& got, const std::vector<double>& want) {
    size_t same = 0;
    for (size_t i = 0; i < want.size(); i++) { same += got[i].bits == bf16((float)want[i]).bits; }
    return (double)same / want.size();
}
TEST(Attention, Bf16RoundingPoints) {
    const int T = 100, D = 16;
    const auto at = [](uint64_t stream) { return as<double>(draw<bf16>((size_t)T * D, stream)); };
    const std::vector<double> q = at(1), k = at(2), v = at(3), dout = at(4);
    const auto dot = [](const double* a, const double* b) { return std::inner_product(a, a + D, b, 0.0); };
    const auto rounded = [](double x) { return (double)(float)bf16((float)x); };
    for (int version : {1, 2}) {
        const Result<bf16> got = run<bf16, bf16>({{T}, 1, 1, D}, version);
        const std::vector<double> o = as<double>(got.out);  // delta is computed from the rounded output
        std::vector<double> out(q.size()), dq(q.size()), dk(q.size()), dv(q.size());
        for (int t = 0; t < T; t++) {
            double top = -INFINITY, sum = 0;
            for (int j = 0; j <= t; j++) { top = std::max(top, dot(&q[t * D], &k[j * D]) / 4); }
            for (int j = 0; j <= t; j++) { sum += std::exp(dot(&q[t * D], &k[j * D]) / 4 - top); }
            for (int j = 0; j <= t; j++) {
                const double e = std::exp(dot(&q[t * D], &k[j * D]) / 4 - top), p = e / sum;
                const double ds = rounded(p * (dot(&dout[t * D], &v[j * D]) - dot(&dout[t * D], &o[t * D])));
                for (int d = 0; d < D; d++) {
                    out[t * D + d] += (version == 1 ? rounded(p) : rounded(e) / sum) * v[j * D + d];
                    dv[j * D + d] += rounded(p) * dout[t * D + d];
                    dq[t * D + d] += ds * k[j * D + d] / 4;
                    dk[j * D + d] += ds * q[t * D + d] / 4;
                }
            }
        }
        EXPECT_GT(same_bits(got.out, out), 0.98) << version;
        EXPECT_GT(same_bits(got.dq, dq), 0.98) << version;
        EXPECT_GT(same_bits(got.dk, dk), 0.98) << version;
        EXPECT_GT(same_bits(got.dv, dv), 0.98) << version;
    }
}

TEST(Attention, FastEqualsNaiveInDouble) { expect_close<double>(2); }
TEST(Attention, Fp32IsCloseToDouble) { expect_close<float>(1), expect_close<float>(2); }
TEST(Attention, Bf16IsCloseToDouble) { expect_close<bf16>(1), expect_close<bf16>(2); }

}  // namespace

}  // namespace moba

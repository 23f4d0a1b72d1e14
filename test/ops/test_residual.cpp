/* Residual addition with dropout, and the random number generator Philox that dropout uses. */
#include "moba/ops/residual.h"
#include "test/support/packed_batch.h"
#include <set>

namespace moba {

namespace {

// From the file kat_vectors of Random123, philox4x32-10: counter, key, result
TEST(Philox, KnownAnswers) {
    struct Known {
        uint32_t c[4];
        uint64_t key;
        uint32_t want[4];
    };
    const Known known[] = {
        {{0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{~0u, ~0u, ~0u, ~0u}, ~0ull, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         0x299f31d0a4093822,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (const Known& k : known) {
        const Philox4 got = philox(k.key, k.c[0], k.c[1], k.c[2], k.c[3]);
        for (int i = 0; i < 4; i++) { EXPECT_EQ(got.word[i], k.want[i]); }
    }
}

// A stream consists of philox(counter, index low, index high, purpose), four words at a time.
TEST(Rng, IsPhiloxInOrder) {
    Rng rng(42, Purpose::synthetic, 0x0000000500000007);
    for (uint32_t c = 0; c < 3; c++) {
        const Philox4 want = philox(42, c, 7, 5, (uint32_t)Purpose::synthetic);
        for (int i = 0; i < 4; i++) { EXPECT_EQ(rng.next(), want.word[i]); }
    }
}

TEST(Rng, StreamsDiffer) {
    std::set<uint64_t> seen;
    const auto take = [&](Rng r) { seen.insert((uint64_t)r.next() << 32 | r.next()); };
    for (uint64_t seed : {0ull, 1ull, 1ull << 32}) {
        for (Purpose p : {Purpose::weights, Purpose::train_data, Purpose::sampling, Purpose::synthetic}) {
            for (uint64_t index : {0ull, 1ull, 1ull << 32}) { take(Rng(seed, p, index)); }
        }
    }
    EXPECT_EQ(seen.size(), 3u * 4 * 3);
}

// Moments of 40,000 draws; four standard errors are allowed.
TEST(Rng, Distributions) {
    const int n = 40000;
    Rng rng(5, Purpose::synthetic, 0);
    double u = 0, z = 0, zz = 0;
    std::vector<int> hits(7);
    for (int i = 0; i < n; i++) {
        const double x = rng.uniform(), y = rng.normal();
        ASSERT_TRUE(x > 0 && x < 1);
        u += x, z += y, zz += y * y;
        hits[rng.below(7)]++;
    }
    EXPECT_NEAR(u / n, 0.5, 4 * std::sqrt(1.0 / 12 / n));
    EXPECT_NEAR(z / n, 0, 4 / std::sqrt((double)n));
    EXPECT_NEAR(zz / n, 1, 4 * std::sqrt(2.0 / n));
    for (int h : hits) { EXPECT_NEAR(h, n / 7.0, 4 * std::sqrt(n / 7.0)); }
    for (int i = 0; i < 10; i++) { EXPECT_EQ(rng.below(1), 0); }
}

// ---- dropout ----

const StepState state{1234567890123, 5, 2, 1, 0};

// Is element i kept? As residual.h defines it.
bool kept(size_t i, DropoutShape s, const StepState& at) {
    const Philox4 r = philox(at.seed, (uint32_t)(i / 4), at.step, at.micro_batch, 8 * s.layer + (int)s.site);
    return r.word[i % 4] >= std::floor((double)s.p * 4294967296.0);
}

TEST(Dropout, IsTheEquation) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (size_t n : {1, 3, 4, 5, 8191, 8192, 8195, 20001}) {
            for (float p : {0.f, 0.1f, 0.5f, 0.999f}) {
                const DropoutShape s{n, p, 3, DropoutSite::mlp};
                const std::vector<E> x = draw<E>(n, 1), b = draw<E>(n, 2);
                Guarded<E> y(n), alone(n), db(n);
                residual_forward_cpu<E>({}, y.data(), x.data(), b.data(), &state, s);
                residual_forward_cpu<E>({}, alone.data(), nullptr, b.data(), &state, s);
                residual_backward_cpu<E>({}, db.data(), b.data(), &state, s);
                std::vector<double> sum(n), product(n);
                for (size_t i = 0; i < n; i++) {
                    product[i] = kept(i, s, state) ? (double)b[i] / (1 - (double)p) : 0;
                    sum[i] = (double)x[i] + product[i];
                    ASSERT_EQ((double)alone[i] == 0, !kept(i, s, state)) << i;
                    // the same mask in the backward pass
                    ASSERT_EQ((double)db[i] == 0, !kept(i, s, state)) << i;
                }
                const double size = max_abs(sum.data(), n) + max_abs(product.data(), n);
                const std::string name = std::string("residual ") + type_name<E>() + " ";
                expect_error(name + "y", max_abs_error(y.data(), sum.data(), n) / size,
                             allowed<E>(1.7e-7, 4e-3));
                expect_error(name + "y, no x", relative_error(alone.values(), product),
                             allowed<E>(1.7e-7, 4e-3));
                expect_error(name + "db", relative_error(db.values(), product), allowed<E>(1.7e-7, 4e-3));
                EXPECT_TRUE(y.intact() && alone.intact() && db.intact());
            }
        }
    });
}

TEST(Dropout, NoneIsPlainAddition) {
    const size_t n = 9000;
    const auto x = draw<float>(n, 1), b = draw<float>(n, 2);
    std::vector<float> y(n), want(n);
    residual_forward_cpu<float>({}, y.data(), x.data(), b.data(), &state, {n, 0, 0, DropoutSite::attention});
    for (size_t i = 0; i < n; i++) { want[i] = x[i] + b[i]; }
    EXPECT_EQ(y, want);
}

TEST(Dropout, ShareKept) {
    const size_t n = 200000;
    const std::vector<float> one(n, 1.f);
    for (float p : {0.01f, 0.1f, 0.3f, 0.9f}) {
        std::vector<float> y(n);
        residual_forward_cpu<float>({}, y.data(), nullptr, one.data(), &state,
                                    {n, p, 0, DropoutSite::embedding});
        const double share = (double)std::count_if(y.begin(), y.end(), [](float v) { return v != 0; }) / n;
        EXPECT_NEAR(share, 1 - p, 4 * std::sqrt(p * (1 - p) / n)) << p;
    }
}

// Another seed, step, micro-batch, layer or site gives another mask.
TEST(Dropout, MasksDiffer) {
    const size_t n = 256;
    const std::vector<float> one(n, 1.f);
    std::set<std::vector<float>> masks;
    const auto add = [&](StepState at, int layer, DropoutSite site) {
        std::vector<float> y(n);
        residual_forward_cpu<float>({}, y.data(), nullptr, one.data(), &at, {n, 0.5f, layer, site});
        masks.insert(y);
    };
    for (DropoutSite site : {DropoutSite::attention, DropoutSite::mlp, DropoutSite::embedding}) {
        for (int layer : {0, 1, 2}) { add(state, layer, site); }
    }
    add({state.seed + 1, 5, 2, 1, 0}, 0, DropoutSite::mlp);
    add({state.seed + (1ull << 32), 5, 2, 1, 0}, 0, DropoutSite::mlp);
    add({state.seed, 6, 2, 1, 0}, 0, DropoutSite::mlp);
    add({state.seed, 5, 3, 1, 0}, 0, DropoutSite::mlp);
    EXPECT_EQ(masks.size(), 13u);
}

// The mask of an element depends only on its index: not on the size of the tensor, the thread, or the element
// type.
TEST(Dropout, MaskDependsOnTheIndexAlone) {
    const std::vector<float> b = draw<float>(30000, 1);
    const std::vector<bf16> low = as<bf16>(b);
    std::vector<float> whole(b.size()), part(10001);
    std::vector<bf16> narrow(b.size());
    const auto shape = [](size_t n) { return DropoutShape{n, 0.25f, 1, DropoutSite::mlp}; };
    residual_forward_cpu<float>({}, whole.data(), nullptr, b.data(), &state, shape(b.size()));
    residual_forward_cpu<float>({}, part.data(), nullptr, b.data(), &state, shape(part.size()));
    residual_forward_cpu<bf16>({}, narrow.data(), nullptr, low.data(), &state, shape(b.size()));
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin()));
    for (size_t i = 0; i < b.size(); i++) { ASSERT_EQ(whole[i] == 0, (float)narrow[i] == 0); }
    expect_same_bits_on_threads([&] {
        std::vector<float> y(b.size());
        residual_forward_cpu<float>({}, y.data(), whole.data(), b.data(), &state, shape(b.size()));
        return bits(y);
    });
}

// Rows that are any tokens of a batch get the masks of these tokens, also where a row does not begin at a
// multiple of four.
TEST(Dropout, RowsOfSomeTokens) {
    const std::vector<int> token = {7, 2, 3, 11, 0};
    for (int width : {1, 3, 4, 10, 5000}) {
        const std::vector<float> one(12 * width, 1.f);
        std::vector<float> whole(one.size()), some(token.size() * width), want;
        residual_forward_cpu<float>({}, whole.data(), nullptr, one.data(), &state,
                                    {whole.size(), 0.5f, 1, DropoutSite::mlp});
        residual_forward_cpu<float>({}, some.data(), nullptr, one.data(), &state,
                                    {some.size(), 0.5f, 1, DropoutSite::mlp, token.data(), width});
        for (int t : token) {
            want.insert(want.end(), whole.begin() + t * width, whole.begin() + (t + 1) * width);
        }
        EXPECT_EQ(some, want) << width;
    }
}

// In place: y may overwrite x or b, and db may overwrite dy, as in the model.
TEST(Dropout, InPlace) {
    const size_t n = 9001;
    const DropoutShape s{n, 0.3f, 0, DropoutSite::attention};
    const auto x = draw<float>(n, 1), b = draw<float>(n, 2);
    std::vector<float> y(n), over_x = x, over_b = b, db(n), over_dy = b;
    residual_forward_cpu<float>({}, y.data(), x.data(), b.data(), &state, s);
    residual_forward_cpu<float>({}, over_x.data(), over_x.data(), b.data(), &state, s);
    residual_forward_cpu<float>({}, over_b.data(), x.data(), over_b.data(), &state, s);
    residual_backward_cpu<float>({}, db.data(), b.data(), &state, s);
    residual_backward_cpu<float>({}, over_dy.data(), over_dy.data(), &state, s);
    EXPECT_EQ(over_x, y);
    EXPECT_EQ(over_b, y);
    EXPECT_EQ(over_dy, db);
}

}  // namespace

}  // namespace moba

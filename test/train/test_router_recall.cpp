/* Router recall and reach against cases worked out by hand: which queries count, which blocks were chosen,
   the signal-to-noise ratio, the recall it predicts, and information passed on by other tokens. */
#include "moba/core/philox.h"
#include "test/support/model_case.h"
#include "train/core/statistics.h"
#include "train/eval/router_reach.h"
#include "train/eval/router_recall.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

// One head of one channel. All keys of a block of 2 tokens are equal, so the means of the blocks are the
// keys.
struct Case {
    std::vector<int> table;
    AttentionView v;

    Case(const std::vector<int>& cu, const std::vector<float>& block_keys, int K) {
        const int M = cu.back();
        v.shape = {1, 1, 1, AttentionKind::moba, 0, {1, 1, 1, K, Gate::topk}};
        v.seqs = build_sequences(table, cu, {2});
        v.q.assign(M, 1.0f);
        for (int t = 0; t < M; t++) { v.k.push_back(block_keys[v.seqs.level[0].own[t]]); }
        v.means = {block_keys};
        v.chosen = {std::vector<int>((size_t)M * K, -1)};
    }
    void choose(int t, const std::vector<int>& blocks) {
        const int K = v.shape.gate.K;
        std::copy(blocks.begin(), blocks.end(), v.chosen[0].begin() + (size_t)t * K);
    }
};

// Sequences of 8 and 6 tokens: blocks 0..3 and 4..6. The answer to the last query of the first sequence is in
// block 1, which was chosen; that of the second is in block 4, which was not. A third query has its answer in
// its own block and does not count.
TEST(RouterRecall, ByHand) {
    Case c({0, 8, 14}, {1, 5, 2, 0, 3, 4, 0}, 2);
    c.choose(7, {1, 3});
    c.choose(13, {5, 6});
    c.choose(5, {1, 2});
    std::vector<int> sources(14, -1);
    sources[7] = 3;   // block 1: d = 5 - 1 and 5 - 2
    sources[13] = 8;  // block 4: d = 3 - 4
    sources[5] = 4;   // the query's own block
    RouterRecall r;
    r.add(3, c.v, sources);
    const json heads = r.to_json();
    ASSERT_EQ(heads.size(), 1u);
    EXPECT_EQ(heads[0]["layer"], 3);
    EXPECT_EQ(heads[0]["head"], 0);
    EXPECT_EQ(heads[0]["queries"], 2);
    EXPECT_EQ(heads[0]["recall"], 0.5);
    EXPECT_NEAR(heads[0]["low"].get<double>(), wilson(1, 2).low, 1e-12);
    // d = 4, 3, -1: mean 2, variance 26/3 - 4
    const double snr = 2 / std::sqrt(26.0 / 3 - 4);
    EXPECT_NEAR(heads[0]["snr"].get<double>(), snr, 1e-12);
    EXPECT_NEAR(heads[0]["predicted"].get<double>(),
                (predicted_recall(snr, 2, 2) + predicted_recall(snr, 1, 2)) / 2, 1e-12);
}

TEST(RouterRecall, LayersWithoutChoiceDoNotAppear) {
    Case c({0, 8}, {1, 2, 3, 4}, 2);
    std::vector<int> sources(8, -1);
    RouterRecall r;
    r.add(0, c.v, sources);
    sources[7] = 0;
    c.v.chosen.clear();
    r.add(1, c.v, sources);
    EXPECT_TRUE(r.to_json().empty());
}

// One other block and one query: no variance, so no ratio and no prediction.
TEST(RouterRecall, NoSpreadNoPrediction) {
    Case c({0, 6}, {1, 2, 0}, 2);
    c.choose(5, {1, 2});
    std::vector<int> sources(6, -1);
    sources[5] = 2;
    RouterRecall r;
    r.add(0, c.v, sources);
    const json heads = r.to_json();
    ASSERT_EQ(heads.size(), 1u);
    EXPECT_EQ(heads[0]["recall"], 1);
    EXPECT_FALSE(heads[0].contains("snr") || heads[0].contains("predicted"));
}

// With one other block the better score wins: Phi(SNR). Without a signal each of the n+1 blocks is equally
// likely to be among the K-1 chosen.
TEST(RouterRecall, Prediction) {
    for (double snr : {-1.0, 0.0, 0.5, 1.0, 2.5}) {
        EXPECT_NEAR(predicted_recall(snr, 1, 2), 0.5 * std::erfc(-snr / std::sqrt(2.0)), 1e-6);
    }
    for (int n : {1, 5, 30}) {
        for (int K : {2, 3, 6}) {
            EXPECT_NEAR(predicted_recall(0, n, K), std::min(1.0, (K - 1) / (n + 1.0)), 1e-6) << n << " " << K;
        }
    }
    // no past block is ever chosen
    EXPECT_EQ(predicted_recall(5, 3, 1), 0);
    // all blocks are chosen
    EXPECT_NEAR(predicted_recall(-9, 3, 5), 1, 1e-12);
}

// The prediction holds if its assumptions do: normally distributed scores, and the best K-1 are chosen.
TEST(RouterRecall, PredictionHoldsForNormalScores) {
    const double delta = 1.2;  // SNR = 1.2 / sqrt(2)
    const int n = 9, K = 3, trials = 40000;
    Rng rng(5, Purpose::synthetic, 0);
    const auto normal = [&] {
        return std::sqrt(-2 * std::log(rng.uniform())) * std::cos(2 * M_PI * rng.uniform());
    };
    int chosen = 0;
    for (int i = 0; i < trials; i++) {
        const double target = delta + normal();
        int above = 0;
        for (int j = 0; j < n; j++) { above += normal() > target; }
        chosen += above <= K - 2;
    }
    EXPECT_NEAR(predicted_recall(delta / std::sqrt(2.0), n, K), (double)chosen / trials, 0.01);
}

// A pass whose last layer is computed only for the asked tokens has the same choices of these.
TEST(RouterRecall, OfAskedTokens) {
    using namespace model_case;
    for (const char* layers : {"window:7:rope,moba:none", "full,moba:rope"}) {
        Config c = small(layers);
        c.num_heads = 4, c.num_kv_heads = 2, c.num_block_sizes = 2, c.block_size = 32;
        c.gate = layers[0] == 'w' ? Gate::lse : Gate::topk, c.shared_gate = layers[0] == 'f';
        const Data d = data({200}, c.vocab_size);
        std::vector<int> targets(200, ignored), sources(200, -1);
        for (int t : {60, 120, 199}) { targets[t] = d.tokens[t], sources[t] = t / 3; }
        json recall[2], reach[2];
        for (int short_pass : {0, 1}) {
            Model<float> model = make<float>(
                c, {200}, short_pass ? ModelSizes{.asked_only = true} : ModelSizes{.training = true});
            model.set_batch(d.tokens.data(), targets.data(), d.cu, state);
            model.forward();
            RouterRecall r;
            std::vector<AttentionView> views;
            for (int l = 0; l < 2; l++) {
                views.push_back(view_attention(model, l));
                r.add(l, views.back(), sources);
            }
            recall[short_pass] = r.to_json();
            reach[short_pass] = router_reach(views, sources).to_json();
        }
        ASSERT_EQ(recall[0].size(), 4u);
        EXPECT_EQ(reach[0], reach[1]);
        for (int h = 0; h < 4; h++) {
            EXPECT_EQ(recall[0][h]["queries"], 3);
            EXPECT_EQ(recall[0][h]["recall"], recall[1][h]["recall"]);
            EXPECT_NEAR(recall[0][h]["snr"], recall[1][h]["snr"], 1e-4);
        }
    }
}

// 8 tokens in 4 blocks of 2; token 7 asks for token 1 in block 0. In layer 1 it reads blocks 1 and 3; so it
// depends on what the tokens of these blocks have read in layer 0.
TEST(RouterReach, ByHand) {
    const std::vector<int> cu = {0, 8};
    Case below(cu, {0, 0, 0, 0}, 2), above(cu, {0, 0, 0, 0}, 2);
    for (int t = 0; t < 8; t++) {
        below.choose(t, {t / 2});
        above.choose(t, {t / 2});
    }
    std::vector<int> sources(8, -1);
    sources[7] = 1;
    const auto reach = [&] { return router_reach({below.v, above.v}, sources).right; };
    EXPECT_EQ(reach(), 0) << "every token reads only its own block";
    above.choose(7, {1, 3});
    EXPECT_EQ(reach(), 0);
    below.choose(5, {0, 2});
    EXPECT_EQ(reach(), 0) << "token 5 has read token 1, but token 7 does not choose its block";
    below.choose(2, {0, 1});
    EXPECT_EQ(reach(), 1) << "token 2 passes it on";
    below.choose(2, {1});
    below.choose(6, {0, 3});
    EXPECT_EQ(reach(), 1) << "token 6, in the same block as token 7, passes it on";
    below.choose(6, {3});
    below.choose(7, {0, 3});
    EXPECT_EQ(reach(), 1) << "token 7 has read it directly, in layer 0";
    below.choose(7, {3});
    below.v.shape.kind = AttentionKind::full;
    EXPECT_EQ(reach(), 1);
    below.v.shape.kind = AttentionKind::window;
    below.v.shape.window = 2;  // token 2 sees token 1
    EXPECT_EQ(reach(), 1);
    below.v.shape.window = 1;
    EXPECT_EQ(reach(), 0);
    below.v.shape.window = 100;  // wider than the sequence
    EXPECT_EQ(reach(), 1);
    below.v.shape.kind = AttentionKind::moba;
    EXPECT_EQ(reach(), 0);
    Case second = below;  // a choice by only the second head counts too
    second.choose(7, {0, 3});
    below.v.shape.H = 2;
    below.v.chosen.push_back(second.v.chosen[0]);
    EXPECT_EQ(reach(), 1);
    EXPECT_EQ(router_reach({below.v, above.v}, sources).answers, 1);
}

// A sequence that does not start at 0; and a token must not receive information from later tokens.
TEST(RouterReach, PackedAndCausal) {
    Case c({0, 4, 12}, {0, 0, 0, 0, 0, 0}, 2);
    for (int t = 0; t < 12; t++) { c.choose(t, {t / 2}); }
    std::vector<int> sources(12, -1);
    sources[10] = 4;
    c.choose(11, {2, 5});  // this token comes after the question
    EXPECT_EQ(router_reach({c.v, c.v}, sources).right, 0);
    c.choose(10, {2, 5});
    EXPECT_EQ(router_reach({c.v, c.v}, sources).right, 1);
}

}  // namespace

}  // namespace moba

/* The paths of an answer through the layers: worked out by hand, and against all paths there are. */
#include "test/support/attention_view_case.h"
#include "train/inspect/paths_figure.h"
#include <deque>

namespace moba {

using namespace attention_case;

namespace {

using Layers = std::vector<const AttentionView*>;

AnswerPaths find(const Layers& layers, int question, int source) {
    AnswerPaths paths(layers[0]->seqs, question, source);
    for (size_t l = layers.size(); l-- > 0;) { paths.add(*layers[l], (int)l); }
    return paths;
}

// Full attention: query t gives key j a weight of (j+1) / (1 + ... + (t+1)).
View in_full(int T) {
    std::vector<float> k;
    for (int i = 1; i <= T; i++) { k.push_back(std::log((float)i)); }
    return View({.lengths = {T}, .H = 1, .G = 1, .D = 1, .kind = full}, std::vector<float>(T, 1), k);
}

TEST(AnswerPaths, TwoLayersByHand) {
    const View layer = in_full(3);
    const AnswerPaths paths = find({&layer.v, &layer.v}, 2, 0);
    EXPECT_TRUE(paths.reached());
    const std::vector<Path>& best = paths.best();
    ASSERT_EQ(best.size(), 3u);
    // a hop in one of the layers, and nothing in the other
    for (int i : {0, 1}) {
        EXPECT_NEAR(best[i].weight, 1 / 6., 1e-7);
        ASSERT_EQ(best[i].hops.size(), 1u);
        EXPECT_EQ(best[i].hops[0].from, 0);
        EXPECT_EQ(best[i].hops[0].to, 2);
    }
    EXPECT_NE(best[0].hops[0].layer, best[1].hops[0].layer);
    // through token 1
    EXPECT_NEAR(best[2].weight, 1 / 3. * 2 / 6., 1e-7);
    ASSERT_EQ(best[2].hops.size(), 2u);
    EXPECT_EQ(best[2].hops[0].layer, 0);
    EXPECT_EQ(best[2].hops[0].to, 1);
    EXPECT_EQ(best[2].hops[1].from, 1);
    EXPECT_NEAR(best[2].hops[1].weight, 2 / 6., 1e-7);
    EXPECT_NEAR(paths.total(1), 2 / 6., 1e-7);
    EXPECT_NEAR(paths.total(2), 1 / 9., 1e-7);
    EXPECT_EQ(paths.total(3), 0);
    EXPECT_EQ(totals_text({0.078, 0.941, 0, 0.2}),
              "7.8% directly, 94.1% through one other token, 20.0% through 3 other tokens");
}

// S = 2, K = 2: the last query does not choose block 0, which holds the answer. Tokens 2 and 3 do.
TEST(AnswerPaths, ThroughATokenThatChoseTheBlock) {
    const View layer = six_tokens();
    const AnswerPaths paths = find({&layer.v, &layer.v}, 5, 1);
    EXPECT_TRUE(paths.reached());
    ASSERT_EQ(paths.best().size(), 2u);
    EXPECT_NEAR(paths.best()[0].weight, 2 / 6. * 3 / 18., 1e-7);
    EXPECT_EQ(paths.best()[0].hops[0].to, 2);
    EXPECT_NEAR(paths.best()[1].weight, 2 / 10. * 4 / 18., 1e-7);
    EXPECT_EQ(paths.best()[1].hops[0].to, 3);

    const AnswerPaths none = find({&layer.v}, 5, 1);
    EXPECT_FALSE(none.reached());
    EXPECT_TRUE(none.best().empty());
}

// A path from `token` before layer `l`, tried in every way.
void try_all(const Layers& layers, size_t l, int token, int question, double weight,
             std::vector<double>& weights) {
    if (l == layers.size()) {
        if (token == question) { weights.push_back(weight); }
        return;
    }
    try_all(layers, l + 1, token, question, weight, weights);
    const AttentionView& v = *layers[l];
    for (int to = token + 1; to <= question; to++) {
        for (int h = 0; h < v.shape.H; h++) {
            double read = 0, sum = 0;
            v.each_seen(to, h, [&](int first, int end) {
                for (int j = first; j < end; j++) {
                    const double e = std::exp(v.logit(to, h, j));
                    sum += e;
                    if (j == token) { read = e; }
                }
            });
            if (read > 0) { try_all(layers, l + 1, to, question, weight * read / sum, weights); }
        }
    }
}

TEST(AnswerPaths, TheBestOfAllPaths) {
    std::deque<View> views;
    Layers layers;
    uint64_t seed = 1;
    for (AttentionKind kind : {moba, AttentionKind::window, full, moba}) {
        const int T = 16;
        const Case c{.lengths = {3, T}, .H = 4, .G = 2, .D = 8, .kind = kind, .window = 7, .S = 4, .K = 2};
        const std::vector<float> q = draw<float>((size_t)tokens(c) * c.H * c.D, seed++, 2),
                                 k = draw<float>((size_t)tokens(c) * c.G * c.D, seed++);
        layers.push_back(&views.emplace_back(c, q, k).v);
    }
    for (int source : {3, 6, 11, 17}) {  // in the second sequence, which begins at token 3
        const int question = 18;
        std::vector<double> all;
        try_all(layers, 0, source, question, 1, all);
        std::sort(all.rbegin(), all.rend());
        const double sum = std::accumulate(all.begin(), all.end(), 0.0);
        const AnswerPaths paths = find(layers, question, source);
        EXPECT_EQ(paths.reached(), !all.empty()) << source;
        ASSERT_EQ(paths.best().size(), std::min(all.size(), AnswerPaths::most_paths)) << source;
        EXPECT_NEAR(paths.total(1) + paths.total(2) + paths.total(3) + paths.total(4), sum, 1e-9);
        for (size_t i = 0; i < paths.best().size(); i++) {
            const Path& p = paths.best()[i];
            EXPECT_NEAR(p.weight, all[i], 1e-9) << source << ", " << i;
            double product = 1;
            int at = source, layer = -1;
            for (const Hop& hop : p.hops) {
                EXPECT_EQ(hop.from, at) << "the next hop begins where the last one ended";
                EXPECT_GT(hop.layer, layer);
                at = hop.to, layer = hop.layer, product *= hop.weight;
            }
            EXPECT_EQ(at, question);
            EXPECT_NEAR(product, p.weight, 1e-12);
        }
    }
}

// A long prompt: only the tokens with the heaviest paths are followed, and the heaviest path is among theirs.
TEST(AnswerPaths, FollowsTheHeaviestTokens) {
    const int T = 1000;
    std::vector<float> k(T, 0.f);
    k[700] = 8, k[20] = 7;  // all later tokens read these two most
    const View layer({.lengths = {T}, .H = 1, .G = 1, .D = 1, .kind = full}, std::vector<float>(T, 1), k);
    const AnswerPaths paths = find({&layer.v, &layer.v}, T - 1, 20);
    const double e8 = std::exp(8.), e7 = std::exp(7.), last = e8 + e7 + T - 2, middle = e8 + e7 + 699;
    ASSERT_EQ(paths.best().size(), AnswerPaths::most_paths);
    // a hop in either layer, and through token 700
    const double direct = e7 / last, relayed = e8 / last * e7 / middle;
    EXPECT_NEAR(paths.best()[0].weight, direct, 1e-6);
    EXPECT_NEAR(paths.best()[1].weight, direct, 1e-6);
    EXPECT_NEAR(paths.best()[2].weight, relayed, 1e-6);
    EXPECT_EQ(paths.best()[2].hops[0].to, 700);
}

TEST(AnswerPaths, AsTextAndPicture) {
    const std::vector<std::string> names = {"a", "<v1>", "b", "c", "d", "k1"};
    const Path p{0.27, {{0, 1, 1, 3, 0.9}, {1, 0, 3, 5, 0.3}}};
    EXPECT_EQ(path_text(p, names),
              "27.0%: 1 \"<v1>\" -> 3 \"c\" (layer 0 head 1, 90.0%) -> 5 \"k1\" (layer 1 head 0, 30.0%)");
    const std::string figure = draw_paths({p}, 2, names), table = paths_list({p}, names);
    for (const std::string& html : {figure, table}) {
        EXPECT_NE(html.find("&lt;v1&gt;"), std::string::npos) << html;
        EXPECT_EQ(html.find("<v1>"), std::string::npos) << html;
    }
    EXPECT_EQ(count(figure, "<circle"), 4);
    EXPECT_EQ(count(figure, "class=\"grid\""), 3) << "the input, and each layer";
}

}  // namespace

}  // namespace moba

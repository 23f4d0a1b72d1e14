/* The attention weights of each block, against a case worked out by hand and against attention itself; and
   the page that shows them. */
#include "test/support/attention_view_case.h"
#include "train/inspect/inspect_page.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;
using namespace attention_case;

namespace {

void expect_shares(const std::vector<float>& got, const std::vector<double>& want) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); i++) { EXPECT_NEAR(got[i], want[i], 1e-6) << i; }
}

TEST(HeadView, WorkedByHand) {
    const View view = six_tokens();
    const HeadView h = view_head(view.v, 3, 0);
    EXPECT_EQ(h.layer, 3);
    EXPECT_EQ(h.block_size, 2);
    EXPECT_EQ(h.top_k, 2);
    // the last query: its own block 2, and block 1, whose keys are larger than those of block 0
    const HeadView::Query& q = h.queries[5];
    EXPECT_EQ(q.own, 2);
    EXPECT_EQ(q.chosen, (std::vector<int>{1, 2}));
    expect_shares(q.weights, {0, 7 / 18., 11 / 18.});
    expect_shares(q.full_weights, {3 / 21., 7 / 21., 11 / 21.});
    expect_shares(q.scores, {std::log(2.) / 2, std::log(12.) / 2});
    EXPECT_EQ(q.rank(1), 1);
    EXPECT_EQ(q.rank(0), 2);
    expect_shares(h.queries[4].weights, {0, 7 / 12., 5 / 12.});  // token 5 comes later
    expect_shares(h.queries[4].full_weights, {3 / 15., 7 / 15., 5 / 15.});
    expect_shares(h.queries[2].weights, {3 / 6., 3 / 6.});
    expect_shares(h.queries[0].weights, {1});
    EXPECT_NEAR(h.mass_kept(), (1 + 1 + 1 + 1 + 12 / 15. + 18 / 21.) / 6, 1e-8);
    EXPECT_TRUE(sees(h, 5, 3));
    EXPECT_FALSE(sees(h, 5, 1));
    EXPECT_TRUE(sees(h, 3, 1));
    EXPECT_TRUE(sees(h, 5, 4)) << "the query's own block";

    json j = head_json(h, 5, 1);
    for (int t = 0; t < 6; t++) { j["queries"].push_back(query_json(h.queries[t], t, true)); }
    EXPECT_EQ(j["answer_chosen"], false);
    EXPECT_EQ(j["kind"], "moba");
    EXPECT_EQ(j["top_k"], 2);
    EXPECT_EQ(j["queries"][5]["chosen"], (json{1, 2}));
    EXPECT_EQ(j["queries"][5]["weights"], (json{0.0, 0.38889, 0.61111}));
    EXPECT_EQ(j["queries"][4]["own"], 2);
    EXPECT_EQ(j["queries"][0]["scores"], json::array());
    EXPECT_FALSE(head_json(h, -1, -1).contains("answer_chosen"));
}

TEST(HeadView, EqualScoresRankLikeTheGate) {
    const HeadView::Query q{4, 1, {}, {1, 2, 1}, {}, {}, 0};  // blocks 1 to 3
    EXPECT_EQ(q.rank(1), 2);
    EXPECT_EQ(q.rank(2), 1);
    EXPECT_EQ(q.rank(3), 3);
}

// Compares with attention itself. Each value is one-hot: the channel is the index of its block. So the
// outputs of attention are the weights of the blocks.
TEST(HeadView, WeightsAreWhatAttentionReads) {
    const Case cases[] = {
        {.lengths = {70}, .H = 2, .G = 2, .D = 8, .kind = moba, .S = 16, .K = 3},
        {.lengths = {37, 1, 100}, .H = 4, .G = 2, .D = 32, .kind = moba, .S = 16, .K = 2, .levels = 2},
        {.lengths = {30, 50}, .H = 2, .G = 1, .D = 16, .kind = moba, .S = 16, .K = 3, .gate = Gate::sink},
        // K larger than the number of blocks
        {.lengths = {20, 50}, .H = 2, .G = 1, .D = 16, .kind = moba, .S = 16, .K = 8},
        {.lengths = {60, 21}, .H = 2, .G = 1, .D = 16, .kind = attention_case::window, .window = 19},
        {.lengths = {60, 21}, .H = 2, .G = 1, .D = 16, .kind = full}};
    for (const Case& c : cases) {
        const int M = tokens(c);
        const std::vector<float> q = draw<float>((size_t)M * c.H * c.D, 1, 2),
                                 k = draw<float>((size_t)M * c.G * c.D, 2);
        const View view(c, q, k);
        const AttentionView& v = view.v;
        std::vector<double> values((size_t)M * c.G * c.D);
        for (int j = 0; j < M; j++) {
            for (int g = 0; g < c.G; g++) {
                const BlockTable& b = v.blocks(g * (c.H / c.G));
                values[((size_t)j * c.G + g) * c.D + b.own[j] - b.first[b.own[j]]] = 1;
            }
        }
        const auto read = [&](AttentionKind kind) {
            AttentionShape s = v.shape;
            s.kind = kind;
            Choice choice = choose(c, view.batch, as<double>(q), as<double>(k));
            Workspace work(naive_attention_workspace_bytes<double>(M, s), 1);
            std::vector<double> out((size_t)M * c.H * c.D), lse((size_t)M * c.H);
            attention_forward_cpu<double>(work.ctx, out.data(), lse.data(), as<double>(q).data(),
                                          as<double>(k).data(), values.data(), choice.routing(), v.seqs, s);
            return out;
        };
        const std::vector<double> selected = read(c.kind), all = read(full);
        for (int h = 0; h < c.H; h++) {
            const HeadView head = view_head(v, 0, h);
            ASSERT_EQ((int)head.queries.size(), M);
            double kept = 0;
            for (int t = 0; t < M; t++) {
                const HeadView::Query& x = head.queries[t];
                const size_t row = ((size_t)t * c.H + h) * c.D, n = x.own - x.first + 1;
                ASSERT_EQ(x.weights.size(), n);
                ASSERT_EQ(x.full_weights.size(), n);
                EXPECT_WITHIN(max_abs_error(x.weights.data(), selected.data() + row, n), 1e-6);
                EXPECT_WITHIN(max_abs_error(x.full_weights.data(), all.data() + row, n), 1e-6);
                kept += x.kept / M;
            }
            EXPECT_NEAR(head.mass_kept(), kept, 1e-12);
            if (c.kind == full || c.K * c.S >= 100) {
                EXPECT_NEAR(kept, 1, 1e-12) << "nothing is left out";
            } else {
                EXPECT_LT(kept, 0.999);
            }
        }
    }
}

TEST(HeadView, OfSomeQueries) {
    const View view = six_tokens();
    std::vector<int> seen;
    const HeadView all = view_head(view.v, 0, 0);
    const HeadView h = view_head(
        view.v, 0, 0, [&](int t, HeadView::Query&) { seen.push_back(t); }, [](int t) { return t % 3 == 2; });
    EXPECT_EQ(seen, (std::vector<int>{2, 5}));
    EXPECT_EQ(h.queries[5].weights, all.queries[5].weights);
    EXPECT_TRUE(h.queries[4].weights.empty());
    EXPECT_EQ(h.queries[4].own, 2) << "known of every query";
    EXPECT_NEAR(h.mass_kept(), (all.queries[2].kept + all.queries[5].kept) / 2, 1e-12);
}

// Scores so far apart that the weight of the blocks MoBA reads is negligible in full attention.
TEST(HeadView, ScoresFarBelowTheLargest) {
    View view = six_tokens();
    view.v.k = {2000, 2000, 0, 0, 0, 0};
    const HeadView h = view_head(view.v, 0, 0);
    expect_shares(h.queries[5].weights, {0, 0.5, 0.5});
    expect_shares(h.queries[5].full_weights, {1, 0, 0});
}

TEST(InspectPage, EscapesTokenNames) {
    const std::string evil = "</script><i>";
    InspectPage page(
        {evil, {"moba:rope"}, std::vector<std::string>(6, evil), std::vector<std::string>(6, evil)});
    const View view = six_tokens();
    page.add(view_head(view.v, 0, 0));
    const std::string html = page.html();
    EXPECT_EQ(count(html, "</script"), 1);
    EXPECT_EQ(count(html, "<i>"), 0);
    EXPECT_GE(count(html, "&lt;i&gt;"), 6);
}

TEST(InspectPage, DrawsEveryNthQueryAndTheQuestion) {
    const int T = 1500;
    const View view({.lengths = {T}, .H = 1, .G = 1, .D = 2, .kind = moba, .S = 64, .K = 2},
                    draw<float>(2 * T, 1), draw<float>(2 * T, 2));
    const std::vector<std::string> tokens(T, "n");
    InspectPage page({"m", {"moba:rope"}, tokens, tokens, 1498, 5, "v1", 0.5, true});
    page.add(view_head(view.v, 0, 0));
    const std::string html = page.html();
    EXPECT_NE(html.find("queries one in 3 is drawn"), std::string::npos);
    EXPECT_NE(html.find("\"queries\":[1,4,7,"), std::string::npos) << "1498 is one of them";
    EXPECT_EQ(count(html, "class=\"ring\""), 2);
    EXPECT_NE(html.find(" tokens]</em>"), std::string::npos) << "the prompt is cut";
}

// The lists of a query may go as soon as it has been seen; what is drawn stays the same.
TEST(InspectPage, OfQueriesThatAreReleased) {
    const int T = 1500;
    const View view({.lengths = {T}, .H = 1, .G = 1, .D = 9, .kind = moba, .S = 64, .K = 2},
                    draw<float>(9 * T, 1), draw<float>(9 * T, 2));
    const std::vector<std::string> tokens(T, "n");
    const Inspection about{"m", {"moba:rope"}, tokens, tokens, 1498, 5, "v1", 0.5, true};
    const PageRows rows(T, 1498);
    InspectPage whole(about), released(about, rows);
    whole.add(view_head(view.v, 0, 0));
    int next = 0, kept = 0;
    const HeadView v = view_head(view.v, 0, 0, [&](int t, HeadView::Query& q) {
        EXPECT_EQ(t, next++) << "in order";
        EXPECT_EQ(q.full_weights.size(), (size_t)t / 64 + 1);
        if (!rows.draws(t)) { q.release(); }
    });
    for (const HeadView::Query& q : v.queries) { kept += !q.full_weights.empty(); }
    EXPECT_EQ(next, T);
    EXPECT_EQ(kept, T / 3);
    released.add(v);
    EXPECT_EQ(released.html(), whole.html());
}

// The page of a long prompt has fewer rows, so that it stays small enough for a browser; that is known before
// anything is computed.
TEST(InspectPage, FewerRowsForManyColumns) {
    EXPECT_EQ(PageRows(65536, -1, 64).step(), 128) << "512 rows";
    const int T = 8000, S = 2, heads = 4;
    const View view({.lengths = {T}, .H = 1, .G = 1, .D = 1, .kind = moba, .S = S, .K = 4}, draw<float>(T, 1),
                    draw<float>(T, 2));
    const std::vector<std::string> tokens(T, "n1");
    const PageRows rows(T, -1, (size_t)heads * ceil_div(T, S));
    EXPECT_GT(rows.step(), ceil_div(T, 512));
    InspectPage page({"m", {"moba:rope"}, tokens, tokens}, rows);
    const HeadView head = view_head(view.v, 0, 0);
    for (int i = 0; i < heads; i++) { EXPECT_NO_THROW(page.add(head)); }
    EXPECT_GT(page.html().size(), max_page_bytes / 2) << "as many rows as fit";
    EXPECT_THROW(PageRows(65536, -1, 64 * 4096), Error);
    EXPECT_NO_THROW(PageRows(20, -1, 20000)) << "a short prompt needs few rows";
}

TEST(InspectPage, RefusesToBecomeTooLarge) {
    const int T = 2000;
    const View view({.lengths = {T}, .H = 1, .G = 1, .D = 2, .kind = moba, .S = 2, .K = 2},
                    draw<float>(2 * T, 1), draw<float>(2 * T, 2));
    const std::vector<std::string> tokens(T, "n");
    InspectPage page({"m", {"moba:rope"}, tokens, tokens});
    const HeadView head = view_head(view.v, 0, 0);
    EXPECT_THROW(
        for (int i = 0; i < 8; i++) { page.add(head); }, Error);
}

}  // namespace

}  // namespace moba

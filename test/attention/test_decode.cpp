/* Decoding: the results token by token equal those of one pass over all tokens, and the choice of blocks is
   bitwise that of the gate. */
#include "moba/attention/decode.h"
#include "test/support/attention_case.h"
#include "test/support/model_case.h"

namespace moba {

namespace {

using namespace attention_case;

// Decodes every position of one sequence and compares with attention over the whole sequence in double.
template <class E>
void expect_like_attention(const Case& c) {
    const PackedBatch batch(c.lengths, c.sizes());
    const AttentionShape s = shape_of(c);
    const int T = c.lengths[0];
    const size_t nq = (size_t)T * c.H * c.D, nk = (size_t)T * c.G * c.D;
    const auto q = draw<E>(nq, 1), k = draw<E>(nk, 2), v = draw<E>(nk, 3);
    // the choice is made in E, because near ties may be decided differently in double
    const auto dq = as<double>(q), dk = as<double>(k), dv = as<double>(v);
    Choice choice;
    if (c.kind == moba) {
        choice.chosen.resize(routing_slots(T, c.sizes(), s.gate));
        choice.list.resize(choice.chosen.size());
        choice.start.resize(routing_starts(T, 1, c.sizes(), s.gate));
        Workspace work(gate_workspace_bytes_cpu<E>(T, 1, c.sizes(), s.gate));
        gate_forward_cpu<E>(work.ctx, choice.routing(), q.data(), k.data(), batch.seqs, s.gate);
        gate_lists_cpu(work.ctx, choice.routing(), batch.seqs, s.gate);
    }
    std::vector<double> want(nq), lse((size_t)c.H * T);
    Workspace naive(naive_attention_workspace_bytes<double>(T, s), 1);
    attention_forward_cpu<double>(naive.ctx, want.data(), lse.data(), dq.data(), dk.data(), dv.data(),
                                  choice.routing(), batch.seqs, s);

    const CacheShape shape{T + 3, c.G, c.D, c.sizes(), c.gate};
    const int row = c.G * c.D;
    Guarded<E> k_cache((size_t)shape.capacity * row), v_cache((size_t)shape.capacity * row);
    Guarded<acc_t<E>> means(shape.first_mean(c.G));
    std::vector<E> got;
    for (int t = 0; t < T;) {
        const int count = t == 0 ? std::min(T, 20) : 1;  // the first tokens together, as a prompt
        cache_rows_cpu<E>({}, k_cache.data(), k.data() + (size_t)t * row, &t, count, row);
        cache_rows_cpu<E>({}, v_cache.data(), v.data() + (size_t)t * row, &t, count, row);
        cache_means_cpu<E>({}, means.data(), k_cache.data(), &t, count, shape);
        t += count;
        const int position = t - 1;
        Guarded<E> out((size_t)c.H * c.D);
        Workspace work(decode_workspace_bytes_cpu<E>(shape, s));
        const size_t at = (size_t)(t - 1) * c.H * c.D;
        decode_attention_cpu<E>(work.ctx, out.data(), q.data() + at, k_cache.data(), v_cache.data(),
                                means.data(), &position, t, shape, s);
        EXPECT_TRUE(out.intact() && work.intact());
        const std::vector<double> expected(&want[at], &want[at] + c.H * c.D);
        expect_error(std::string("decode ") + type_name<E>(), error_of(out.values(), expected),
                     allowed<E>(8e-7, 1.6e-2));
    }
    EXPECT_TRUE(k_cache.intact() && v_cache.intact() && means.intact());
}

TEST(Decode, LikeAttention) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        for (const Case& c : {
                 Case{{1}, 1, 1, 16, full},
                 {{70}, 4, 2, 16, full},
                 {{1100}, 2, 1, 16, full},  // two pieces
                 {{70}, 4, 2, 18, window, 7},
                 {{70}, 2, 2, 16, window, 1},
                 {{150}, 4, 2, 16, moba},
                 {{150}, 4, 2, 16, moba, 0, 16, 1},
                 {{150}, 4, 2, 16, moba, 0, 16, 10},  // all blocks
                 {{150}, 4, 2, 16, moba, 0, 32, 2, 2},
                 {{150}, 2, 1, 16, moba, 0, 16, 4, 1, Gate::recent},
                 {{150}, 2, 1, 16, moba, 0, 16, 4, 1, Gate::sink},
                 {{150}, 2, 1, 16, moba, 0, 4, 5, 1, Gate::max},
                 {{150}, 4, 2, 16, moba, 0, 8, 3, 1, Gate::lse},
                 {{150}, 4, 2, 16, moba, 0, 32, 2, 2, Gate::lse},
                 {{150}, 4, 2, 16, moba, 0, 16, 3, 1, Gate::topk, 1, true},
                 {{150}, 6, 2, 16, moba, 0, 16, 3, 2, Gate::lse, 1, true},
             }) {
            expect_like_attention<E>(c);
        }
    });
}

// The model with and without the cache, for every layer kind: equal logits.
TEST(Decode, ModelGivesTheSameLogits) {
    using namespace model_case;
    for (const auto& [c, dropout] : variety()) {
        for (int prompt : {1, 3, 17, 40}) {
            const int T = prompt + 30;
            Data d = data({T}, c.vocab_size);
            D whole = make<double>(c, {T}, {});
            const std::vector<double> want = logits(whole, d, false);
            ModelSizes sizes{.max_tokens = prompt, .max_seqs = 1, .max_position = T, .cache_tokens = T};
            D model(c, sizes);
            model.allocate();
            model.init_weights(7);
            model.set_batch(d.tokens.data(), nullptr, {0, prompt}, {});
            model.forward();
            std::vector<double> got;
            for (int t = prompt - 1; t < T; t++) {
                if (t >= prompt) { model.decode(d.tokens[t]); }
                model.read_logits(t < prompt ? t : 0, 1, got);
                const std::vector<double> expected(&want[(size_t)t * c.vocab_size],
                                                   &want[(size_t)(t + 1) * c.vocab_size]);
                expect_error("decoded logits", relative_error(got, expected), 1e-12);
            }
            std::string broken;
            EXPECT_TRUE(model.guards_intact(&broken)) << broken;
        }
    }
}

// The last layer computed for few tokens: the losses of these, and the logits of the tokens that follow.
TEST(Decode, LastLayerOfAskedTokens) {
    using namespace model_case;
    for (const auto& [c, dropout] : variety()) {
        for (const std::vector<int>& asked : {std::vector<int>{69}, {0, 15, 16, 40, 68}}) {
            D whole = make<double>(c, {70}, {}), part = make<double>(c, {70}, {.asked_only = true});
            expect_losses_of(asked, whole, part, data({70}, c.vocab_size), 1e-12);
            std::vector<double> want, got;
            for (size_t i = 0; i < asked.size(); i++) {
                whole.read_logits(asked[i], 1, want), part.read_logits((int)i, 1, got);
                expect_error("logits", relative_error(got, want), 1e-12);
            }
            expect_intact(part);
        }
        Data d = data({70}, c.vocab_size);
        D whole = make<double>(c, {70}, {}),
          model = make<double>(c, {50}, {.max_position = 70, .cache_tokens = 70, .asked_only = true});
        const std::vector<double> want = logits(whole, d, false);
        model.set_batch(d.tokens.data(), nullptr, {0, 50}, {});
        model.forward();
        std::vector<double> got;
        for (int t = 49; t < 70; t++) {
            if (t >= 50) { model.decode(d.tokens[t]); }
            model.read_logits(0, 1, got);
            const auto row = want.begin() + (size_t)t * c.vocab_size;
            const std::vector<double> expected(row, row + c.vocab_size);
            expect_error("decoded logits", relative_error(got, expected), 1e-12);
        }
        expect_intact(model);
    }
}

// MoBA for the prompt and full attention for the tokens after it. Where MoBA selects all blocks, the result
// is that of a model with full attention.
TEST(Decode, OtherAttentionForNewTokens) {
    using namespace model_case;
    Config c = small("moba"), f = small("full");
    const Data d = data({60}, c.vocab_size);
    const auto run = [&](const Config& config, bool switched) {
        D model(config, {.max_tokens = 59, .max_seqs = 1, .max_position = 60, .cache_tokens = 60});
        model.allocate();
        model.init_weights(7);
        if (switched) { model.set_decode_attention(AttentionKind::full); }
        model.set_batch(d.tokens.data(), nullptr, {0, 59}, {});
        model.forward();
        model.decode(d.tokens[59]);
        std::vector<double> got;
        model.read_logits(0, 1, got);
        return got;
    };
    EXPECT_NE(run(c, true), run(c, false));
    EXPECT_EQ(run(f, true), run(f, false));
    c.top_k = f.top_k = 4;  // all blocks, so MoBA equals full attention
    expect_error("decode full", relative_error(run(c, true), run(f, false)), 1e-12);
}

TEST(DecodeDeathTest, CacheIsFull) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    using namespace model_case;
    const Config c = small("moba");
    D model(c, {.max_tokens = 2, .max_seqs = 1, .max_position = 2, .cache_tokens = 2});
    model.allocate();
    const int tokens[] = {1, 2};
    EXPECT_EXIT(model.decode(1), testing::ExitedWithCode(1), "0 tokens in a cache");
    model.set_batch(tokens, nullptr, {0, 2}, {});
    model.forward();
    EXPECT_EXIT(model.decode(1), testing::ExitedWithCode(1), "2 tokens in a cache of 2");
}

}  // namespace

}  // namespace moba

/* The whole model: gradients, and settings that must give equal results. */
#include "test/support/model_case.h"

namespace moba {

namespace {

using namespace model_case;

// The step of the finite differences is so small that no query changes its choice of blocks.
TEST(Model, Gradient) {
    for (const auto& [c, dropout] : variety()) {
        for (int version : {0, 1}) {
            D model = make<double>(
                c, lengths, {.training = true, .dropout = dropout, .attention_kernel_version = version});
            const Data d = data(lengths, c.vocab_size);
            model.zero_gradients();
            pass(model, d, true);
            expect_intact(model);
            for (const ParamInfo& p : model.params()) {
                std::vector<double> w, dw;
                model.read_param(D::Kind::gradient, p, dw);
                model.read_param(D::Kind::weight, p, w);
                const auto f = [&] {
                    model.write_param(D::Kind::weight, p, w);
                    return pass(model, d, false);
                };
                expect_error("gradient of " + p.name, gradient_error(w, dw, f, 12), 1e-7);
                f();
            }
        }
    }
}

// Each loss is stored at the position of its token, even if some targets are ignored.
TEST(Model, LossesByToken) {
    const Config c = small("moba,full");
    const Data d = data(lengths, c.vocab_size);
    D model = make<double>(c, lengths);
    const std::vector<double> z = logits(model, d);
    pass(model, d, false);
    std::vector<double> losses;
    std::vector<int> correct;
    model.read_losses(losses, correct);
    for (int m = 0; m < d.cu.back(); m++) {
        const double* row = &z[(size_t)m * c.vocab_size];
        double sum = 0;
        for (int v = 0; v < c.vocab_size; v++) { sum += std::exp(row[v]); }
        const double want = d.targets[m] == ignored ? 0 : std::log(sum) - row[d.targets[m]];
        ASSERT_NEAR(losses[m], want, 1e-10) << m;
    }
}

// Gradients add up: three micro-batches give the gradient of one large batch.
TEST(Model, MicroBatchesAddUp) {
    for (auto& [c, dropout] : variety()) {
        const std::vector<int> all_lengths{37, 1, 20, 37, 33, 5};
        const Data whole = data(all_lengths, c.vocab_size);
        D model = make<double>(c, all_lengths);
        model.zero_gradients();
        const double loss = pass(model, whole, true);
        const std::vector<double> want = all(model, D::Kind::gradient);
        model.zero_gradients();
        double sum = 0;
        for (int i : {0, 2, 4}) {
            Data part;
            const int b = whole.cu[i], m = whole.cu[i + 1], e = whole.cu[i + 2];
            part.tokens.assign(whole.tokens.begin() + b, whole.tokens.begin() + e);
            part.targets.assign(whole.targets.begin() + b, whole.targets.begin() + e);
            part.cu = {0, m - b, e - b};
            part.scale = whole.scale;
            sum += pass(model, part, true, i / 2);
        }
        expect_error("micro-batches loss", std::fabs(sum / loss - 1), 1e-13);
        expect_error("micro-batches gradient", relative_error(all(model, D::Kind::gradient), want), 1e-12);
        expect_intact(model);
    }
}

TEST(Model, PackedEqualsAlone) {
    for (const auto& [c, dropout] : variety()) {
        const Data d = data(lengths, c.vocab_size);
        D packed = make<double>(c, lengths);
        const std::vector<double> got = logits(packed, d);
        size_t at = 0;
        for (int i = 0; i < 3; i++) {
            Data one;
            one.tokens.assign(d.tokens.begin() + d.cu[i], d.tokens.begin() + d.cu[i + 1]);
            one.targets = one.tokens, one.cu = {0, lengths[i]};
            D alone = make<double>(c, {lengths[i]});
            const std::vector<double> want = logits(alone, one);
            expect_error("packed logits",
                         relative_error(std::vector<double>(&got[at], &got[at] + want.size()), want), 1e-12);
            at += want.size();
        }
    }
}

TEST(Model, EnoughBlocksIsFullAttention) {
    Config c = small("moba"), f = small("full");
    c.top_k = 3;  // 3 blocks of 16 cover all 37 tokens
    const Data d = data(lengths, c.vocab_size);
    D moba = make<double>(c, lengths), full = make<double>(f, lengths);
    moba.zero_gradients(), full.zero_gradients();
    EXPECT_NEAR(pass(moba, d, true), pass(full, d, true), 1e-13);
    expect_error("K S >= T", relative_error(all(moba, D::Kind::gradient), all(full, D::Kind::gradient)),
                 1e-12);
}

// Inference stores the tensors of only one layer; the logits have the same bits.
TEST(Model, InferenceEqualsTraining) {
    for (const auto& [c, dropout] : variety()) {
        const Data d = data(lengths, c.vocab_size);
        D train = make<double>(c, lengths, {.training = true, .dropout = dropout});
        D infer = make<double>(c, lengths, {.training = false, .dropout = dropout});
        EXPECT_EQ(logits(train, d), logits(infer, d, false));
        EXPECT_LT(infer.bytes(), train.bytes());
        expect_intact(infer);
    }
}

// Two steps of two micro-batches each, with activations stored or recomputed: the same bits.
template <class E>
void expect_recompute_same_bits() {
    for (auto [c, dropout] : variety()) {
        const std::vector<LayerKind> kinds = c.layers;
        for (c.num_layers = kinds.size(); c.num_layers < 5; c.num_layers++) {
            c.layers.push_back(kinds[c.num_layers % kinds.size()]);
        }
        const std::vector<int> fewer{20, 33};
        const Data first = data(lengths, c.vocab_size), second = data(fewer, c.vocab_size);
        for (int version : {0, 1}) {
            // clang 14 to 18 need the captures of c and dropout written out
            const auto run = [&, c = c, dropout = dropout](bool recompute) {
                Model<E> model = make<E>(c, lengths,
                                         {.training = true,
                                          .recompute = recompute,
                                          .dropout = std::max(dropout, 0.1f),
                                          .attention_kernel_version = version});
                std::vector<double> results;
                for (uint32_t step : {1, 2}) {
                    model.zero_gradients();
                    results.push_back(pass(model, first, true, 0));
                    results.push_back(pass(model, second, true, 1));
                    for (double g : all(model, Model<E>::Kind::gradient)) { results.push_back(g); }
                    model.update({3, step, 0, 0, 1e-2});
                }
                expect_intact(model);
                return results;
            };
            EXPECT_TRUE(run(true) == run(false)) << type_name<E>() << " " << layer_name(kinds[0]);
        }
    }
}
TEST(Model, RecomputeSameBits) {
    for_all_types([](auto zero) { expect_recompute_same_bits<decltype(zero)>(); });
}

// set_full(): moba layers compute full attention for a time, with the bits of full layers.
TEST(Model, FullAttentionForAStep) {
    for (bool recompute : {false, true}) {
        for (int version : {0, 1}) {
            const ModelSizes sizes{.training = true,
                                   .recompute = recompute,
                                   .attention_kernel_version = version,
                                   .full_too = true};
            Config c = small("window:7,moba", 3), f = small("window:7,full", 3);
            const Data d = data(lengths, c.vocab_size);
            D mixed = make<double>(c, lengths, sizes), moba = make<double>(c, lengths, sizes),
              full = make<double>(f, lengths, sizes);
            const auto run = [&](D& model) {
                model.zero_gradients();
                std::vector<double> results = {pass(model, d, true)};
                for (double g : all(model, D::Kind::gradient)) { results.push_back(g); }
                return results;
            };
            const std::vector<double> of_moba = run(moba), of_full = run(full);
            EXPECT_FALSE(of_moba == of_full);
            for (bool now : {true, false, true, false}) {
                mixed.set_full(now);
                EXPECT_TRUE(run(mixed) == (now ? of_full : of_moba)) << now;
            }
            expect_intact(mixed);
        }
    }
}

// Recomputation in backward() uses the choice of blocks stored in the forward pass: after the test replaces
// it, backward() leaves the replaced choice unchanged.
TEST(Model, RecomputeKeepsTheChoice) {
    const Config c = small("moba", 3);
    const Data d = data(lengths, c.vocab_size);
    D model = make<double>(c, lengths, {.training = true, .recompute = true});
    model.zero_gradients();
    pass(model, d, false);
    const Routing r = model.layer(0).routing;
    GateShape other = c.attention_shape(0).gate;
    const size_t slots = routing_slots(d.cu.back(), {c.block_size}, other);
    const auto chosen = [&] { return std::vector<int>(r.chosen, r.chosen + slots); };
    const std::vector<int> scored = chosen();
    other.rule = Gate::recent;
    Workspace work(gate_workspace_bytes_cpu<double>(d.cu.back(), (int)lengths.size(), {c.block_size}, other));
    gate_forward_cpu<double>(work.ctx, r, model.layer(0).q, model.layer(0).k, model.sequences(), other);
    gate_lists_cpu(work.ctx, r, model.sequences(), other);
    const std::vector<int> recent = chosen();
    EXPECT_NE(recent, scored);
    model.loss(Pass::training);
    model.backward();
    EXPECT_EQ(chosen(), recent);
}

// A model planned for a larger batch gives the same bits for a smaller one.
TEST(Model, LargerPlanSameBits) {
    const Config c = variety()[2].first;
    const Data d = data(lengths, c.vocab_size);
    D tight = make<double>(c, lengths);
    D wide =
        make<double>(c, lengths, {.max_tokens = 900, .max_seqs = 9, .max_position = 2000, .training = true});
    for (D* m : {&tight, &wide}) { m->zero_gradients(), pass(*m, d, true); }
    EXPECT_EQ(all(tight, D::Kind::gradient), all(wide, D::Kind::gradient));
    expect_intact(wide);
}

template <class E>
void expect_close(double loss_tolerance, double gradient) {
    for (const auto& [c, dropout] : variety()) {
        const Data d = data(lengths, c.vocab_size);
        Model<E> low = make<E>(c, lengths, {.training = true, .dropout = dropout});
        D model = make<double>(c, lengths, {.training = true, .dropout = dropout});
        low.zero_gradients(), model.zero_gradients();
        const double got = pass(low, d, true), want = pass(model, d, true);
        expect_error(std::string("model loss ") + type_name<E>(), std::fabs(got / want - 1), loss_tolerance);
        std::vector<acc_t<E>> dw;
        std::vector<double> exact;
        for (const ParamInfo& p : model.params()) {
            low.read_param(Model<E>::Kind::gradient, p, dw), model.read_param(D::Kind::gradient, p, exact);
            expect_error(std::string("model gradient ") + type_name<E>(), relative_error(dw, exact),
                         gradient);
        }
        expect_intact(low);
    }
}
TEST(Model, Fp32IsCloseToDouble) { expect_close<float>(7e-8, 2.8e-6); }
TEST(Model, Bf16IsCloseToDouble) { expect_close<bf16>(1.5e-3, 0.08); }

// Two whole steps, weights included: the same bits for any number of threads, and again for the same seed.
TEST(Model, SameBitsOnThreads) {
    Config c = variety()[2].first;
    c.hidden_size = 40, c.head_dim = 18, c.intermediate_size = 150;
    const Data d = data({300, 1, 250, 77}, c.vocab_size);
    const auto run = [&] {
        Model<float> model = make<float>(c, {300, 1, 250, 77}, {.training = true, .dropout = 0.1f});
        for (uint32_t step : {1, 2}) {
            model.zero_gradients();
            for (uint32_t micro_batch : {0, 1}) { pass(model, d, true, micro_batch); }
            model.update({3, step, 0, 0, 1e-2});
        }
        return bits(all(model, Model<float>::Kind::weight), all(model, Model<float>::Kind::gradient));
    };
    expect_same_bits_on_threads(run);
    EXPECT_TRUE(run() == run());
}

}  // namespace

}  // namespace moba

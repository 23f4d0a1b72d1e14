/* The model's weights and memory: initial values, what an update changes, and what the model reports about
   itself. */
#include "test/support/model_case.h"

namespace moba {

namespace {

using namespace model_case;

TEST(Model, InitialWeights) {
    Config c = small("moba");
    c.vocab_size = 2000, c.key_conv = 3;
    Model<float> model = make<float>(c, {16}), again = make<float>(c, {16});
    Model<bf16> low = make<bf16>(c, {16});
    using F = Model<float>;
    EXPECT_EQ(all(model, F::Kind::weight), all(again, F::Kind::weight));
    EXPECT_EQ(all(model, F::Kind::weight), all(low, Model<bf16>::Kind::weight));  // master weights are fp32
    again.init_weights(8);
    EXPECT_NE(all(model, F::Kind::weight), all(again, F::Kind::weight));
    std::vector<float> w;
    for (const ParamInfo& p : model.params()) {
        model.read_param(F::Kind::weight, p, w);
        const double most = max_abs(w.data(), w.size()), bound = 1 / std::sqrt((double)p.shape.back());
        if (p.init == Init::ones) {
            EXPECT_TRUE(std::all_of(w.begin(), w.end(), [](float x) { return x == 1; }));
        }
        if (p.init == Init::uniform) { EXPECT_TRUE(most <= bound && most > 0.8 * bound) << p.name; }
        if (p.init == Init::embedding) {
            EXPECT_NEAR(std::sqrt(inner(w, w) / w.size()), c.embedding_std, 0.01);
        }
    }
    // by hand: embedding and head 2000*10 each; a layer: norms 2*10, q and o 2*120, k and v 2*60, convolution
    // 6*3, MLP 3*140
    EXPECT_EQ(model.num_parameters(), 2u * 20000 + 2 * (20 + 240 + 120 + 18 + 420) + 10);
}

// No weight decay for the norms; a separate learning rate for the embedding.
TEST(Model, DecayAndEmbeddingRate) {
    for (bool tied : {false, true}) {
        Config c = small("moba");
        c.tie_word_embeddings = tied;
        D model = make<double>(c, {16});
        const std::vector<double> before = all(model, D::Kind::weight);
        model.set_optimizer({.weight_decay = 0.5, .embedding_lr_factor = 3});
        model.zero_gradients();
        model.update({0, 1, 0, 0, 0.25});
        EXPECT_EQ(model.gradient_norm(), 0);
        const std::vector<double> after = all(model, D::Kind::weight);
        size_t i = 0;
        for (const ParamInfo& p : model.params()) {
            const bool norm = p.name.find("norm") != std::string::npos,
                       embed = p.name == "model.embed_tokens.weight";
            const double factor = norm ? 1 : 1 - 0.25 * 0.5 * (embed ? 3 : 1);
            for (size_t e = i + p.count; i < e; i++) {
                ASSERT_NEAR(after[i], before[i] * factor, 1e-14) << p.name;
            }
        }
    }
}

TEST(Model, GradientNormNotFiniteChangesNothing) {
    Model<float> model = make<float>(small("moba"), {16});
    using F = Model<float>;
    const std::vector<double> before = all(model, F::Kind::weight);
    model.zero_gradients();
    const ParamInfo& p = model.params()[4];
    std::vector<float> g(p.count, 1.f);
    g[3] = NAN;
    model.write_param(F::Kind::gradient, p, g);
    EXPECT_EQ(model.first_not_finite(), "gradient of " + p.name);
    model.update(state);
    EXPECT_TRUE(std::isnan(model.gradient_norm()));
    EXPECT_EQ(all(model, F::Kind::weight), before);
    EXPECT_EQ(all(model, F::Kind::moment1), std::vector<double>(before.size()));
}

// first_not_finite() names the source of the problem: a weight, or else the first activation.
TEST(Model, FirstNotFinite) {
    const Config c = small("moba,full", 3);
    const Data d = data(lengths, c.vocab_size);
    for (const char* name : {"model.layers.1.mlp.up_proj.weight", "model.norm.weight"}) {
        Model<float> model = make<float>(c, lengths);
        for (const ParamInfo& p : model.params()) {
            if (p.name != name) { continue; }
            std::vector<float> w(p.count, 0.1f);
            w.back() = NAN;
            model.write_param(Model<float>::Kind::weight, p, w);
        }
        logits(model, d);
        EXPECT_EQ(model.first_not_finite(), std::string("weight ") + name);
    }
    for (bool recompute : {false, true}) {
        Model<float> model = make<float>(c, lengths, {.training = true, .recompute = recompute});
        for (const ParamInfo& p : model.params()) {  // finite weights whose product is not finite
            if (p.name.find("layers.1.mlp.up") == std::string::npos &&
                p.name.find("layers.1.mlp.down") == std::string::npos) {
                continue;
            }
            model.write_param(Model<float>::Kind::weight, p, std::vector<float>(p.count, 1e30f));
        }
        logits(model, d);
        EXPECT_EQ(model.first_not_finite(), "activation layers.1.out");
    }
}

TEST(Model, GuardsNameTheTensor) {
    Model<float> model = make<float>(small("moba"), lengths);
    std::string broken;
    EXPECT_TRUE(model.guards_intact(&broken));
    // 58 tokens of 2 heads of 6: the first element after the end
    model.layer(1).attn[58 * 12] = 1;
    EXPECT_FALSE(model.guards_intact(&broken));
    EXPECT_EQ(broken, "layers.1.attention");
}

// The memory of every list is known before anything is allocated, and allocation does not change it.
TEST(Model, MemoryByList) {
    const Config c = variety()[2].first;
    Model<bf16> plan(c, {.max_tokens = 100, .max_seqs = 3, .max_position = 50, .training = true});
    const size_t bytes = plan.bytes();
    std::vector<std::string> names;
    size_t sum = 0;
    for (const auto& l : plan.lists()) { names.push_back(l.name), sum += l.bytes; }
    EXPECT_EQ(sum, bytes);
    EXPECT_EQ(names, (std::vector<std::string>{"weights", "gradients", "AdamW moments", "activations",
                                               "activation gradients", "index tables", "workspace"}));
    plan.allocate();
    EXPECT_EQ(plan.bytes(), bytes);
}

// With recompute the layers share all activations except their input and routing: with 8 layers less than a
// third of the memory is needed.
TEST(Model, MemoryWithRecompute) {
    const auto activations = [](int num_layers, bool recompute, size_t* rest) {
        Config c = small("moba", num_layers);
        c.hidden_size = 128, c.head_dim = 64, c.num_kv_heads = 2, c.intermediate_size = 256;
        const Model<float> plan(c, {.max_tokens = 2048,
                                    .max_seqs = 2,
                                    .max_position = 1024,
                                    .training = true,
                                    .recompute = recompute});
        size_t bytes = 0;
        *rest = plan.bytes();
        for (const auto& l : plan.lists()) {
            if (l.name == "activations") { bytes = l.bytes, *rest -= l.bytes; }
        }
        return (double)bytes;
    };
    size_t rest, rest_again;
    const double stored = activations(8, false, &rest), recomputed = activations(8, true, &rest_again);
    EXPECT_LT(recomputed, stored / 3);
    EXPECT_EQ(rest, rest_again);
    // by hand, for each token of one more layer: x of 128 floats, and for H = 2 heads with K = 2 slots the
    // chosen blocks and list entries; list starts and guards are the rest
    const double more = activations(9, true, &rest) - recomputed;
    EXPECT_NEAR(more / 2048, 4 * 128 + 2 * 4 * 2 * 2, 2);
}

// A vocabulary so large that logits are computed in chunks of 64 tokens: losses and gradients equal those of
// two smaller batches.
TEST(Model, LogitsInChunks) {
    Config c = small("full", 1);
    c.vocab_size = 150000, c.hidden_size = 4;
    const std::vector<int> two{50, 50};
    const Data d = data(two, c.vocab_size);
    D chunked = make<double>(c, two), small_batch = make<double>(c, {50});
    chunked.zero_gradients(), small_batch.zero_gradients();
    const double want = pass(chunked, d, true);
    double sum = 0;
    for (int i : {0, 1}) {
        Data part{{d.tokens.begin() + 50 * i, d.tokens.begin() + 50 * (i + 1)},
                  {d.targets.begin() + 50 * i, d.targets.begin() + 50 * (i + 1)},
                  {0, 50},
                  d.scale};
        sum += pass(small_batch, part, true);
    }
    EXPECT_NEAR(sum, want, 1e-12);
    expect_error("chunks",
                 relative_error(all(small_batch, D::Kind::gradient), all(chunked, D::Kind::gradient)), 1e-12);
    std::vector<double> some, whole;
    chunked.read_logits(0, 100, whole), chunked.read_logits(60, 30, some);
    EXPECT_EQ(std::vector<double>(whole.begin() + 60l * c.vocab_size, whole.begin() + 90l * c.vocab_size),
              some);
    expect_intact(chunked);
}

// No row of the tables of operations is empty: compilers only warn about a missing initialiser.
TEST(Ops, EveryRowIsFilled) {
    expect_filled<double>(Device::cpu), expect_filled<float>(Device::cpu), expect_filled<bf16>(Device::cpu);
}

}  // namespace

}  // namespace moba

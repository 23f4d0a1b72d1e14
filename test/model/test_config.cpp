#include "moba/config.h"
#include "test/support/packed_batch.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;

Config small() {
    Config c;
    c.vocab_size = 100;
    c.num_heads = 4;
    c.num_kv_heads = 2;
    c.layers = parse_layers("moba", c.num_layers);
    return c;
}

// The message of the Error that f() throws; "" if it throws none.
template <class F>
std::string error_of(F f) {
    try {
        f();
        return "";
    } catch (const Error& e) { return e.what(); }
}

TEST(Config, DefaultsAreValid) {
    EXPECT_EQ(error_of([] { validate(small()); }), "");
}

// Every setting that is out of range is refused, in one line that starts with the name of the setting.
TEST(Config, RefusesWhatIsOutOfRange) {
    struct Case {
        const char* says;
        void (*spoil)(Config&);
    };
    const Case cases[] = {
        {"vocab_size = 0", [](Config& c) { c.vocab_size = 0; }},
        {"hidden_size = -1", [](Config& c) { c.hidden_size = -1; }},
        {"num_layers = 0", [](Config& c) { c.num_layers = 0; }},
        {"num_heads = 0", [](Config& c) { c.num_heads = 0; }},
        {"num_kv_heads = 0", [](Config& c) { c.num_kv_heads = 0; }},
        {"num_kv_heads = 5", [](Config& c) { c.num_kv_heads = 5; }},
        {"num_heads = 4: must be a multiple of num_kv_heads = 3", [](Config& c) { c.num_kv_heads = 3; }},
        {"head_dim = 0", [](Config& c) { c.head_dim = 0; }},
        {"head_dim = 7: must be even", [](Config& c) { c.head_dim = 7; }},
        {"intermediate_size = 0", [](Config& c) { c.intermediate_size = 0; }},
        {"max_position_embeddings = 0", [](Config& c) { c.max_position_embeddings = 0; }},
        {"rms_norm_eps = nan", [](Config& c) { c.rms_norm_eps = NAN; }},
        {"rms_norm_eps = 0", [](Config& c) { c.rms_norm_eps = 0; }},
        {"rope_theta = inf", [](Config& c) { c.rope_theta = INFINITY; }},
        {"rope_scaling factor = 0", [](Config& c) { c.rope_scaling.factor = 0; }},
        {"embedding_std = 0", [](Config& c) { c.embedding_std = 0; }},
        {"block_size = 2", [](Config& c) { c.block_size = 2; }},
        {"block_size = 18: must be a multiple of 4", [](Config& c) { c.block_size = 18; }},
        {"top_k = 0", [](Config& c) { c.top_k = 0; }},
        {"top_k = 65", [](Config& c) { c.top_k = 65; }},
        {"num_blocks = 0", [](Config& c) { c.num_block_sizes = 0; }},
        {"num_blocks = 5", [](Config& c) { c.num_block_sizes = 5; }},
        {"num_blocks = 4: block_size = 16", [](Config& c) { c.num_block_sizes = 4; }},
        {"num_blocks = 3: block_size = 40", [](Config& c) { c.num_block_sizes = 3, c.block_size = 40; }},
        {"num_blocks = 3: top_k", [](Config& c) { c.num_block_sizes = 3, c.block_size = 64, c.top_k = 17; }},
        {"key_conv = 4", [](Config& c) { c.key_conv = 4; }},
        {"layers: 1 kinds for 2 layers", [](Config& c) { c.layers.pop_back(); }},
        {"layers: window:0",
         [](Config& c) {
             c.layers[1] = {AttentionKind::window, Position::rope, 0};
         }},
    };
    for (const Case& x : cases) {
        Config c = small();
        x.spoil(c);
        const std::string message = error_of([&] { validate(c); });
        EXPECT_EQ(message.rfind(x.says, 0), 0u) << "'" << message << "' for " << x.says;
        EXPECT_EQ(message.find('\n'), std::string::npos);
    }
    Config c = small();  // the largest allowed values
    c.num_block_sizes = 3, c.block_size = 64, c.top_k = 16;
    EXPECT_EQ(error_of([&] { validate(c); }), "");
}

TEST(Config, ParsesLayers) {
    using enum AttentionKind;
    const std::vector<LayerKind> five = parse_layers("moba,full:none,window:64:rope,window:7", 5);
    EXPECT_EQ(five, (std::vector<LayerKind>{{moba, Position::rope, 0},
                                            {full, Position::none, 0},
                                            {window, Position::rope, 64},
                                            {window, Position::rope, 7},
                                            {moba, Position::rope, 0}}));
    for (const LayerKind& k : five) { EXPECT_EQ(parse_layers(layer_name(k), 1)[0], k); }
    EXPECT_EQ(layer_name(five[2]), "window:64:rope");
    Config c;
    c.layers = parse_layers("window:64:rope,moba:none,moba:none,moba:none", 5);
    EXPECT_EQ(layer_summary(c), "window:64:rope, 3 x moba:none, window:64:rope");
    for (const char* bad :
         {"", "mob", "moba:", "moba:rope:", "moba:x", "full,", "window", "window:", "window:x", "window:-1",
          "window:1:rope:none", "window:9999999999", " moba", "moba;full", "full:64"}) {
        // with one layer: kinds after the last layer are checked too
        EXPECT_NE(error_of([&] { parse_layers(bad, 1); }), "") << bad;
    }
    for (Gate g : {Gate::topk, Gate::max, Gate::lse, Gate::recent, Gate::sink}) {
        EXPECT_EQ(parse_gate(gate_name(g)), g);
    }
    EXPECT_EQ(error_of([] { parse_gate("top"); }), "gate = 'top': must be topk, max, lse, recent or sink");
}

TEST(Config, JsonBothWays) {
    Config c = small();
    c.layers = parse_layers("window:48:none,moba", 2);
    c.block_size = 64, c.top_k = 5, c.gate = Gate::sink, c.key_conv = 5, c.num_block_sizes = 2,
    c.shared_gate = true, c.embedding_std = 0.25;
    c.rope_theta = 123456.5, c.rope_scaling = {RopeType::linear, 4}, c.rms_norm_eps = 1e-6,
    c.tie_word_embeddings = true;
    c.head_dim = 24, c.hidden_size = 100, c.intermediate_size = 77, c.max_position_embeddings = 12345;
    const json j = config_to_json(c);
    const json text = json::parse(j.dump());  // through text, as in a file
    const Config back = config_from_json(text, "x.json");
    EXPECT_EQ(config_to_json(back), j);
    EXPECT_EQ(back.layers, c.layers);
    EXPECT_EQ(back.top_k, 5);
    EXPECT_EQ(back.rope_scaling, c.rope_scaling);
    EXPECT_EQ(back.rope_theta, 123456.5);
    EXPECT_TRUE(back.tie_word_embeddings);
    EXPECT_EQ(j["model_type"], "moba");
    EXPECT_EQ(config_to_json(small())["model_type"], "llama");
}

// The frequencies of Llama 3.1 as transformers 5 computes them (theta 500000, D = 128, factor 8, low and high
// frequency factors 1 and 4, 8192 original positions).
TEST(Config, Llama3Frequencies) {
    Config c = small();
    c.head_dim = 128, c.rope_theta = 500000, c.rope_scaling = parse_rope_scaling("llama3:8:1:4:8192");
    const std::vector<double> f = c.rope_frequencies();
    const double plain[] = {1, std::pow(500000, -2.0 * 20 / 128)};
    EXPECT_DOUBLE_EQ(f[0], plain[0]) << "high frequencies do not change";
    EXPECT_DOUBLE_EQ(f[20], plain[1]);
    EXPECT_DOUBLE_EQ(f[63], std::pow(500000, -2.0 * 63 / 128) / 8) << "low frequencies are divided";
    const double x = std::pow(500000, -2.0 * 30 / 128), waves = 8192 * x / (2 * M_PI), keep = (waves - 1) / 3;
    EXPECT_TRUE(keep > 0 && keep < 1);
    EXPECT_DOUBLE_EQ(f[30], keep * x + (1 - keep) * x / 8);
    EXPECT_EQ(rope_scaling_name(c.rope_scaling), "llama3:8:1:4:8192");
    EXPECT_EQ(config_from_json(config_to_json(c), "x").rope_scaling, c.rope_scaling);
    EXPECT_THROW(parse_rope_scaling("llama3:8"), Error);
}

// As transformers 5 computes them (D = 16, theta 10000, factor 4, 64 original positions).
TEST(Config, YarnFrequencies) {
    Config c = small();
    c.head_dim = 16, c.rope_theta = 10000, c.rope_scaling = parse_rope_scaling("yarn:4:64");
    const double there[] = {1,      0.23717081546783447,   0.04999999701976776,   0.007905694656074047,
                            0.0025, 0.0007905694656074047, 0.0002500000118743628, 7.905694656074047e-05};
    const std::vector<double> f = c.rope_frequencies();
    for (int i = 0; i < 8; i++) { EXPECT_NEAR(f[i], there[i], 1e-7 * there[i]) << i; }
    EXPECT_NEAR(c.rope_length(), 1.138629436111989, 1e-15);
    EXPECT_EQ(rope_scaling_name(c.rope_scaling), "yarn:4:64");
    json j = config_to_json(c);
    EXPECT_EQ(config_from_json(j, "x").rope_scaling, c.rope_scaling);
    j["rope_scaling"]["attention_factor"] = c.rope_length();
    EXPECT_EQ(config_from_json(j, "x").rope_scaling, c.rope_scaling);
    j["rope_scaling"]["beta_fast"] = 16;
    EXPECT_NE(error_of([&] { config_from_json(j, "x"); }).find("rope_scaling.beta_fast"), std::string::npos);
    EXPECT_THROW(parse_rope_scaling("yarn:4"), Error);
    EXPECT_THROW(parse_rope_scaling("yarn:4:x"), Error);
}

// A Llama from elsewhere: it has no key `moba`, and several keys are missing.
TEST(Config, ReadsLlama) {
    const json j = {{"vocab_size", 100},       {"hidden_size", 64},
                    {"num_hidden_layers", 3},  {"num_attention_heads", 4},
                    {"intermediate_size", 96}, {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}};
    const Config c = config_from_json(j, "x.json");
    EXPECT_EQ(c.num_kv_heads, 4);
    EXPECT_EQ(c.head_dim, 16);
    EXPECT_EQ(c.rope_scaling.factor, 2);
    EXPECT_EQ(c.layers, parse_layers("full:rope", 3));
    EXPECT_TRUE(c.is_plain_llama());
}

TEST(Config, RefusesBadJson) {
    struct Case {
        const char* says;
        json change;
    };
    const Case cases[] = {
        {"'vocab_size' is missing", {{"vocab_size", nullptr}}},
        {"'hidden_size' has the wrong type or size: \"64\"", {{"hidden_size", "64"}}},
        {"'hidden_size' has the wrong type or size: 64.5", {{"hidden_size", 64.5}}},
        {"'hidden_size' has the wrong type or size: 9999999999", {{"hidden_size", 9999999999}}},
        {"num_attention_heads = 0", {{"num_attention_heads", 0}}},
        {"'rms_norm_eps' has the wrong type", {{"rms_norm_eps", "small"}}},
        {"'tie_word_embeddings' has the wrong type", {{"tie_word_embeddings", 1}}},
        {"hidden_act", {{"hidden_act", "gelu"}}},
        {"attention_bias", {{"attention_bias", true}}},
        {"type 'dynamic' is not supported", {{"rope_parameters", {{"rope_type", "dynamic"}}}}},
        {"'factor' is missing", {{"rope_parameters", {{"rope_type", "yarn"}}}}},
        {"'low_freq_factor' is missing", {{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 8}}}}},
        {"high_freq_factor must be greater",
         {{"rope_parameters",
           {{"rope_type", "llama3"},
            {"factor", 8},
            {"low_freq_factor", 4},
            {"high_freq_factor", 4},
            {"original_max_position_embeddings", 8192}}}}},
        {"partial_rotary_factor",
         {{"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}}}},
        {"model_type 'mistral' is not supported", {{"model_type", "mistral"}}},
        {"architecture \"QwenForCausalLM\" is not supported", {{"architectures", {"QwenForCausalLM"}}}},
        {"'rope_parameters' must be an object", {{"rope_parameters", 3}}},
        {"'factor' is missing", {{"rope_parameters", {{"rope_type", "linear"}}}}},
        {"'moba' must be an object", {{"moba", 1}}},
        {"'moba.layers' must be a list", {{"moba", {{"layers", "moba"}}}}},
        {"'moba.layers' must hold strings", {{"moba", {{"layers", {1, 2}}}}}},
        {"'block_size' is missing", {{"moba", {{"layers", {"moba", "moba"}}}}}},
    };
    for (const Case& x : cases) {
        json j = config_to_json(small());
        j.update(x.change);
        const std::string message = error_of([&] { config_from_json(j, "x.json"); });
        EXPECT_EQ(message.rfind("x.json: ", 0), 0u) << message;
        EXPECT_NE(message.find(x.says), std::string::npos) << "'" << message << "' for " << x.says;
    }
    EXPECT_NE(error_of([] { config_from_json(json::array(), "x.json"); }), "");
    json j = config_to_json(small());
    // fewer than num_hidden_layers: validate() finds it, and the message names the file
    j["moba"]["layers"] = {"moba"};
    EXPECT_EQ(error_of([&] { config_from_json(j, "x.json"); }).rfind("x.json: layers: 1 kinds", 0), 0u);
}

// T = 5, S = 16: nothing is left out. T = 64, K = 2: each of 4 * 16 queries sees its own block up to itself
// (136 pairs for each block), and 3 * 16 of them see one block of 16 more.
TEST(Config, Sparsity) {
    Config c = small();
    c.top_k = 2;
    EXPECT_EQ(c.sparsity(5), 0);
    EXPECT_NEAR(c.sparsity(64), 1 - (4 * 136 + 48 * 16) / 2080.0, 1e-12);
    c.top_k = 4;
    EXPECT_NEAR(c.sparsity(64), 0, 1e-12);
    c.top_k = 2;
    c.layers = parse_layers("moba,full,window:3,full", 4);
    EXPECT_NEAR(c.sparsity(40),
                ((1 - (136 + (16 * 16 + 136) + (8 * 16 + 36)) / 820.0) + (1 - (1 + 2 + 38 * 3) / 820.0)) / 4,
                1e-12);
}

TEST(Config, AttentionShape) {
    Config c = small();
    c.layers = parse_layers("window:9,moba", 2);
    const AttentionShape s = c.attention_shape(0), m = c.attention_shape(1);
    EXPECT_TRUE(s.kind == AttentionKind::window && s.window == 9 && s.H == 4 && s.G == 2 &&
                s.D == c.head_dim);
    EXPECT_TRUE(m.kind == AttentionKind::moba && m.gate.K == c.top_k && m.gate.H == 4 &&
                m.gate.rule == Gate::topk);
    c.key_conv = 3;
    EXPECT_FALSE(c.has_key_conv(0));
    EXPECT_TRUE(c.has_key_conv(1));
}

}  // namespace

}  // namespace moba

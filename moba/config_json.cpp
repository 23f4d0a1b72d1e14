/* A Config as Hugging Face's config.json, and back. What Hugging Face has no name for is under one key,
   `moba`. */
#include "moba/config.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

static const char* rope_names[] = {"default", "linear", "llama3", "yarn"};

json config_to_json(const Config& c) {
    const bool llama = c.is_plain_llama();
    const RopeScaling& r = c.rope_scaling;
    json scaling = {{"rope_type", rope_names[(int)r.type]}};
    if (r.type != RopeType::none) { scaling["factor"] = r.factor; }
    if (r.type == RopeType::llama3) {
        scaling["low_freq_factor"] = r.low_freq_factor;
        scaling["high_freq_factor"] = r.high_freq_factor;
    }
    if (r.type == RopeType::llama3 || r.type == RopeType::yarn) {
        scaling["original_max_position_embeddings"] = r.original_max_position_embeddings;
    }
    // The same twice: transformers 5 reads rope_parameters, older versions rope_theta and rope_scaling.
    json rope = scaling;
    rope["rope_theta"] = c.rope_theta;
    if (r.type == RopeType::none) { scaling = nullptr; }
    return {{"architectures", {llama ? "LlamaForCausalLM" : "MobaForCausalLM"}},
            {"model_type", llama ? "llama" : "moba"},
            {"vocab_size", c.vocab_size},
            {"hidden_size", c.hidden_size},
            {"num_hidden_layers", c.num_layers},
            {"num_attention_heads", c.num_heads},
            {"num_key_value_heads", c.num_kv_heads},
            {"head_dim", c.head_dim},
            {"intermediate_size", c.intermediate_size},
            {"max_position_embeddings", c.max_position_embeddings},
            {"rms_norm_eps", c.rms_norm_eps},
            {"rope_theta", c.rope_theta},
            {"rope_scaling", scaling},
            {"rope_parameters", rope},
            {"tie_word_embeddings", c.tie_word_embeddings},
            {"hidden_act", "silu"},
            {"attention_bias", false},
            {"mlp_bias", false},
            {"attention_dropout", 0.0},
            {"torch_dtype", "float32"},
            {"dtype", "float32"},
            {"bos_token_id", nullptr},
            {"eos_token_id", nullptr},
            {"use_cache", true},
            {"moba",
             {{"layers", layer_names(c)},
              {"block_size", c.block_size},
              {"top_k", c.top_k},
              {"gate", gate_name(c.gate)},
              {"shared_gate", c.shared_gate},
              {"key_conv", c.key_conv},
              {"num_blocks", c.num_block_sizes},
              {"embedding_std", c.embedding_std}}}};
}

// A value of j, or throws with the key and the file. `fallback` null: the key is required.
template <class X>
static X value(const json& j, const char* key, const std::string& where, const X* fallback = nullptr) {
    const auto it = j.find(key);
    if (it == j.end() || it->is_null()) {
        need(fallback, where + ": '" + key + "' is missing");
        return *fallback;
    }
    bool fits = false;
    if constexpr (std::is_same_v<X, bool>) { fits = it->is_boolean(); }
    if constexpr (std::is_same_v<X, std::string>) { fits = it->is_string(); }
    if constexpr (std::is_same_v<X, int>) {
        // a whole number, also one that another program wrote as 128.0
        const double x = it->is_number() ? it->template get<double>() : NAN;
        fits = x >= -2147483648.0 && x <= 2147483647.0 && x == std::floor(x);
    }
    if constexpr (std::is_same_v<X, double>) { fits = it->is_number(); }
    need(fits, where + ": '" + key + "' has the wrong type or size: " + it->dump().substr(0, 60));
    return it->template get<X>();
}
template <class X>
static X value_or(const json& j, const char* key, const std::string& where, X fallback) {
    return value<X>(j, key, where, &fallback);
}

/* The kind of RoPE. Older files have rope_scaling, with the key type, and rope_theta beside it; newer ones
   rope_parameters with rope_theta in it. Where both are there, transformers takes rope_scaling unless it is
   null, and so does this. */
static void read_rope(Config& c, const json& j, const std::string& where) {
    const auto part = [&](const char* key) {
        const json rope = j.value(key, json());
        need(rope.is_object() || rope.is_null(), where + ": '" + key + "' must be an object");
        if (rope.is_null()) { return json::object(); }
        for (const auto& [name, x] : rope.items()) {
            need(!x.is_object(),
                 where + ": " + key + "." + name + ": several kinds of RoPE are not supported");
        }
        const auto given = [&](const char* name) { return !rope.value(name, json()).is_null(); };
        const bool both = given("type") && given("rope_type");
        need(!both || rope["type"] == rope["rope_type"],
             where + ": " + key + ": type and rope_type contradict each other");
        need(given("type") || given("rope_type") || !given("factor"),
             where + ": " + key + " has a factor, but no rope_type");
        return rope;
    };
    const json scaling = part("rope_scaling"), parameters = part("rope_parameters");
    const json& rope = scaling.empty() ? parameters : scaling;
    const char* key = scaling.empty() ? "rope_parameters" : "rope_scaling";

    bool given = false;
    c.rope_theta = 10000;
    for (const json* from : {&j, &parameters, &scaling}) {
        if (!from->contains("rope_theta") || (*from)["rope_theta"].is_null()) { continue; }
        const double theta = value<double>(*from, "rope_theta", where);
        need(!given || theta == c.rope_theta, where + ": 'rope_theta' is there twice, with two values");
        c.rope_theta = theta, given = true;
    }
    for (const json* from : {&j, &parameters, &scaling}) {
        need(value_or(*from, "partial_rotary_factor", where, 1.0) == 1.0,
             where + ": partial_rotary_factor is not supported");
    }
    const std::string type =
        value_or(rope, "rope_type", where, value_or(rope, "type", where, std::string("default")));
    const auto known = std::find(std::begin(rope_names), std::end(rope_names), type);
    need(known != std::end(rope_names),
         where + ": " + key + ": type '" + type +
             "' is not supported (known are default, linear, llama3 and yarn)");
    RopeScaling& r = c.rope_scaling;
    r.type = (RopeType)(known - std::begin(rope_names));
    if (r.type != RopeType::none) { r.factor = value<double>(rope, "factor", where); }
    if (r.type == RopeType::llama3) {
        r.low_freq_factor = value<double>(rope, "low_freq_factor", where);
        r.high_freq_factor = value<double>(rope, "high_freq_factor", where);
        r.original_max_position_embeddings = value<int>(rope, "original_max_position_embeddings", where);
    }
    if (r.type == RopeType::yarn) {
        r.original_max_position_embeddings =
            value_or(rope, "original_max_position_embeddings", where, c.max_position_embeddings);
        for (const auto& [name, usual] :
             {std::pair{"beta_fast", 32.0}, {"beta_slow", 1.0}, {"attention_factor", c.rope_length()}}) {
            need(std::abs(value_or(rope, name, where, usual) - usual) < 1e-6,
                 where + ": " + key + "." + name + ": only the usual value of yarn is supported");
        }
        for (const char* name : {"mscale", "mscale_all_dim", "truncate"}) {
            const json other = rope.value(name, json());
            need(other.is_null() || other == true, where + ": " + key + "." + name + " is not supported");
        }
    }
}

Config config_from_json(const json& j, const std::string& where) {
    need(j.is_object(), where + ": must be a JSON object");
    const std::string type = value_or(j, "model_type", where, std::string("llama"));
    need(type == "llama" || type == "moba",
         where + ": model_type '" + type.substr(0, 60) + "' is not supported, only llama and moba");
    need(type == "llama" || j.contains("moba"), where + ": 'moba' is missing");
    if (const auto a = j.find("architectures"); a != j.end() && a->is_array()) {
        for (const json& name : *a) {
            need(name == "LlamaForCausalLM" || name == "LlamaModel" || name == "MobaForCausalLM",
                 where + ": architecture " + name.dump().substr(0, 60) +
                     " is not supported, only LlamaForCausalLM, LlamaModel and MobaForCausalLM");
        }
    }
    Config c;
    c.vocab_size = value<int>(j, "vocab_size", where);
    c.hidden_size = value<int>(j, "hidden_size", where);
    c.num_layers = value<int>(j, "num_hidden_layers", where);
    c.num_heads = value<int>(j, "num_attention_heads", where);
    c.num_kv_heads = value_or(j, "num_key_value_heads", where, c.num_heads);
    need(c.num_heads >= 1,
         where + ": num_attention_heads = " + std::to_string(c.num_heads) + ": must be at least 1");
    c.head_dim = value_or(j, "head_dim", where, c.hidden_size / c.num_heads);
    c.intermediate_size = value<int>(j, "intermediate_size", where);
    c.max_position_embeddings = value_or(j, "max_position_embeddings", where, 2048);
    c.rms_norm_eps = value_or(j, "rms_norm_eps", where, 1e-6);
    c.tie_word_embeddings = value_or(j, "tie_word_embeddings", where, false);
    const std::string act = value_or(j, "hidden_act", where, std::string("silu"));
    need(act == "silu" || act == "swish", where + ": hidden_act: only silu is known");
    const auto quantized = j.find("quantization_config");
    need(quantized == j.end() || quantized->is_null(),
         where + ": quantization_config: quantized weights are not supported");
    for (const char* bias : {"attention_bias", "mlp_bias"}) {
        need(!value_or(j, bias, where, false), where + ": " + bias + ": biases are not supported");
    }
    read_rope(c, j, where);
    const auto m = j.find("moba");
    if (m == j.end()) {
        c.layers = parse_layers("full:rope", std::clamp(c.num_layers, 1, 1024));
    } else {
        need(m->is_object(), where + ": 'moba' must be an object");
        const auto layers = m->find("layers");
        need(layers != m->end() && layers->is_array() && layers->size() <= 1024,
             where + ": 'moba.layers' must be a list");
        for (const json& l : *layers) {
            need(l.is_string(), where + ": 'moba.layers' must hold strings");
            try {
                c.layers.push_back(parse_layers(l.get<std::string>(), 1)[0]);
            } catch (const Error& e) { throw Error(where + ": " + e.what()); }
        }
        c.block_size = value<int>(*m, "block_size", where);
        c.top_k = value<int>(*m, "top_k", where);
        try {
            c.gate = parse_gate(value_or(*m, "gate", where, std::string("topk")));
        } catch (const Error& e) { throw Error(where + ": " + e.what()); }
        c.shared_gate = value_or(*m, "shared_gate", where, false);
        c.key_conv = value_or(*m, "key_conv", where, 0);
        c.num_block_sizes = value_or(*m, "num_blocks", where, 1);
        c.embedding_std = value_or(*m, "embedding_std", where, 0.02);
    }
    try {
        validate(c);
    } catch (const Error& e) { throw Error(where + ": " + e.what()); }
    return c;
}

}  // namespace moba

#include "train/files/gguf_model.h"
#include <algorithm>
#include <cmath>

namespace moba {

using nlohmann::json;

// Llama 3.1 and later: the file holds by how much each frequency is divided, instead of the rule.
static json llama3_scaling(const Gguf& file, double theta, int head_dim) {
    const std::string name = "rope_freqs.weight";
    const std::vector<float> factors = file.floats(name);
    for (const double factor : {8.0, 32.0}) {
        const double low = 1, high = 4, original = 8192;
        bool same = factors.size() == (size_t)head_dim / 2;
        for (size_t i = 0; same && i < factors.size(); i++) {
            const double wave = 2 * M_PI * std::pow(theta, 2.0 * (double)i / head_dim);
            const double smooth = std::clamp((original / wave - low) / (high - low), 0.0, 1.0);
            const double divided = 1 / (smooth + (1 - smooth) / factor);
            same = std::abs(divided - factors[i]) <= 1e-3 * divided;
        }
        if (same) {
            return {{"rope_type", "llama3"},
                    {"factor", factor},
                    {"low_freq_factor", low},
                    {"high_freq_factor", high},
                    {"original_max_position_embeddings", (int)original}};
        }
    }
    throw Error(file.path() + ": tensor '" + name +
                "': its factors are not those of Llama 3.1 or 3.2, and no "
                "others are supported");
}

json gguf_config(const Gguf& file) {
    const std::string path = file.path(), architecture = file.text("general.architecture");
    need(architecture == "llama",
         path + ": architecture '" + architecture.substr(0, 60) + "' is not supported, only llama");
    const auto optional = [&](const char* key, int otherwise) {
        return file.has(key) ? file.whole(key) : otherwise;
    };
    need(optional("llama.expert_count", 0) == 0,
         path + ": llama.expert_count: a mixture of experts is not supported");
    const int hidden = file.whole("llama.embedding_length"), heads = file.whole("llama.attention.head_count");
    need(heads > 0, path + ": llama.attention.head_count must be at least 1");
    const int head_dim = optional("llama.attention.key_length", hidden / heads);
    need(optional("llama.attention.value_length", head_dim) == head_dim,
         path + ": llama.attention.value_length differs from the key's: not supported");
    need(optional("llama.rope.dimension_count", head_dim) == head_dim,
         path + ": llama.rope.dimension_count: RoPE on a part of a head is not supported");
    for (const auto& [key, usual] : {std::pair{"llama.rope.scaling.attn_factor", 1.0},
                                     {"llama.rope.scaling.yarn_attn_factor", 1.0},
                                     {"llama.rope.scaling.yarn_ext_factor", 1.0},
                                     {"llama.rope.scaling.yarn_beta_fast", 32.0},
                                     {"llama.rope.scaling.yarn_beta_slow", 1.0},
                                     {"llama.rope.scaling.yarn_log_multiplier", 0.0},
                                     {"llama.logit_scale", 1.0},
                                     {"llama.attention.scale", 0.0},
                                     {"llama.attention.sliding_window", 0.0},
                                     {"llama.residual_scale", 1.0},
                                     {"llama.embedding_scale", 1.0}}) {
        need(!file.has(key) || file.number(key) == usual,
             path + ": " + key + ": only the usual value is supported");
    }
    const double theta = file.has("llama.rope.freq_base") ? file.number("llama.rope.freq_base") : 10000;
    json rope = {{"rope_type", "default"}};
    const char* kind = "llama.rope.scaling.type";
    // older files have only a number, under one of two names
    const char* factor =
        file.has("llama.rope.scale_linear") ? "llama.rope.scale_linear" : "llama.rope.scaling.factor";
    const std::string scaling = file.has(kind) ? file.text(kind) : file.has(factor) ? "linear" : "none";
    if (file.tensors().count("rope_freqs.weight")) {
        need(scaling == "none" || (scaling == "linear" && file.has(factor) && file.number(factor) == 1),
             path + ": " + kind + " beside 'rope_freqs.weight' is not supported");
        rope = llama3_scaling(file, theta, head_dim);
    } else if (scaling != "none") {
        rope = {{"rope_type", scaling}, {"factor", file.number(factor)}};
        const char* original = "llama.rope.scaling.original_context_length";
        if (file.has(original)) { rope["original_max_position_embeddings"] = file.whole(original); }
    }
    rope["rope_theta"] = theta;
    const auto vocabulary = file.tensors().find("token_embd.weight");
    need(vocabulary != file.tensors().end(), path + ": tensor 'token_embd.weight' is missing");
    json out = {{"architectures", {"LlamaForCausalLM"}},
                {"model_type", "llama"},
                {"vocab_size", vocabulary->second.shape[0]},
                {"hidden_size", hidden},
                {"num_hidden_layers", file.whole("llama.block_count")},
                {"num_attention_heads", heads},
                {"num_key_value_heads", optional("llama.attention.head_count_kv", heads)},
                {"head_dim", head_dim},
                {"intermediate_size", file.whole("llama.feed_forward_length")},
                {"max_position_embeddings", file.whole("llama.context_length")},
                {"rms_norm_eps", file.number("llama.attention.layer_norm_rms_epsilon")},
                {"rope_parameters", rope},
                {"tie_word_embeddings", file.tensors().count("output.weight") == 0}};
    for (const auto& [key, name] : {std::pair{"bos_token_id", "bos"}, {"eos_token_id", "eos"}}) {
        const std::string id = std::string("tokenizer.ggml.") + name + "_token_id";
        if (file.has(id)) { out[key] = file.whole(id); }
    }
    // the end of a turn of a chat, where it is another token
    if (const char* eot = "tokenizer.ggml.eot_token_id"; file.has(eot) && out.contains("eos_token_id")) {
        out["eos_token_id"] = json::array({out["eos_token_id"], file.whole(eot)});
    }
    return out;
}

std::string gguf_chat_template(const Gguf& file) {
    return file.has("tokenizer.chat_template") ? file.text("tokenizer.chat_template") : "";
}

// -----------------------------------------------------------------------------------------------------------

std::string gguf_name(const std::string& weight) {
    if (weight == "model.embed_tokens.weight") { return "token_embd.weight"; }
    if (weight == "model.norm.weight") { return "output_norm.weight"; }
    if (weight == "lm_head.weight") { return "output.weight"; }
    const std::pair<const char*, const char*> parts[] = {
        {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
        {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"}, {"post_attention_layernorm", "ffn_norm"},
        {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"}};
    const std::string head = "model.layers.";
    if (!weight.starts_with(head)) { return ""; }
    const size_t dot = weight.find('.', head.size());
    for (const auto& [theirs, ours] : parts) {
        if (dot != weight.npos && weight.substr(dot + 1) == std::string(theirs) + ".weight") {
            return "blk." + weight.substr(head.size(), dot - head.size()) + "." + ours + ".weight";
        }
    }
    return "";
}

std::vector<float> gguf_weight(const Gguf& file, const std::string& weight) {
    const std::string name = gguf_name(weight);
    std::vector<float> values = file.floats(name);
    const bool q = name.ends_with(".attn_q.weight"), k = name.ends_with(".attn_k.weight");
    if (!q && !k) { return values; }
    // A head's rows are 0, D/2, 1, D/2 + 1, ... of Hugging Face's.
    const std::vector<size_t>& shape = file.tensors().at(name).shape;
    const char* count = k && file.has("llama.attention.head_count_kv") ? "llama.attention.head_count_kv"
                                                                       : "llama.attention.head_count";
    const size_t heads = (size_t)std::max(1, file.whole(count)), D = shape[0] / heads,
                 row = values.size() / shape[0];
    need(shape.size() == 2 && D * heads == shape[0] && D % 2 == 0,
         file.path() + ": tensor '" + name + "': its rows are not those of whole heads");
    std::vector<float> out(values.size());
    for (size_t r = 0; r < shape[0]; r++) {
        const size_t head = r / D, at = r % D, there = head * D + at % 2 * (D / 2) + at / 2;
        std::copy_n(&values[r * row], row, &out[there * row]);
    }
    return out;
}

}  // namespace moba

#include "train/run/info.h"
#include "train/core/file.h"
#include "train/files/checkpoint.h"
#include "train/options/option_builder.h"
#include "train/run/chat.h"
#include <filesystem>
#include <nlohmann/json.hpp>

namespace moba {

void add_info_options(CLI::App& app, InfoOptions& o) {
    start_options(app);
    add_model_path(app, o.model);
}

using nlohmann::json;

// {"a": 1, "b": "x"} as "a 1, b x"
static std::string plain(const json& object) {
    std::string out;
    for (const auto& [key, v] : object.items()) {
        if (!out.empty()) { out += ", "; }
        out += key + " " + (v.is_string() ? v.get<std::string>() : v.dump());
    }
    return one_line(out);
}

int run_info(const InfoOptions& o) {
    const ModelFolder folder = open_model(o.model);
    const Config& c = folder.config;
    const Model<float> model(c, {.max_tokens = 1, .max_seqs = 1, .max_position = 1});
    std::printf("%s\n", std::filesystem::canonical(folder.path).c_str());
    std::printf("sizes    hidden size %d, %d layers, %d query heads, %d key/value heads, head size %d, "
                "intermediate size %d, vocabulary %d, %s\n",
                c.hidden_size, c.num_layers, c.num_heads, c.num_kv_heads, c.head_dim, c.intermediate_size,
                c.vocab_size,
                c.tie_word_embeddings ? "output layer tied to the embedding" : "separate output layer");
    std::printf("weights  %zu parameters, %zu without the embedding, %s in fp32\n", model.num_parameters(),
                model.num_parameters() - model.params()[0].count,
                readable_bytes(4 * model.num_parameters()).c_str());
    std::printf("layers   %s\n", layer_summary(c).c_str());
    std::printf("moba     block_size %d, top_k %d, gate %s%s, key_conv %d, num_blocks %d\n", c.block_size,
                c.top_k, gate_name(c.gate).c_str(), c.shared_gate ? " shared" : "", c.key_conv,
                c.num_block_sizes);
    const std::string scaling = rope_scaling_name(c.rope_scaling);
    std::printf("rope     theta %g, scaling %s, trained for %d tokens\n", c.rope_theta,
                scaling.empty() ? "none" : scaling.c_str(), c.max_position_embeddings);
    std::printf(
        "format   %s\n",
        c.is_plain_llama()
            ? "LlamaForCausalLM: weights and positions are those of a Llama, which other programs can load"
            : "MobaForCausalLM: only this program can run it");
    if (!folder.task.is_null()) { std::printf("task     %s\n", plain(folder.task).c_str()); }
    if (!folder.data.empty()) {
        json text = folder.data;
        if (text.is_object()) { text.erase("fingerprint"); }
        std::printf("text     %s\n", plain(text).c_str());
    }
    if (!folder.tokenizer.empty()) { std::printf("tokens   %s\n", folder.tokenizer.c_str()); }
    if (!folder.chat_template.empty()) {
        const std::string kind = chat_kind(folder.chat_template);
        std::printf("chat     %s\n", kind.empty() ? "a template that --chat does not support" : kind.c_str());
    }
    if (!folder.origin.is_null()) { std::printf("origin   %s\n", plain(folder.origin).c_str()); }
    return 0;
}

}  // namespace moba

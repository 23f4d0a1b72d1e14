/* Llama folders of transformers 5, written by test/python/transformers_test.py together with the logits that
   transformers computes: every form is read, and damaged folders are refused. */
#include "moba/model.h"
#include "test/support/packed_batch.h"
#include "test/support/program.h"
#include "train/files/checkpoint.h"
#include "train/files/safetensors.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::string root = MOBA_SOURCE_DIR "/test/huggingface/";
const char* names[] = {"llama2_f32", "gqa_tied_bf16", "llama3_f16_shards", "linear_f32"};

// The error of this folder's logits against those computed by transformers.
double error_of_logits(const std::string& path, const std::string& expected) {
    const ModelFolder folder = open_model(path);
    const Safetensors want(expected + "/expected.safetensors");
    const std::vector<int> ids = want.ints("ids");
    const int T = (int)ids.size();
    Model<float> model(folder.config, {.max_tokens = T, .max_seqs = 1, .max_position = T});
    model.allocate();
    load_weights(folder, model);
    model.set_batch(ids.data(), nullptr, {0, T}, {});
    model.forward();
    std::vector<float> logits;
    model.read_logits(0, T, logits);
    return relative_error(logits, want.floats("logits"));
}

TEST(HuggingFace, SameLogits) {
    for (const char* name : names) {
        expect_error(std::string("logits of ") + name, error_of_logits(root + name, root + name), 2e-5);
    }
}

// The form of transformers 4: rope_theta and rope_scaling at the top level, "type" instead of "rope_type".
TEST(HuggingFace, OlderKeys) {
    const TempDir dir;
    for (const char* name : names) {
        fs::copy(root + name, dir / name);
        json j = json::parse(read_text(root + name + "/config.json"));
        json rope = j["rope_parameters"];
        j["rope_theta"] = rope["rope_theta"];
        rope.erase("rope_theta");
        if (rope["rope_type"] == "linear") {
            rope.erase("rope_type");
            rope["type"] = "linear";
        }
        j["rope_scaling"] = rope["rope_type"] == "default" ? json() : rope;
        j.erase("rope_parameters");
        j.erase("head_dim");
        if (std::string(name) == "llama3_f16_shards") { j["head_dim"] = 12; }
        j["torch_dtype"] = j["dtype"];
        j.erase("dtype");
        write_text((dir / name) + "/config.json", j.dump());
        expect_error(std::string("logits of older ") + name, error_of_logits(dir / name, root + name), 2e-5);
    }
}

// Tensors that old checkpoints store in addition to the weights are ignored; unknown tensors are refused.
TEST(HuggingFace, OtherTensorsInTheFile) {
    const TempDir dir;
    const std::string name = "gqa_tied_bf16";
    fs::copy(root + name, dir / name);
    const auto with = [&](const std::string& extra) {
        const Safetensors from(root + name + "/model.safetensors");
        std::vector<TensorSpec> specs;
        for (const auto& [tensor, view] : from.tensors()) {
            specs.push_back({tensor, std::vector<int>(view.shape.begin(), view.shape.end())});
        }
        specs.push_back({extra, {23, 16}});
        write_safetensors(
            dir / (name + "/model.safetensors"), specs, {}, [&](size_t i, std::vector<float>& out) {
                out = i + 1 < specs.size() ? from.floats(specs[i].name) : std::vector<float>(23 * 16);
            });
        return error_of_logits(dir / name, root + name);
    };
    EXPECT_LE(with("lm_head.weight"), 2e-5) << "tied: the embedding counts";
    EXPECT_LE(with("model.layers.0.self_attn.rotary_emb.inv_freq"), 2e-5);
    EXPECT_THROW(with("model.layers.0.self_attn.q_proj.bias"), Error);
    EXPECT_THROW(with("model.layers.2.mlp.up_proj.weight"), Error);
}

TEST(HuggingFace, DamagedShardsAreRefusedInOneLine) {
    const std::string name = "llama3_f16_shards";
    const auto refused = [&](const std::string& says, const auto& damage) {
        const TempDir dir;
        fs::copy(root + name, dir / name);
        const std::string index = dir / (name + "/model.safetensors.index.json");
        json j = json::parse(read_text(index));
        damage(dir / name, j);
        if (!j.is_null()) { write_text(index, j.dump()); }
        const Outcome r = moba_errors("sample --prompt-ids 1 --model " + (dir / name));
        EXPECT_EQ(r.status, 1) << r.out;
        EXPECT_NE(r.out.find(says), std::string::npos) << says << "\n" << r.out;
        EXPECT_EQ(lines(r.out), 1) << r.out;
    };
    const std::string first = "/model-00001-of-00007.safetensors";
    refused("model-00001-of-00007.safetensors", [&](const std::string& d, json&) { fs::remove(d + first); });
    refused("truncated", [&](const std::string& d, json&) { fs::resize_file(d + first, 200); });
    refused("'weight_map' is missing", [](const std::string&, json& j) { j = {{"metadata", 1}}; });
    refused("'weight_map' is missing", [](const std::string&, json& j) { j = {1}; });
    refused("names no file", [](const std::string&, json& j) { j["weight_map"] = json::object(); });
    refused("is not in a file of this folder",
            [](const std::string&, json& j) { j["weight_map"]["lm_head.weight"] = "../../etc/passwd"; });
    refused("is not in a file of this folder",
            [](const std::string&, json& j) { j["weight_map"]["lm_head.weight"] = 7; });
    refused("is in another file too", [&](const std::string& d, json& j) {
        fs::copy(d + first, d + "/model-00008-of-00007.safetensors");
        j["weight_map"]["again"] = "model-00008-of-00007.safetensors";
    });
    refused("is missing", [&](const std::string&, json& j) {
        const std::string gone = j["weight_map"]["lm_head.weight"];
        for (auto it = j["weight_map"].begin(); it != j["weight_map"].end();) {
            it = *it == gone ? j["weight_map"].erase(it) : std::next(it);
        }
    });
    refused("model.safetensors", [](const std::string& d, json& j) {
        fs::remove(d + "/model.safetensors.index.json");
        j = nullptr;
    });
}

}  // namespace

}  // namespace moba

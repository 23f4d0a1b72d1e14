/* Llama folders of transformers 5, written by test/python/transformers_test.py together with the logits that
   transformers computes: every form is read, and damaged folders are refused. */
#include "moba/model.h"
#include "test/support/logits.h"
#include "test/support/packed_batch.h"
#include "test/support/program.h"
#include "train/files/checkpoint.h"
#include "train/files/safetensors.h"
#include <functional>
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::string root = MOBA_SOURCE_DIR "/test/huggingface/";
const char* names[] = {"llama2_f32", "gqa_tied_bf16", "llama3_f16_shards", "linear_f32"};

// The error of this folder's logits against those computed by transformers.
double error_of_logits(const std::string& path, const std::string& expected) {
    const Safetensors want(expected + "/expected.safetensors");
    return relative_error(logits_of(path, want.ints("ids")), want.floats("logits"));
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
    for (const char* table : {"inv_freq", "cos_cached", "sin_cached", "original_inv_freq"}) {
        EXPECT_LE(with(std::string("model.layers.0.self_attn.rotary_emb.") + table), 2e-5);
    }
    EXPECT_LE(with("model.rotary_emb.inv_freq"), 2e-5);
    for (const char* table : {"rope.freqs", "model.rope.freqs", "model.freqs_cis", "freqs_cos",
                              "model.causal_mask", "model.layers.0.self_attn.masked_bias"}) {
        EXPECT_LE(with(table), 2e-5) << table;
    }
    EXPECT_THROW(with("model.layers.0.self_attn.bias"), Error);
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
    refused("model-00001-of-00007.safetensors: is a link to something", [&](const std::string& d, json&) {
        fs::remove(d + first);
        fs::create_symlink("../blobs/0", d + first);
    });
    refused("truncated", [&](const std::string& d, json&) { fs::resize_file(d + first, 200); });
    refused("'weight_map' is missing", [](const std::string&, json& j) { j = {{"metadata", 1}}; });
    refused("'weight_map' is missing", [](const std::string&, json& j) { j = {1}; });
    refused("'weight_map' is empty", [](const std::string&, json& j) { j["weight_map"] = json::object(); });
    refused("must be in a file of this folder",
            [](const std::string&, json& j) { j["weight_map"]["lm_head.weight"] = "../../etc/passwd"; });
    refused("must be in a file of this folder",
            [](const std::string&, json& j) { j["weight_map"]["lm_head.weight"] = 7; });
    refused("is also in another file", [&](const std::string& d, json& j) {
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

/* Copies a folder of `root` with its tensors in one file, under other names ("" = left out) and with other
   metadata. */
void rewrite(const std::string& name, const std::string& to,
             const std::function<std::string(const std::string&)>& rename,
             const std::map<std::string, std::string>& metadata = {}) {
    fs::remove_all(to);
    fs::copy(root + name, to);
    const Safetensors from(root + name + "/model.safetensors");
    std::vector<TensorSpec> specs;
    std::vector<std::string> sources;
    for (const auto& [tensor, view] : from.tensors()) {
        if (rename(tensor).empty()) { continue; }
        specs.push_back({rename(tensor), std::vector<int>(view.shape.begin(), view.shape.end())});
        sources.push_back(tensor);
    }
    write_safetensors(to + "/model.safetensors", specs, metadata,
                      [&](size_t i, std::vector<float>& out) { out = from.floats(sources[i]); });
}
json config_of(const std::string& name) { return json::parse(read_text(root + name + "/config.json")); }

// Names as torch.compile, DistributedDataParallel and older programs write them.
TEST(HuggingFace, TensorsUnderOtherNames) {
    const TempDir dir;
    const std::string name = "llama2_f32", copy = dir / "m";
    const auto error = [&](const std::function<std::string(const std::string&)>& rename) {
        rewrite(name, copy, rename);
        return error_of_logits(copy, root + name);
    };
    EXPECT_LE(error([](const std::string& n) { return "_orig_mod." + n; }), 2e-5);
    EXPECT_LE(error([](const std::string& n) { return "module._orig_mod." + n; }), 2e-5);
    EXPECT_LE(error([](const std::string& n) { return n.rfind("model.", 0) == 0 ? n.substr(6) : n; }), 2e-5);
    for (const std::string prefix : {"_fsdp_wrapped_module.", "model.", "_orig_mod.model."}) {
        EXPECT_LE(error([&](const std::string& n) { return prefix + n; }), 2e-5) << prefix;
    }
    EXPECT_LE(error([](std::string n) {  // each layer compiled by itself
                  const size_t at = n.find("layers.0.");
                  return at == std::string::npos ? n : n.insert(at + 9, "_orig_mod.");
              }),
              2e-5);
    EXPECT_THROW(error([](const std::string& n) { return "transformer." + n; }), Error);
    try {
        error([](const std::string& n) { return n == "lm_head.weight" ? "" : n; });
        ADD_FAILURE() << "accepted without lm_head.weight";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("a LlamaModel has none"), std::string::npos) << e.what();
    }
    // the same weight twice, under two names
    rewrite(name, copy, [](const std::string& n) {
        return n == "model.layers.0.mlp.up_proj.weight" ? "layers.0.mlp.gate_proj.weight" : n;
    });
    EXPECT_THROW(error_of_logits(copy, root + name), Error);
}

TEST(HuggingFace, TiedWeightsUnderEitherName) {
    const TempDir dir;
    const std::string name = "gqa_tied_bf16", copy = dir / "m", embed = "model.embed_tokens.weight";
    const auto head_only = [&](const std::string& n) { return n == embed ? "lm_head.weight" : n; };
    rewrite(name, copy, head_only);
    EXPECT_LE(error_of_logits(copy, root + name), 2e-5) << "config.json says that they are tied";
    // as safetensors' save_model() writes two names of one tensor
    rewrite(name, copy, head_only, {{embed, "lm_head.weight"}});
    EXPECT_LE(error_of_logits(copy, root + name), 2e-5);
    json untied = config_of(name);
    untied["tie_word_embeddings"] = false;
    write_text(copy + "/config.json", untied.dump());
    EXPECT_LE(error_of_logits(copy, root + name), 2e-5) << "only the metadata says it";
    rewrite(name, copy, head_only);
    write_text(copy + "/config.json", untied.dump());
    EXPECT_THROW(error_of_logits(copy, root + name), Error);
}

TEST(HuggingFace, KeysOfConfigInEveryForm) {
    const TempDir dir;
    const auto error = [&](const std::string& name, const auto& change) {
        fs::remove_all(dir / name);
        fs::copy(root + name, dir / name);
        json j = config_of(name);
        change(j);
        write_text((dir / name) + "/config.json", j.dump());
        return error_of_logits(dir / name, root + name);
    };
    // rope_scaling wins over the rope_parameters that a newer program put beside it
    EXPECT_LE(error("linear_f32",
                    [](json& j) {
                        const json rope = j["rope_parameters"];
                        j["rope_scaling"] = {{"type", "linear"}, {"factor", rope["factor"]}};
                        j["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", rope["rope_theta"]}};
                    }),
              2e-5);
    EXPECT_GT(error("linear_f32",
                    [](json& j) {
                        j["rope_scaling"] = {{"rope_type", "default"}};
                    }),
              1e-3)
        << "also where it takes the scaling away, as in transformers";
    EXPECT_LE(error("llama2_f32", [](json& j) { j["hidden_act"] = "swish"; }), 2e-5);
    EXPECT_NO_THROW(error("llama2_f32", [](json& j) { j["architectures"] = {"LlamaModel"}; }));
    EXPECT_LE(
        error("llama2_f32",
              [](json& j) {
                  for (const char* key : {"max_position_embeddings", "hidden_size", "num_hidden_layers"}) {
                      j[key] = j[key].get<double>();
                  }
              }),
        2e-5)
        << "128.0";
    const auto refused = [&](const std::string& says, const auto& change) {
        try {
            error("llama2_f32", change);
            ADD_FAILURE() << "accepted, should say " << says;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
        }
    };
    refused("partial_rotary_factor", [](json& j) { j["partial_rotary_factor"] = 0.5; });
    refused("partial_rotary_factor", [](json& j) { j["rope_parameters"]["partial_rotary_factor"] = 0.5; });
    refused("'rope_theta' is there twice", [](json& j) { j["rope_theta"] = 77.0; });
    refused("rope_scaling has a factor, but no rope_type", [](json& j) {
        j["rope_scaling"] = {{"factor", 2.0}};
    });
    refused("rope_scaling: type and rope_type contradict each other", [](json& j) {
        j["rope_scaling"] = {{"type", "linear"}, {"rope_type", "default"}, {"factor", 2.0}};
    });
    refused("rope_parameters.full_attention: several kinds of RoPE", [](json& j) {
        j["rope_parameters"]["full_attention"] = {{"rope_type", "linear"}, {"factor", 2.0}};
    });
    refused("'hidden_size'", [](json& j) { j["hidden_size"] = 32.5; });
    refused("quantization_config", [](json& j) { j["quantization_config"] = {{"quant_method", "gptq"}}; });
    refused("only silu", [](json& j) { j["hidden_act"] = "gelu"; });
}

TEST(HuggingFace, OtherFormatsAreNamed) {
    const std::string name = "llama2_f32";
    const auto refused = [&](const std::string& says, const auto& change) {
        const TempDir dir;
        fs::copy(root + name, dir / "m");
        fs::remove(dir / "m/expected.safetensors");
        change(dir / "m");
        expect_refused("sample --prompt-ids 1 --device cpu --model " + (dir / "m"), 1, says);
    };
    const auto instead = [](const std::string& file, const std::string& contents) {
        return [=](const std::string& m) {
            fs::remove(m + "/model.safetensors");
            write_text(m + "/" + file, contents);
        };
    };
    refused("only pytorch_model.bin;", [](const std::string& m) {
        fs::rename(m + "/model.safetensors", m + "/pytorch_model.bin");
        for (const char* other : {"/training_args.bin", "/optimizer.pt"}) { write_text(m + other, "PK"); }
    });
    refused("only model.npz", instead("model.npz", "PK"));
    refused("a checkpoint of a run, only model.safetensors",
            [](const std::string& m) { fs::remove(m + "/config.json"); });
    refused("an adapter (LoRA)", [](const std::string& m) {
        fs::remove(m + "/config.json");
        write_text(m + "/adapter_config.json", "{}");
    });
    refused("there is no model.safetensors\n", instead("state.safetensors", "a run's moments"));
    expect_refused("info --model " + root + name + "/config.json", 1,
                   "is a file; name a .gguf file, or the folder that holds");
    for (const char* file : {"/config.json", "/model.safetensors", "/tokenizer.json"}) {
        refused(std::string(file) + ": is a link to something that does not exist",
                [&](const std::string& m) {
                    fs::remove(m + file);
                    fs::create_symlink("../blobs/0", m + file);
                });
    }
    refused("model-q4.gguf", instead("model-q4.gguf", "GGUF"));
    refused("an adapter (LoRA)", instead("adapter_config.json", "{}"));
    refused("there is no model.safetensors",
            [](const std::string& m) { fs::remove(m + "/model.safetensors"); });
    const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1234567\n";
    refused("Git LFS pointer", instead("model.safetensors", pointer));
    refused("Git LFS pointer", instead("config.json", pointer));
    refused("Git LFS pointer", instead("tokenizer.json", pointer));
    refused("a web page", instead("model.safetensors", "<!DOCTYPE html><html>Sign in"));
    refused("a zip file", instead("model.safetensors", "PK\3\4 and more"));
}

TEST(HuggingFace, EndTokensOfGenerationConfig) {
    const TempDir dir;
    fs::copy(root + "llama2_f32", dir / "m");
    const auto with = [&](const json& generation) {
        write_text(dir / "m/generation_config.json", generation.dump());
        return open_model(dir / "m").end_tokens;
    };
    const std::vector<int> own = open_model(dir / "m").end_tokens;
    std::vector<int> more = own;
    more.insert(more.end(), {5, 6});
    EXPECT_EQ(with({{"eos_token_id", {5, 6}}}), more);
    EXPECT_EQ(with({{"eos_token_id", nullptr}}), own);
    EXPECT_EQ(with({{"temperature", 0.5}}), own);
    EXPECT_EQ(with(7), own);
    more.pop_back();
    EXPECT_EQ(with({{"eos_token_id", {5.0, -1, 1000000}}}), more) << "other programs write 5.0";
    const auto refused = [&](const json& generation) {
        try {
            with(generation);
            ADD_FAILURE() << "accepted: " << generation;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find("generation_config.json: 'eos_token_id' must be"),
                      std::string::npos)
                << e.what();
        }
    };
    refused({{"eos_token_id", "5"}});
    refused({{"eos_token_id", {5.5}}});
    write_text(dir / "m/generation_config.json", "{");
    EXPECT_THROW(open_model(dir / "m"), Error);
}

}  // namespace

}  // namespace moba

#include "train/files/weights.h"
#include "train/core/joined.h"
#include "train/files/gguf_model.h"
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

static const std::string embedding = "model.embed_tokens.weight", head = "lm_head.weight";

// The name that the tensor has in a Llama of Hugging Face.
static std::string plain_name(std::string name) {
    for (const std::string wrapper :
         {"_orig_mod.", "module.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."}) {
        for (size_t at = 0; (at = name.find(wrapper, at)) != std::string::npos;) {
            if (at == 0 || name[at - 1] == '.') {
                name.erase(at, wrapper.size());
            } else {
                at++;
            }
        }
    }
    for (const char* part : {"model.model.", "model.lm_head."}) {  // the model is a part of another class
        if (name.rfind(part, 0) == 0) { name.erase(0, 6); }
    }
    for (const char* part : {"layers.", "embed_tokens.", "norm."}) {
        if (name.rfind(part, 0) == 0) { return "model." + name; }
    }
    return name;
}

// Tables that every program computes anew: of RoPE, and attention masks.
static bool is_table(const std::string& name) {
    if (name.find("rotary_emb.") != std::string::npos) { return true; }
    const std::string last = name.substr(name.rfind('.') + 1);
    for (const char* table : {"inv_freq", "cos_cached", "sin_cached", "freqs", "freqs_cis", "freqs_cos",
                              "freqs_sin", "causal_mask", "attention_mask", "attn_mask", "masked_bias"}) {
        if (last == table) { return true; }
    }
    return false;
}

// Names of files in this folder that may hold weights in any format; "" if there are none.
static std::string weights_in(const std::string& folder) {
    std::set<std::string> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
        const std::string name = entry.path().filename(), end = entry.path().extension();
        bool other = false;  // what Hugging Face's Trainer and this program write beside the weights
        for (const char* begin :
             {"training_args", "optimizer", "scheduler", "scaler", "rng_state", "state."}) {
            other |= name.rfind(begin, 0) == 0;
        }
        for (const char* known : {".bin", ".pt", ".pth", ".ckpt", ".gguf", ".ggml", ".h5", ".msgpack", ".npz",
                                  ".onnx", ".safetensors"}) {
            if (end == known && !other) { found.insert(name); }
        }
    }
    return joined(found, ", ");
}

Error no_model(const std::string& folder, const std::string& what, const std::string& advice) {
    if (is_there(folder + "/adapter_config.json")) {
        return Error(folder + ": is an adapter (LoRA), not a model: merge it into its model first");
    }
    const std::string weights = weights_in(folder);
    return Error(folder + ": " + what + (weights.empty() ? "" : ", only " + weights + advice));
}

void Weights::open(const std::string& folder) {
    const std::string file = folder + "/model.safetensors", index = file + ".index.json";
    if (is_there(file)) {
        files_.emplace_back(file);
        return;
    }
    if (!is_there(index)) {
        throw no_model(folder, "there is no model.safetensors",
                       "; this program reads Hugging Face's safetensors, which transformers writes with "
                       "save_pretrained()");
    }
    const json j = read_json(index);
    const auto map = j.is_object() ? j.find("weight_map") : j.end();
    if (map == j.end() || !map->is_object()) {
        throw Error(index + ": 'weight_map' is missing or is not an object");
    }
    std::set<std::string> names;
    for (const auto& [tensor, shard] : map->items()) {
        if (!shard.is_string() || shard.get<std::string>().find('/') != std::string::npos) {
            throw Error(index + ": tensor '" + tensor + "' must be in a file of this folder");
        }
        names.insert(shard.get<std::string>());
    }
    for (const std::string& n : names) { files_.emplace_back(folder + "/" + n); }
    if (files_.empty()) { throw Error(index + ": 'weight_map' is empty"); }
}

void Weights::open_gguf(const std::string& path, const std::vector<ParamInfo>& params) {
    gguf_.emplace(path);
    std::set<std::string> known{"rope_freqs.weight"};  // gguf_config() has read it
    for (const ParamInfo& p : params) { known.insert(gguf_name(p.name)); }
    for (const auto& entry : gguf_->tensors()) {
        need(known.count(entry.first),
             path + ": tensor '" + entry.first.substr(0, 80) + "' does not belong to this model");
    }
}

StoredTensor stored_tensor(const Safetensors& file, const std::string& name) {
    return {file.path(), name, file.at(name).shape, [&file, name] { return file.floats(name); }};
}

Weights::Weights(const std::string& folder, const std::vector<ParamInfo>& params, bool tied) {
    if (is_gguf(folder)) {
        open_gguf(folder, params);
        return;
    }
    open(folder);
    std::set<std::string> weights;
    for (const ParamInfo& p : params) { weights.insert(p.name); }
    for (const Safetensors& f : files_) {
        for (const auto& entry : f.tensors()) {
            const std::string name = plain_name(entry.first);
            if (is_table(name)) { continue; }
            if (!weights.count(name) && !(tied && name == head)) {
                throw Error(f.path() + ": tensor '" + entry.first + "' does not belong to this model");
            }
            const auto [place, is_new] = places_.try_emplace(name, Place{&f, entry.first});
            if (is_new) { continue; }
            throw Error(f.path() + ": tensor '" + entry.first +
                        (place->second.file == &f ? "' and '" + place->second.name + "' are the same weight"
                                                  : "' is also in another file of this model"));
        }
    }
    // other names of a tensor
    for (const Safetensors& f : files_) {
        for (const auto& [other, kept] : f.metadata()) {
            const auto it = places_.find(plain_name(kept));
            if (it != places_.end() && weights.count(plain_name(other))) {
                places_.try_emplace(plain_name(other), it->second);
            }
        }
    }
    if (const auto it = places_.find(head); tied && it != places_.end()) {
        places_.try_emplace(embedding, it->second);
    }
}

StoredTensor Weights::find(const std::string& weight) const {
    if (gguf_) {
        const std::string name = gguf_name(weight);
        const auto it = gguf_->tensors().find(name);
        need(it != gguf_->tensors().end(), gguf_->path() + ": tensor '" + name + "' is missing");
        return {gguf_->path(), name, it->second.shape,
                [this, weight] { return gguf_weight(*gguf_, weight); }};
    }
    const auto it = places_.find(weight);
    // the shard that should have it is not known
    if (it == places_.end()) {
        throw Error(
            files_[0].path() + ": tensor '" + weight + "' is missing" +
            (weight == head ? ": a LlamaModel has none unless config.json ties it to the embedding" : ""));
    }
    return stored_tensor(*it->second.file, it->second.name);
}

}  // namespace moba

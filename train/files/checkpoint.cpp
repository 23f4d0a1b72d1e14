#include "train/files/checkpoint.h"
#include "train/files/run_folder.h"
#include "train/files/safetensors.h"
#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <unistd.h>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

static const char* weights_file = "/model.safetensors";
static const char* index_file = "/model.safetensors.index.json";
static const char* moments_file = "/state.safetensors";
static const char* tokenizer_file = "/tokenizer.json";

ModelFolder open_model(const std::string& path) {
    ModelFolder out;
    std::error_code ignore;
    out.path = path;
    if (!fs::exists(path, ignore)) { throw Error(path + ": there is no such folder"); }
    if (!fs::exists(path + "/config.json", ignore)) {
        out.path = latest_checkpoint(path);
        if (out.path.empty()) {
            throw Error(path + ": holds no model: it has neither config.json nor a checkpoint of a run");
        }
    }
    const std::string file = out.path + "/config.json";
    const json j = read_json(file);
    out.config = config_from_json(j, file);
    if (const auto m = j.find("moba"); m != j.end()) {
        if (m->contains("task")) { out.task = (*m)["task"].dump(); }
        if (m->contains("origin")) { out.origin = (*m)["origin"].dump(); }
        if (m->contains("data")) { out.data = (*m)["data"]; }
        if (m->contains("tokenizer") && (*m)["tokenizer"] == "bytes") { out.tokenizer = "bytes"; }
    }
    if (out.tokenizer.empty() && fs::exists(out.path + tokenizer_file, ignore)) {
        out.tokenizer = out.path + tokenizer_file;
    }
    const auto ids = [&](const char* key) {  // one id, a list of them, or null
        std::vector<int> found;
        const json value = j.value(key, json());
        for (const json& id : value.is_array() ? value : json::array({value})) {
            if (id.is_number_unsigned() && id.get<uint64_t>() < (uint64_t)out.config.vocab_size) {
                found.push_back(id.get<int>());
            }
        }
        return found;
    };
    out.end_tokens = ids("eos_token_id");
    const std::vector<int> begin = ids("bos_token_id");
    out.begin_token = !begin.empty() ? begin[0] : !out.end_tokens.empty() ? out.end_tokens[0] : -1;
    return out;
}

namespace {

/* The weights of a folder: model.safetensors, or the shards that model.safetensors.index.json names. */
class Weights {
  public:
    explicit Weights(const std::string& folder) {
        std::error_code ignore;
        const std::string index = folder + index_file;
        if (fs::exists(folder + weights_file, ignore) || !fs::exists(index, ignore)) {
            files_.emplace_back(folder + weights_file);
            return;
        }
        const json j = read_json(index);
        const auto map = j.is_object() ? j.find("weight_map") : j.end();
        if (map == j.end() || !map->is_object()) {
            throw Error(index + ": 'weight_map' is missing or is not an object");
        }
        std::set<std::string> names;
        for (const auto& [tensor, file] : map->items()) {
            if (!file.is_string() || file.get<std::string>().find('/') != std::string::npos) {
                throw Error(index + ": tensor '" + tensor + "' must be in a file of this folder");
            }
            names.insert(file.get<std::string>());
        }
        for (const std::string& n : names) { files_.emplace_back(folder + "/" + n); }
        if (files_.empty()) { throw Error(index + ": 'weight_map' is empty"); }
        for (const Safetensors& f : files_) {
            for (const auto& entry : f.tensors()) {
                if (!seen_.insert(entry.first).second) {
                    throw Error(f.path() + ": tensor '" + entry.first +
                                "' is also in another file of this model");
                }
            }
        }
    }
    const std::vector<Safetensors>& files() const { return files_; }
    const Safetensors& with(const std::string& tensor) const {
        for (const Safetensors& f : files_) {
            if (f.has(tensor)) { return f; }
        }
        return files_[0];  // its at() throws the error that the tensor is missing
    }

  private:
    std::vector<Safetensors> files_;
    std::set<std::string> seen_;
};

}  // namespace

// Loads one tensor of a file into the model. Its shape must be the model's, and its values finite.
template <class E>
static void load_tensor(const Safetensors& file, const std::string& name, Model<E>& model, const ParamInfo& p,
                        typename Model<E>::Kind kind) {
    const TensorView& t = file.at(name);
    if (!std::equal(t.shape.begin(), t.shape.end(), p.shape.begin(), p.shape.end(),
                    [](size_t a, int b) { return a == (size_t)b; })) {
        std::string has, needs;
        for (size_t d : t.shape) { has += (has.empty() ? "" : " x ") + std::to_string(d); }
        for (int d : p.shape) { needs += (needs.empty() ? "" : " x ") + std::to_string(d); }
        throw Error(file.path() + ": tensor '" + name + "' has the shape " + has + ", but the model needs " +
                    needs);
    }
    const std::vector<float> values = file.floats(name);
    for (float x : values) {
        if (!std::isfinite(x)) {
            throw Error(file.path() + ": tensor '" + name +
                        "' holds a value that is not finite (NaN or infinity)");
        }
    }
    model.write_param(kind, p, {values.begin(), values.end()});
}

// Tensors of a Llama folder that this model does not need: RoPE tables, which older files store, and the
// output layer if it is tied to the embedding.
static bool passed_over(const std::string& name, const Config& c) {
    const std::string table = "rotary_emb.inv_freq";
    return (name.size() > table.size() &&
            name.compare(name.size() - table.size(), table.size(), table) == 0) ||
           (c.tie_word_embeddings && name == "lm_head.weight");
}

template <class E>
void load_weights(const ModelFolder& folder, Model<E>& model) {
    const Weights weights(folder.path);
    for (const Safetensors& file : weights.files()) {
        for (const auto& entry : file.tensors()) {
            const auto known = [&](const ParamInfo& p) { return p.name == entry.first; };
            if (std::none_of(model.params().begin(), model.params().end(), known) &&
                !passed_over(entry.first, model.config())) {
                throw Error(file.path() + ": tensor '" + entry.first + "' does not belong to this model");
            }
        }
    }
    for (const ParamInfo& p : model.params()) {
        load_tensor(weights.with(p.name), p.name, model, p, Model<E>::Kind::weight);
    }
}

RunState read_state(const ModelFolder& folder) {
    const std::string file = folder.path + "/state.json";
    const json j = read_json(file);
    const auto usable = [&](const RunState& s) {
        // Negative numbers, fractions and numbers that are too large for their field come back different.
        const json again = s;
        for (const auto& [key, value] : again.items()) {
            if (j[key] != value) { return false; }
        }
        return s.step >= 0 && s.step <= 1 << 30 && s.stage >= 0 && s.stage_steps >= 0 && s.samples <= 1e15 &&
               s.tokens <= 1e15 && s.options.is_object();
    };
    try {
        RunState s = j.get<RunState>();
        if (usable(s)) { return s; }
    } catch (const json::exception&) {}  // a field is missing, or is of another type
    throw Error(file + ": is damaged, or is not the state of a training run");
}

template <class E>
void load_checkpoint(const ModelFolder& folder, Model<E>& model) {
    load_weights(folder, model);
    const Safetensors file(folder.path + moments_file);
    for (const ParamInfo& p : model.params()) {
        load_tensor(file, "moment1." + p.name, model, p, Model<E>::Kind::moment1);
        load_tensor(file, "moment2." + p.name, model, p, Model<E>::Kind::moment2);
    }
}

template <class E>
static void write_weights(const std::string& path, Model<E>& model,
                          std::vector<std::pair<std::string, typename Model<E>::Kind>> kinds) {
    std::vector<TensorSpec> specs;
    for (const auto& [prefix, kind] : kinds) {
        for (const ParamInfo& p : model.params()) { specs.push_back({prefix + p.name, p.shape}); }
    }
    const size_t n = model.params().size();
    write_safetensors(path, specs, {{"format", "pt"}}, [&](size_t i, std::vector<float>& out) {
        std::vector<acc_t<E>> values;
        model.read_param(kinds[i / n].second, model.params()[i % n], values);
        out.assign(values.begin(), values.end());
    });
}

template <class E>
void save_checkpoint(const std::string& dir, Model<E>& model, const json& about, const std::string& tokenizer,
                     const RunState& state) {
    using Kind = typename Model<E>::Kind;
    const std::string name = "step-" + std::to_string(state.step), final = dir + "/" + name,
                      tmp = final + ".tmp";
    json config = config_to_json(model.config());
    config["moba"].update(about);
    if (about.contains("end_token")) {
        if (about["end_token"] >= 0) { config["eos_token_id"] = about["end_token"]; }
        config["moba"].erase("end_token");
    }
    const std::string config_text = config.dump(2) + "\n", state_text = json(state).dump(2) + "\n";
    std::error_code none;
    try {
        if (latest_name(dir) == name && fs::exists(final, none)) {
            // A resumed run was stopped before its next step; its options may have changed.
            replace_file(final + "/config.json", config_text);
            replace_file(final + "/state.json", state_text);
            return;
        }
        remove_unfinished_checkpoints(dir);
        fs::create_directories(tmp);
        if (!tokenizer.empty()) { write_file(tmp + tokenizer_file, tokenizer); }
        write_file(tmp + "/config.json", config_text);
        write_file(tmp + "/state.json", state_text);
        write_weights(tmp + weights_file, model, {{"", Kind::weight}});
        write_weights(tmp + moments_file, model, {{"moment1.", Kind::moment1}, {"moment2.", Kind::moment2}});
        fsync_folder(tmp);
        // exists if a process died after the next line, and an older step was resumed
        fs::remove_all(final);
        fs::rename(tmp, final);
        fsync_folder(dir);
        set_latest(dir, name);
        remove_old_checkpoints(dir);
    } catch (const fs::filesystem_error& e) {
        throw Error("checkpoint not saved: " + final + ": " + e.code().message());
    } catch (const Error& e) {
        std::error_code ignore;
        fs::remove_all(tmp, ignore);  // a half-written folder would only fill the disk further
        throw Error(std::string("checkpoint not saved (the previous one is unchanged): ") + e.what());
    }
}

INSTANTIATE(load_weights)
INSTANTIATE(save_checkpoint)
INSTANTIATE(load_checkpoint)

}  // namespace moba

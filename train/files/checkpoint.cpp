#include "train/files/checkpoint.h"
#include "train/files/gguf_model.h"
#include "train/files/run_folder.h"
#include "train/files/safetensors.h"
#include "train/files/weights.h"
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

static const char* weights_file = "/model.safetensors";
static const char* moments_file = "/state.safetensors";
static const char* tokenizer_file = "/tokenizer.json";

// Loads one tensor into the model. Its shape must be the model's, and its values finite.
template <class E>
static void load_tensor(const StoredTensor& t, Model<E>& model, const ParamInfo& p,
                        typename Model<E>::Kind kind) {
    if (!std::equal(t.shape.begin(), t.shape.end(), p.shape.begin(), p.shape.end(),
                    [](size_t a, int b) { return a == (size_t)b; })) {
        std::string has, needs;
        for (size_t d : t.shape) { has += (has.empty() ? "" : " x ") + std::to_string(d); }
        for (int d : p.shape) { needs += (needs.empty() ? "" : " x ") + std::to_string(d); }
        throw Error(t.file + ": tensor '" + t.name + "' has the shape " + has + ", but the model needs " +
                    needs);
    }
    const std::vector<float> values = t.values();
    for (float x : values) {
        if (!std::isfinite(x)) {
            throw Error(t.file + ": tensor '" + t.name +
                        "' holds a value that is not finite (NaN or infinity)");
        }
    }
    model.write_param(kind, p, {values.begin(), values.end()});
}

template <class E>
void load_weights(const ModelFolder& folder, Model<E>& model) {
    const Weights weights(folder.path, model.params(), model.config().tie_word_embeddings);
    for (const ParamInfo& p : model.params()) {
        load_tensor(weights.find(p.name), model, p, Model<E>::Kind::weight);
    }
}

RunState read_state(const ModelFolder& folder) {
    const std::string file = folder.path + "/state.json";
    const json j = read_json(file);
    const json fields = RunState();
    // The conversion of a large fraction to a whole number would be undefined.
    const auto whole = [&] {
        for (const auto& [key, value] : fields.items()) {
            if (value.is_number_integer() && !j.at(key).is_number_integer()) { return false; }
        }
        return true;
    };
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
        if (whole()) {
            RunState s = j.get<RunState>();
            if (usable(s)) { return s; }
        }
    } catch (const json::exception&) {}  // a field is missing, or is of another type
    throw Error(file + ": is damaged, or is not the state of a training run");
}

template <class E>
void load_checkpoint(const ModelFolder& folder, Model<E>& model) {
    load_weights(folder, model);
    const Safetensors file(folder.path + moments_file);
    for (const ParamInfo& p : model.params()) {
        load_tensor(stored_tensor(file, "moment1." + p.name), model, p, Model<E>::Kind::moment1);
        load_tensor(stored_tensor(file, "moment2." + p.name), model, p, Model<E>::Kind::moment2);
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

// config.json of a checkpoint: ours, above the keys that the model came with.
static json config_of(const Config& model, const json& about, const json& kept) {
    json config = kept;
    json own = config_to_json(model);
    own["moba"].update(about);
    if (about.contains("end_token")) {
        if (about["end_token"] >= 0) { own["eos_token_id"] = about["end_token"]; }
        own["moba"].erase("end_token");
    }
    for (const char* key : {"bos_token_id", "eos_token_id"}) {
        const json was = kept.value(key, json());
        const bool one_of_several =
            was.is_array() && std::find(was.begin(), was.end(), own[key]) != was.end();
        if (own[key].is_null() || one_of_several) { own.erase(key); }
    }
    config.update(own);
    for (const char* key : {"bos_token_id", "eos_token_id"}) {
        if (!config.contains(key)) { config[key] = nullptr; }
    }
    return config;
}

// Other programs read end tokens only from generation_config.json, so the data's end token is added there.
static std::string with_end_token(const std::string& generation, const json& end_token) {
    json j = json::parse(generation, nullptr, false);
    if (!j.is_object() || !end_token.is_number_integer() || end_token < 0) { return generation; }
    const json was = j.value("eos_token_id", json());
    json all = json::array({end_token});
    for (const json& id : was.is_array() ? was : json::array({was})) {
        if (id == end_token) { return generation; }
        if (id.is_number() && id >= 0) { all.push_back(id); }  // null and -1 stand for no token
    }
    j["eos_token_id"] = all.size() == 1 ? end_token : all;
    return j.dump(2) + "\n";
}

template <class E>
void save_checkpoint(const std::string& dir, Model<E>& model, const json& about, const std::string& tokenizer,
                     const KeptFiles& kept, const RunState& state) {
    using Kind = typename Model<E>::Kind;
    const std::string name = "step-" + std::to_string(state.step), final = dir + "/" + name,
                      tmp = final + ".tmp";
    const std::vector<SavedCheckpoint> before = saved_checkpoints(dir);
    json numbered = state;
    numbered["save"] = next_save(dir, before);
    const std::string config_text = config_of(model.config(), about, kept.config).dump(2) + "\n",
                      state_text = numbered.dump(2) + "\n";
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
        for (const auto& [file, contents] : kept.files) {
            const bool generation = file == "generation_config.json";
            write_file(tmp + "/" + file,
                       generation ? with_end_token(contents, about.value("end_token", json())) : contents);
        }
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
        remove_old_checkpoints(dir, before);
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

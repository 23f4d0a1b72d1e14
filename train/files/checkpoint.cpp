#include "train/files/checkpoint.h"
#include "train/files/gguf_model.h"
#include "train/files/run_folder.h"
#include "train/files/safetensors.h"
#include "train/files/weights.h"
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <unistd.h>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

static const char* weights_file = "/model.safetensors";
static const char* moments_file = "/state.safetensors";
static const char* tokenizer_file = "/tokenizer.json";

// The values of a tensor, for a parameter. Its shape must be the parameter's, and its values finite.
static std::vector<float> checked_values(const StoredTensor& t, const ParamInfo& p) {
    if (!std::equal(t.shape.begin(), t.shape.end(), p.shape.begin(), p.shape.end(),
                    [](size_t a, int b) { return a == (size_t)b; })) {
        std::string has, needs;
        for (size_t d : t.shape) { has += (has.empty() ? "" : " x ") + std::to_string(d); }
        for (int d : p.shape) { needs += (needs.empty() ? "" : " x ") + std::to_string(d); }
        throw Error(t.file + ": tensor '" + t.name + "' has the shape " + has + ", but the model needs " +
                    needs);
    }
    std::vector<float> values = t.values();
    for (float x : values) {
        if (!std::isfinite(x)) {
            throw Error(t.file + ": tensor '" + t.name +
                        "' holds a value that is not finite (NaN or infinity)");
        }
    }
    return values;
}

// f() on rank 0. If it throws, all ranks throw.
static void on_first_rank(Comm& comm, const std::function<void()>& f) {
    if (comm.size() == 1) { return f(); }
    std::string problem;
    if (comm.rank() == 0) {
        try {
            f();
        } catch (const Error& e) { problem = e.what(); }
    }
    comm.agree(problem);
}

/* Reads each parameter with read(p), a tensor of a file. Only rank 0 reads: the others get the values from
   it. */
template <class E, class Read>
static void load_params(Model<E>& model, typename Model<E>::Kind kind, Read read) {
    Comm& comm = model.comm();
    for (const ParamInfo& p : model.params()) {
        std::vector<float> values(p.count);
        on_first_rank(comm, [&] { values = checked_values(read(p), p); });
        comm.broadcast(values.data(), values.size() * sizeof(float));
        model.write_param(kind, p, {values.begin(), values.end()});
    }
}

template <class E>
void load_weights(const ModelFolder& folder, Model<E>& model) {
    std::optional<Weights> weights;
    on_first_rank(model.comm(),
                  [&] { weights.emplace(folder.path, model.params(), model.config().tie_word_embeddings); });
    load_params(model, Model<E>::Kind::weight, [&](const ParamInfo& p) { return weights->find(p.name); });
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
    using Kind = typename Model<E>::Kind;
    std::optional<Safetensors> file;
    on_first_rank(model.comm(), [&] { file.emplace(folder.path + moments_file); });
    load_params(model, Kind::moment1, [&](auto& p) { return stored_tensor(*file, "moment1." + p.name); });
    load_params(model, Kind::moment2, [&](auto& p) { return stored_tensor(*file, "moment2." + p.name); });
}

/* The parameters of a model, one after another, by kind. Ranks read them together; so where rank 0 cannot
   write one of them, it goes on with rest(). */
template <class E>
class ParamsToWrite {
  public:
    using Kind = typename Model<E>::Kind;
    ParamsToWrite(Model<E>& model, std::vector<std::pair<std::string, Kind>> kinds)
        : model_(model), kinds_(std::move(kinds)) {}

    void write(const std::string& path) {
        std::vector<TensorSpec> specs;
        for (const auto& [prefix, kind] : kinds_) {
            for (const ParamInfo& p : model_.params()) { specs.push_back({prefix + p.name, p.shape}); }
        }
        write_safetensors(path, specs, {{"format", "pt"}}, [&](size_t i, std::vector<float>& out) {
            REQUIRE(i == next_, "tensor %zu after %zu", i, next_);
            const std::vector<acc_t<E>> values = read();
            out.assign(values.begin(), values.end());
        });
    }
    void rest() {
        while (next_ < kinds_.size() * model_.params().size()) { read(); }
    }

  private:
    std::vector<acc_t<E>> read() {
        const size_t n = model_.params().size(), i = next_++;
        std::vector<acc_t<E>> values;
        model_.read_param(kinds_[i / n].second, model_.params()[i % n], values);
        return values;
    }
    Model<E>& model_;
    std::vector<std::pair<std::string, Kind>> kinds_;
    size_t next_ = 0;
};

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

/* Writes the folder. weights, moments: what is read of the model meanwhile. */
template <class E>
static void write_folder(const std::string& dir, const std::string& name, Model<E>& model, const json& about,
                         const std::string& tokenizer, const KeptFiles& kept, const RunState& state,
                         ParamsToWrite<E>& weights, ParamsToWrite<E>& moments) {
    const std::string final = dir + "/" + name, tmp = final + ".tmp";
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
        weights.write(tmp + weights_file);
        moments.write(tmp + moments_file);
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

template <class E>
void save_checkpoint(const std::string& dir, Model<E>& model, const json& about, const std::string& tokenizer,
                     const KeptFiles& kept, const RunState& state) {
    using Kind = typename Model<E>::Kind;
    ParamsToWrite<E> weights(model, {{"", Kind::weight}}),
        moments(model, {{"moment1.", Kind::moment1}, {"moment2.", Kind::moment2}});
    std::string problem;
    if (model.comm().rank() == 0) {
        try {
            write_folder(dir, "step-" + std::to_string(state.step), model, about, tokenizer, kept, state,
                         weights, moments);
        } catch (const Error& e) { problem = e.what(); }
    }
    if (model.comm().size() > 1) { weights.rest(), moments.rest(); }
    model.comm().agree(problem);
}

INSTANTIATE(load_weights)
INSTANTIATE(save_checkpoint)
INSTANTIATE(load_checkpoint)

}  // namespace moba

#include "train/files/model_folder.h"
#include "train/core/file.h"
#include "train/files/gguf_model.h"
#include "train/files/run_folder.h"
#include "train/files/weights.h"
#include <filesystem>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// Reads config.json and what lies beside it into the folder.
void open_folder(const std::string& path, ModelFolder& out) {
    std::error_code ignore;
    if (!fs::is_directory(path, ignore)) {
        throw Error(path + ": is a file; name a .gguf file, or the folder that holds config.json and "
                           "model.safetensors");
    }
    if (!is_there(path + "/config.json")) {
        out.path = latest_checkpoint(path);
        if (out.path.empty()) {
            throw no_model(path, "holds no model: it has neither config.json nor a checkpoint of a run");
        }
    }
    const std::string file = out.path + "/config.json";
    out.config_json = read_json(file);
    const json& j = out.config_json;
    out.config = config_from_json(j, file);
    if (const auto m = j.find("moba"); m != j.end()) {
        if (m->contains("task")) { out.task = (*m)["task"]; }
        if (m->contains("origin")) { out.origin = (*m)["origin"]; }
        if (m->contains("data")) { out.data = (*m)["data"]; }
        if (m->contains("tokenizer") && (*m)["tokenizer"] == "bytes") { out.tokenizer = "bytes"; }
    }
    if (out.tokenizer.empty() && is_there(out.path + "/tokenizer.json")) {
        out.tokenizer = out.path + "/tokenizer.json";
    }
}

// One id, a list of them, or null. Others, such as -1, stand for no token.
std::vector<int> token_ids(const json& object, const char* key, const std::string& file, int vocab_size) {
    std::vector<int> found;
    const json value = object.is_object() ? object.value(key, json()) : json();
    for (const json& id : value.is_array() ? value : json::array({value})) {
        const double x = id.is_number() ? id.get<double>() : id.is_null() ? -1 : NAN;
        need(x == std::floor(x), file + ": '" + key + "' must be a token id or a list of them, not " +
                                     value.dump().substr(0, 60));
        if (x >= 0 && x < vocab_size) { found.push_back((int)x); }
    }
    return found;
}

// New folders have the template in a file, older ones in the settings of the tokenizer.
std::string read_chat_template(const std::string& folder) {
    const std::string file = folder + "/chat_template.jinja", settings = folder + "/tokenizer_config.json";
    if (is_there(file)) { return read_file(file); }
    const json j = is_there(settings) ? read_json(settings) : json::object();
    const json text = j.is_object() ? j.value("chat_template", json()) : json();
    return text.is_string() ? text.get<std::string>() : "";
}

}  // namespace

ModelFolder open_model(const std::string& path) {
    ModelFolder out;
    out.path = path;
    if (!is_there(path)) { throw Error(path + ": there is no such " + (is_gguf(path) ? "file" : "folder")); }
    std::string file = path, generation_file;
    json generation = json::object();  // settings for generation; of a chat model also the end of a turn
    if (is_gguf(path)) {
        const Gguf gguf(path);
        out.config_json = gguf_config(gguf);
        out.config = config_from_json(out.config_json, path);
        if (gguf.has("tokenizer.ggml.model")) { out.tokenizer = path; }
        out.chat_template = gguf_chat_template(gguf);
    } else {
        open_folder(path, out);
        file = out.path + "/config.json", generation_file = out.path + "/generation_config.json";
        if (is_there(generation_file)) { generation = read_json(generation_file); }
        out.chat_template = read_chat_template(out.path);
    }
    const auto ids = [&](const char* key) {  // of both files
        std::vector<int> found = token_ids(out.config_json, key, file, out.config.vocab_size);
        for (int id : token_ids(generation, key, generation_file, out.config.vocab_size)) {
            found.push_back(id);
        }
        return found;
    };
    // The tokens of a task are not those of the text that the model was trained on before.
    if (out.task.is_null()) { out.end_tokens = ids("eos_token_id"); }
    const std::vector<int> begin = ids("bos_token_id");
    out.begin_token = !begin.empty() ? begin[0] : !out.end_tokens.empty() ? out.end_tokens[0] : -1;
    const json length = out.origin.is_object() ? out.origin.value("seq_len", json()) : json();
    out.trained_length =
        length.is_number_unsigned() && length > 0 && length <= out.config.max_position_embeddings
            ? length.get<int>()
            : out.config.max_position_embeddings;
    return out;
}

// What a Hugging Face folder would have beside the weights of a .gguf file.
static KeptFiles kept_of_gguf(const ModelFolder& folder) {
    KeptFiles kept;
    kept.config = folder.config_json;
    if (folder.tokenizer.empty()) { return kept; }
    const Gguf file(folder.path);
    const json tokenizer = gguf_tokenizer(file);
    json settings = {{"tokenizer_class", "PreTrainedTokenizerFast"}};
    for (const auto& [key, name] : {std::pair{"bos_token", "bos"}, {"eos_token", "eos"}}) {
        const std::string id = std::string("tokenizer.ggml.") + name + "_token_id";
        const json& tokens = file.list("tokenizer.ggml.tokens");
        if (file.has(id) && file.whole(id) >= 0 && (size_t)file.whole(id) < tokens.size()) {
            settings[key] = tokens[(size_t)file.whole(id)];
        }
    }
    kept.files["tokenizer.json"] = json_text(tokenizer);
    kept.files["tokenizer_config.json"] = json_text(settings);
    if (!folder.chat_template.empty()) { kept.files["chat_template.jinja"] = folder.chat_template; }
    return kept;
}

KeptFiles read_kept_files(const ModelFolder& folder) {
    if (is_gguf(folder.path)) { return kept_of_gguf(folder); }
    KeptFiles kept;
    kept.config = folder.config_json;
    for (const std::string name :
         {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
          "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "generation_config.json"}) {
        const std::string path = folder.path + "/" + name;
        std::error_code e;
        if (!is_there(path)) { continue; }
        // merges.txt may be empty
        kept.files[name] = fs::file_size(path, e) == 0 && !e ? "" : read_file(path);
    }
    return kept;
}

}  // namespace moba

/* What is known of a model before its weights are read. */
#pragma once
#include "moba/config.h"
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moba {

/* An opened model: a folder, or a .gguf file. The weights stay in their file until load_weights. */
struct ModelFolder {
    std::string path;  // of the checkpoint, even if the folder of a run was opened; or of a .gguf file
    Config config;
    nlohmann::json task;        // the task this program trained it on; null = none
    nlohmann::json data;        // the text this program trained it on, as Data::origin(); null = none
    nlohmann::json origin;      // the program and the run that wrote it; null = unknown
    std::string tokenizer;      // "bytes", the path of a tokenizer.json or a .gguf file, or ""
    std::string chat_template;  // in Jinja, or ""
    int begin_token = -1;       // the first token of a new document; -1 = unknown
    std::vector<int> end_tokens;
    int trained_length = 0;      // tokens of the samples it was last trained on, or max_position_embeddings
    nlohmann::json config_json;  // all of config.json; of a .gguf file what would be in it
};

/* `path` is a checkpoint, the folder of a run (its latest checkpoint is opened), a Llama folder from Hugging
   Face with one weights file or several shards, or a Llama in a .gguf file. */
ModelFolder open_model(const std::string& path);

/* What a fine-tuned model keeps of the model it started from: keys of config.json that this program does not
   use, and files for other programs' tokenizers and generation. */
struct KeptFiles {
    nlohmann::json config = nlohmann::json::object();
    std::map<std::string, std::string> files;  // name, contents
};
KeptFiles read_kept_files(const ModelFolder&);

}  // namespace moba

/* Checkpoints: a folder DIR/step-N that is either complete or absent.

   config.json         Hugging Face's keys; ours under `moba` (layers, task or data, origin)
   model.safetensors   fp32 weights under Hugging Face's names
   tokenizer.json      the tokenizer of the data, if it has one
   state.safetensors   AdamW's moments (moment1.<name>, moment2.<name>)
   state.json          step, place in the data, stage, number of the save, and every option of the run
   A checkpoint is written as DIR/step-N.tmp, every file and the folder are fsynced, and the folder is
   renamed. Then DIR/latest is replaced by a rename, and all checkpoints but this one and the newest other one
   are deleted. Whenever the process dies, `latest` names a complete checkpoint. */
#pragma once
#include "moba/model.h"
#include "train/files/run_state.h"
#include <map>

namespace moba {

/* An opened model folder. The weights stay in their file until load_weights. */
struct ModelFolder {
    std::string path;  // of the checkpoint, even if the folder of a run was opened
    Config config;
    nlohmann::json task;    // the task this program trained it on; null = none
    nlohmann::json data;    // the text this program trained it on, as Data::origin(); null = none
    nlohmann::json origin;  // the program and the run that wrote it; null = unknown
    std::string tokenizer;  // "bytes", the path of a tokenizer.json, or ""
    int begin_token = -1;   // the first token of a new document; -1 = unknown
    std::vector<int> end_tokens;
    int trained_length = 0;      // tokens of the samples it was last trained on, or max_position_embeddings
    nlohmann::json config_json;  // all of config.json
};

/* What a fine-tuned model keeps of the model it started from: keys of config.json that this program does not
   use, and files for other programs' tokenizers and generation. */
struct KeptFiles {
    nlohmann::json config = nlohmann::json::object();
    std::map<std::string, std::string> files;  // name, contents
};
KeptFiles read_kept_files(const ModelFolder&);

/* `about` goes into config.json under `moba`; `tokenizer`: the contents of tokenizer.json, "" = that of the kept
   files, if any. */
template <class E>
void save_checkpoint(const std::string& dir, Model<E>&, const nlohmann::json& about,
                     const std::string& tokenizer, const KeptFiles&, const RunState&);

/* `path` is a checkpoint, the folder of a run (its latest checkpoint is opened), or a Llama folder from
   Hugging Face with one weights file or several shards. */
ModelFolder open_model(const std::string& path);
template <class E>
void load_weights(const ModelFolder&, Model<E>&);

/* Loads the weights and moments of a run that continues. */
template <class E>
void load_checkpoint(const ModelFolder&, Model<E>&);
RunState read_state(const ModelFolder&);

}  // namespace moba

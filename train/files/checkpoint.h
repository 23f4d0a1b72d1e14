/* Checkpoints: a folder DIR/step-N that is whole or not there.

   config.json         Hugging Face's keys; ours under `moba` (layers, task or data, origin)
   model.safetensors   fp32 weights under Hugging Face's names
   tokenizer.json      of the data, where it has one
   state.safetensors   AdamW's moments (moment1.<name>, moment2.<name>)
   state.json          step, place in the data, stage, and every option of the run
   Written as DIR/step-N.tmp, every file and the folder fsynced, renamed; then the symlink DIR/latest is replaced by a
   rename, and all but the last two checkpoints are deleted. Whenever the process dies, `latest` names a whole one. */
#pragma once
#include "moba/model.h"
#include "train/files/run_state.h"

namespace moba {

/* A model folder as read: weights stay in the file until load_weights. */
struct ModelFolder {
    std::string path;  // of the checkpoint itself
    Config config;
    std::string task, data;  // JSON: what it was trained on; "" where it was not, or elsewhere
    std::string origin;      // JSON
    std::string tokenizer;   // "bytes", the path of a tokenizer.json, or ""
    int begin_token = -1;    // of a new document; -1 = not told
    std::vector<int> end_tokens;
};

/* `about` goes into config.json under `moba`; tokenizer: what tokenizer.json holds, or "". */
template <class E>
void save_checkpoint(const std::string& dir, Model<E>&, const nlohmann::json& about,
                     const std::string& tokenizer, const RunState&);

/* `path` is a checkpoint, a run's folder (then its `latest`), or a Llama of Hugging Face's, in one file or in shards. */
ModelFolder open_model(const std::string& path);
template <class E>
void load_weights(const ModelFolder&, Model<E>&);

/* Weights and moments of a run that goes on, and where it was. */
template <class E>
void load_checkpoint(const ModelFolder&, Model<E>&);
RunState read_state(const ModelFolder&);

}  // namespace moba

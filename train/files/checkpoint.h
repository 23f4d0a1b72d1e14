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
#include "train/files/model_folder.h"
#include "train/files/run_state.h"

namespace moba {

/* With ranks, all of them call these functions together; rank 0 alone reads and writes the large files. */

/* `about` goes into config.json under `moba`; `tokenizer`: the contents of tokenizer.json, "" = that of the kept
   files, if any. */
template <class E>
void save_checkpoint(const std::string& dir, Model<E>&, const nlohmann::json& about,
                     const std::string& tokenizer, const KeptFiles&, const RunState&);

template <class E>
void load_weights(const ModelFolder&, Model<E>&);

/* Loads the weights and moments of a run that continues. */
template <class E>
void load_checkpoint(const ModelFolder&, Model<E>&);
RunState read_state(const ModelFolder&);

}  // namespace moba

/* Whether token files are still the ones that a model was trained on. Compared by content: files may move. */
#pragma once
#include "train/data/token_files.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

/* {"content": hash, "vocabulary": size, "end token": id, "tokenizer": hash of its file, "bytes" or ""} */
nlohmann::json fingerprint_of(const TokenFiles&);

/* Compares the "fingerprint" of `trained_on` (the `data` of a checkpoint) with `now`, option by option. Skips
   options that only one side has, and checkpoints without a fingerprint. Throws Error if they differ: `who`,
   the option, and what is different. */
void check_same_data(const nlohmann::json& trained_on, const nlohmann::json& now, const std::string& who);

/* Throws Error when the tokens do not come from the tokenizer of this model ("bytes", the path of a
   tokenizer.json, or "" = unknown, which fits everything). what: the tokens, "--data s.txt". */
void check_tokenizer(const std::string& model_tokenizer, const Vocabulary&, const std::string& what);

}  // namespace moba

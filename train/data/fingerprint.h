/* Whether token files are still the ones that a model was trained on. Compared by content: files may move. */
#pragma once
#include "train/data/token_files.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

/* {"content": hash, "vocabulary": size, "end token": id, "tokenizer": hash of its file, "bytes" or ""} */
nlohmann::json fingerprint_of(const TokenFiles&);

/* `trained_on`: the `data` of a checkpoint's config.json, whose "fingerprint" has the values from then, by
   option; `now`: the values now. Options that only one of them has are passed over, and so is everything in
   checkpoints of older versions. Throws Error: `who`, the option, and what is different. */
void check_same_data(const nlohmann::json& trained_on, const nlohmann::json& now, const std::string& who);

/* Throws Error when the tokens do not come from the tokenizer of this model ("bytes", the path of a
   tokenizer.json, or "" = unknown, which fits everything). what: the tokens, "--data s.txt". */
void check_tokenizer(const std::string& model_tokenizer, const Vocabulary&, const std::string& what);

}  // namespace moba

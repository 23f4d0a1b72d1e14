/* Text to token ids, as Hugging Face's tokenizers do it for the same tokenizer.json.

   Order    added tokens, normalizer, added tokens again, pre-tokenizer, model. A post-processor gives the
            tokens before and after a text
   Errors   throws Error that names the file and the part which is not supported */
#pragma once
#include "train/tokenizer/added_tokens.h"
#include "train/tokenizer/normalizer.h"
#include "train/tokenizer/pre_tokenizer.h"
#include "train/tokenizer/word_model.h"

namespace moba {

class Encoder {
  public:
    /* json: the whole file. */
    Encoder(const nlohmann::json& json, const std::string& path);
    /* The ids of a text, without those before and after it. The text must be valid UTF-8. */
    std::vector<int> encode(std::string_view text, SpecialNames);
    /* What the tokenizer puts around every text, such as a begin token. */
    const std::vector<int>& before() const { return before_; }
    const std::vector<int>& after() const { return after_; }

  private:
    void add_post_processor(const nlohmann::json& json, const std::string& path);
    Normalizer normalizer_;
    PreTokenizer pre_tokenizer_;
    AddedTokens added_;
    std::unique_ptr<WordModel> model_;
    std::vector<int> before_, after_;
};

}  // namespace moba

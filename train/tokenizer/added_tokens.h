/* The added tokens of a tokenizer.json: names such as <|endoftext|>, which are found in a text before the
   model sees it. Of several names that begin at one place, the longest one is found. */
#pragma once
#include "train/tokenizer/word_model.h"
#include <array>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace moba {

/* Whether the names of special tokens in a text become these tokens, or are text like any other. Names of
   added tokens that are not special always become tokens. */
enum class SpecialNames { tokens, text };

class Normalizer;
class Regex;

class AddedTokens {
  public:
    AddedTokens() = default;
    /* json: `added_tokens` of the file, a list. */
    AddedTokens(const nlohmann::json& json, const Normalizer&, const std::string& path);

    enum class Stage { before_normalizer, after_normalizer };
    /* Calls between(begin, end) for the stretches between the names, and token(id) for the names, in their
       order. */
    void split(std::string_view text, Stage, SpecialNames, const std::function<void(size_t, size_t)>& between,
               const std::function<void(int)>& token) const;

  private:
    struct Name {
        int id;
        size_t bytes;
        bool special, single_word, lstrip, rstrip;
    };
    struct Names {
        std::unordered_map<std::string, Name, TextHash, std::equal_to<>> by_text;
        std::array<std::vector<size_t>, 256> lengths;  // of the names with this first byte, the longest first
        const Name* at(std::string_view text) const;   // the longest name that the text begins with
    };
    Names names_[2];  // by stage
};

}  // namespace moba

/* The added tokens of a tokenizer.json: names such as <|endoftext|>, which are found in a text before the
   model sees it. Of several names that begin at one place, the longest one is found. */
#pragma once
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
    /* Calls text(begin, end) for the stretches between the names, and token(id) for the names, in their
       order. */
    void split(std::string_view text, Stage, SpecialNames, const std::function<void(size_t, size_t)>& between,
               const std::function<void(int)>& token) const;

  private:
    struct Name {
        std::string text;
        int id;
        bool special, single_word, lstrip, rstrip;
    };
    struct Names {
        std::array<std::vector<Name>, 256> by_first_byte;  // the longest first
        bool empty = true;
        const Name* at(std::string_view text) const;
    };
    Names names_[2];  // by stage
};

}  // namespace moba

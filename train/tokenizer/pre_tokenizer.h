/* The pre-tokenizer of a tokenizer.json: how a text is cut into words. No token crosses the border of a word.

   Known    ByteLevel, Split, Digits, Metaspace, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit,
            and Sequence of these
   Order    each piece passes through all steps; empty pieces are dropped
   Errors   throws Error that names the file and the pre-tokenizer for any other one */
#pragma once
#include "train/tokenizer/pieces.h"
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moba {

class PreTokenizer {
  public:
    PreTokenizer() = default;  // the whole text is one word
    PreTokenizer(const nlohmann::json& json, const std::string& path);
    void cut(Piece text, const PieceSink& words) const { run(0, text, words); }

  private:
    void run(size_t step, Piece piece, const PieceSink& words) const;
    std::vector<std::function<void(Piece, const PieceSink&)>> steps_;
};

}  // namespace moba

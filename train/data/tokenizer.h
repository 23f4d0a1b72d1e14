/* Tokenizers: the text of token ids. Decoding only; data/prepare_text.py encodes.

   bytes             id = byte
   tokenizer.json    of Hugging Face's tokenizers: a BPE, WordLevel, WordPiece or Unigram vocabulary, and
                     one of the decoders that decoder.h knows
   Errors            throws Error with the path and the reason for a file that is none of these. An unknown
                     decoder is no error before text is wanted: training needs none */
#pragma once
#include "train/data/decoder.h"
#include <string>
#include <unordered_map>
#include <vector>

namespace moba {

class Tokenizer {
  public:
    /* `what`: "bytes", or the path of a tokenizer.json. */
    explicit Tokenizer(const std::string& what);
    /* The text this token adds, if it is not the first; "" for marks such as the end of a document. If the
       decoder is unknown: the token as stored. */
    std::string text(int id) const;
    bool can_encode() const { return bytes_; }
    bool can_decode() const { return refusal_.empty(); }
    std::vector<int> encode(const std::string& text) const;  // needs can_encode()

  private:
    void read(const std::string& path);
    friend class TextStream;
    std::string refusal_;  // why its tokens cannot become text
    bool bytes_;
    std::unordered_map<int, std::string> pieces_;  // as the file has them; without marks
    Decoder decoder_;
};

/* Tokens that become text one after another. */
class TextStream {
  public:
    explicit TextStream(const Tokenizer& t);  // throws Error when the decoder is not known
    std::string add(int id);                  // what the text grows by

  private:
    const Tokenizer* tokenizer_;
    Decoder::Place place_ = Decoder::Place::first;
    std::string pending_;
};

}  // namespace moba

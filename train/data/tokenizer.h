/* Tokenizers: the text of token ids. Decoding only; data/prepare_text.py encodes.

   bytes             id = byte
   tokenizer.json    of Hugging Face's tokenizers: a BPE, WordLevel or Unigram vocabulary, byte-level (GPT-2,
                     Llama 3) or with U+2581 for blanks and <0xNN> for bytes (Llama 2)
   Errors            throws Error with the path and the reason for a file that is none of these */
#pragma once
#include <string>
#include <unordered_map>
#include <vector>

namespace moba {

class Tokenizer {
  public:
    /* `what`: "bytes", or the path of a tokenizer.json. */
    explicit Tokenizer(const std::string& what);
    std::string text(int id) const;  // "" for marks such as the end of a document
    bool can_encode() const { return bytes_; }
    std::vector<int> encode(const std::string& text) const;  // needs can_encode()

  private:
    void read(const std::string& path);
    bool bytes_;
    std::unordered_map<int, std::string> pieces_;
};

}  // namespace moba

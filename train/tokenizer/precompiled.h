/* SentencePiece's own normalization, as T5 and XLM-RoBERTa have it in their tokenizer.json (Precompiled).

   Source   https://github.com/google/sentencepiece, doc/normalization.md; Hugging Face's spm_precompiled
   Format   base64 of: bytes of a tree (uint32), the tree, texts that end with a zero byte. The tree is a
            double array (Darts): from the bytes of a character to the place of the text that it becomes
   Unit     a grapheme (what a reader sees as one character) of less than 6 bytes, else each of its
            characters; its shortest beginning in the tree decides, as there
   Error    throws Error that names the file for a table that is damaged */
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moba {

class Precompiled {
  public:
    Precompiled(const std::string& base64, const std::string& where);
    std::string apply(std::string_view text) const;  // valid UTF-8

  private:
    const char* find(std::string_view part) const;  // what it becomes; nullptr = it stays
    std::vector<uint32_t> tree_;
    std::string texts_;
};

}  // namespace moba

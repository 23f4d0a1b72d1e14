/* The models of a tokenizer.json: the ids of one word.

   BPE        begins with characters and joins the pair whose merge comes first, until no pair has a merge
   Unigram    the pieces with the largest sum of scores (Viterbi)
   WordLevel  the whole word is a token, or unknown
   Options    of BPE: byte_fallback, unk_token, fuse_unk, ignore_merges, continuing_subword_prefix,
              end_of_word_suffix; of Unigram: byte_fallback. Dropout is refused
   Cost       n log n for a word of n characters with BPE, n times the longest piece with Unigram */
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace moba {

class WordModel {
  public:
    virtual ~WordModel() = default;
    /* Appends the ids of a word; valid UTF-8. */
    virtual void encode(std::string_view word, std::vector<int>& ids) = 0;
};

/* json: `model` of the file. Throws Error that names the file. */
std::unique_ptr<WordModel> make_word_model(const nlohmann::json& json, const std::string& path);

/* Ids by piece, looked up without a copy of the text. */
struct TextHash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};
using PieceIds = std::unordered_map<std::string, int, TextHash, std::equal_to<>>;

std::unique_ptr<WordModel> make_bpe(const nlohmann::json& json, const std::string& where);
std::unique_ptr<WordModel> make_unigram(const nlohmann::json& json, const std::string& where);

/* The ids of <0x00> to <0xFF> for all bytes of the text, appended; false, and nothing appended, if one is
   missing. */
bool append_byte_fallback(const PieceIds& vocabulary, std::string_view text, std::vector<int>& ids);

}  // namespace moba

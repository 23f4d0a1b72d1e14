/* The decoder of a tokenizer.json: how the strings of tokens become text. As Hugging Face's tokenizers do it,
   but bytes that are not UTF-8 are kept as they are.

   Steps     each token passes through all steps of the decoder, one after another
   Known     ByteLevel, ByteFallback, BPEDecoder, Fuse, Metaspace, Replace (of a string), Strip, WordPiece,
             and Sequence of these. Without a decoder tokens are joined by blanks
   Errors    throws Error that names the file and the decoder for any other one */
#pragma once
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moba {

class Decoder {
  public:
    Decoder() = default;
    /* json: `decoder` of the file. */
    Decoder(const nlohmann::json& json, const std::string& path);

    enum class Place { first, later };  // of a token in its text
    /* The text that a token adds. pending: text shown only if another token
       follows, such as the blank after a word. The previous pending text is put in front, and this token's
       replaces it. */
    std::string decode(const std::string& token, Place place, std::string& pending) const;

  private:
    // Changes the text of one token.
    using Step = std::function<void(std::string& text, Place place, std::string& pending)>;
    void add(const nlohmann::json& json, const std::string& path);
    std::vector<Step> steps_;
    bool fused_ = false;  // all tokens are one string for the steps that follow
};

}  // namespace moba

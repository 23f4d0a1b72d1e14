/* Tokenizers: token ids of a text, and the text of token ids.

   bytes            id = byte
   tokenizer.json   of Hugging Face's tokenizers: a BPE, WordLevel, WordPiece or Unigram vocabulary;
                    decoder.h and encoder.h say which parts are known
   .gguf            its tokenizer, as a tokenizer.json (train/files/gguf_model.h)
   Errors           throws Error with the path and the reason for a file that is none of these. A part that is
                    not known is no error before it is needed: to decode, or to encode */
#pragma once
#include "train/tokenizer/added_tokens.h"
#include "train/tokenizer/decoder.h"
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace moba {

class Encoder;

/* The contents of a tokenizer.json: of this file, of the one in this folder, or what would be in it for the
   tokenizer of this .gguf file. */
std::string tokenizer_json(const std::string& path);

class Tokenizer {
  public:
    /* `what`: "bytes", or a path: a tokenizer.json, a folder that holds one, or a .gguf file. */
    explicit Tokenizer(const std::string& what);
    ~Tokenizer();
    bool is_bytes() const { return bytes_; }
    int vocab_size() const { return vocab_size_; }  // largest id + 1; 257 for bytes
    bool has_vocabulary_of(const Tokenizer& b) const { return bytes_ == b.bytes_ && ids_ == b.ids_; }
    /* The text this token adds, if it is not the first; "" for marks such as the end of a document. If the
       decoder is unknown: the token as stored. */
    std::string text(int id) const;
    bool can_decode() const { return refusal_.empty(); }
    /* The token as its file has it, also a mark; "" if there is no such id. */
    std::string name(int id) const;

    /* The ids of a text, as the whole of a document, without a begin token. Bytes that are not UTF-8 become
       U+FFFD, except with "bytes". Throws Error if the tokenizer has a part that is not supported. */
    std::vector<int> encode(const std::string& text, SpecialNames = SpecialNames::text) const;
    /* What the tokenizer puts before a text: a begin token, or nothing. */
    std::vector<int> begin_tokens() const;
    /* The id of an added token, or of a token; -1 if there is none of this name. */
    int id_of(const std::string& name) const;
    /* The token that ends a document: what the tokenizer puts after a text, else the first known one of the
       usual names. -1 if there is none. */
    int end_token() const;

  private:
    void read(const std::string& path);
    Encoder& encoder() const;
    friend class TextStream;
    std::string path_, refusal_;  // refusal: why its tokens cannot become text
    bool bytes_;
    int vocab_size_ = 257;
    std::unordered_map<int, std::string> pieces_;  // as the file has them; without marks
    std::unordered_map<int, std::string> marks_;   // such as the end of a document: no text
    std::unordered_map<std::string, int> ids_;     // of both
    Decoder decoder_;
    std::shared_ptr<const nlohmann::json> json_;  // the encoder is made of it, when it is first needed
    mutable std::unique_ptr<Encoder> encoder_;
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

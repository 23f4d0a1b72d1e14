/* Token files: plain text, or .bin shards of token ids. All files together are one stream of tokens. They are
   read piece by piece, so they may be larger than memory.

   Format   recognised by the first four bytes (data/README.md, byte by byte)
            20240520, version 1   256 int32: magic, version, tokens, 0...; then uint16 ids   (llm.c, GPT-2)
            20240801, version 7   the same header, then uint32 ids                           (llm.c, Llama 3)
            anything else         text: every byte is a token; the end token 256 follows the last byte
   Beside   tokens.json in the folder of a .bin gives vocabulary, end token and tokenizer
            (data/prepare_text.py writes it). Without it: GPT-2's 50257 and 50256, Llama 3's 128256 and
            128000, as in llm.c
   Errors   throws Error with the path and the place: a file that is missing, empty, compressed, truncated
            or of another format than the first file, or a token id beyond the vocabulary */
#pragma once
#include "train/core/file.h"
#include <vector>

namespace moba {

struct Vocabulary {
    int size = 257;
    int end_token = 256;              // separates documents; -1 = none
    std::string tokenizer = "bytes";  // or the path of a tokenizer.json, or "" when unknown

    bool operator==(const Vocabulary&) const = default;
};

/* Whether a file is a .bin file of tokens, by its name or its first bytes. */
bool is_token_file(const std::string& path);

class TokenFiles {
  public:
    explicit TokenFiles(const std::vector<std::string>& paths);
    size_t size() const { return starts_.back(); }  // tokens
    const std::string& first_path() const { return files_[0].file.path(); }
    const Vocabulary& vocabulary() const { return vocabulary_; }
    /* A hash of the lengths and the contents of all files: of every byte up to 256 MB in all; beyond that of
       pieces, spread evenly over each file. */
    uint64_t content_hash() const;
    /* Reads `count` tokens from token `first` on, across files. */
    void read(size_t first, size_t count, int* out) const;

  private:
    struct File {
        InputFile file;
        size_t first_byte;  // of the ids
        size_t count;       // number of ids
    };
    void add(const std::string& path);
    std::vector<File> files_;
    std::vector<size_t> starts_{0};  // first token of each file, then the number of all tokens
    int id_bytes_ = 0;               // 1 = text, 2 = uint16, 4 = uint32
    Vocabulary vocabulary_;
};

}  // namespace moba

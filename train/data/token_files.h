/* Token files: text as it is, or .bin shards of token ids; one stream of tokens, whatever the number of files. Files are
   mapped, not read, so they may be larger than memory.

   Format   told by the first four bytes (data/README.md, byte by byte)
            20240520, version 1   256 int32: magic, version, tokens, 0...; then uint16 ids   (llm.c, GPT-2)
            20240801, version 7   the same header, then uint32 ids                           (llm.c, Llama 3)
            anything else         text: every byte is a token, after the last one the end token 256
   Beside   tokens.json in the folder of a .bin says vocabulary, end token and tokenizer (data/prepare_text.py writes it).
            Without it: GPT-2's 50257 and 50256, Llama 3's 128256 and 128000, as llm.c has them
   Errors   a file that is missing, empty, truncated, of another format than the first, or with an id beyond the
            vocabulary throws Error: path and place */
#pragma once
#include "train/core/file.h"
#include <vector>

namespace moba {

struct Vocabulary {
    int size = 257;
    int end_token = 256;              // stands between documents; -1 = none
    std::string tokenizer = "bytes";  // or the path of a tokenizer.json, or "" when nothing is known

    bool operator==(const Vocabulary&) const = default;
};

class TokenFiles {
  public:
    explicit TokenFiles(const std::vector<std::string>& paths);
    size_t size() const { return starts_.back(); }  // tokens
    const Vocabulary& vocabulary() const { return vocabulary_; }
    /* Of the length, the beginning and the end of every file: other data has another one, all but surely. */
    uint64_t fingerprint() const;
    /* `count` tokens from number `first` on, across files. */
    void read(size_t first, size_t count, int* out) const;

  private:
    struct File {
        std::string path;
        MappedFile map;
        const char* ids;
        size_t count;  // ids stored
    };
    void add(const std::string& path);
    std::vector<File> files_;
    std::vector<size_t> starts_{0};  // first token of each file, and the end
    int id_bytes_ = 0;               // 1 text, 2 uint16, 4 uint32
    Vocabulary vocabulary_;
};

}  // namespace moba

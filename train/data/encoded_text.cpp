#include "train/data/encoded_text.h"
#include "moba/core/clock.h"
#include "moba/core/decimal.h"
#include "moba/core/device_ops.h"
#include "train/core/progress.h"
#include "train/core/utf8.h"
#include "train/data/hash.h"
#include "train/data/token_files.h"
#include "train/tokenizer/tokenizer.h"
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace moba {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool holds_json_lines(const std::string& path) {
    const std::string end = fs::path(path).extension();
    return end == ".jsonl" || end == ".ndjson";
}

// Writes the shards of a folder: text_000000.bin, ...
class ShardWriter {
  public:
    ShardWriter(std::string folder, const Tokenizer& tokenizer)
        : folder_(std::move(folder)), tokenizer_(tokenizer), begin_(tokenizer.begin_tokens()),
          wide_(tokenizer.vocab_size() > 1 << 16) {
        if (begin_ == std::vector{tokenizer.end_token()}) { begin_.clear(); }  // it stands there already
    }
    const std::vector<int>& begin_tokens() const { return begin_; }
    // where: the file and the line, for messages.
    void add_document(const std::string& text, const std::string& where) {
        std::vector<int> ids;
        try {
            ids = tokenizer_.encode(text);
        } catch (const Error& e) { throw Error(where + ": " + e.what()); }
        bytes_ += text.size();
        if (!tokenizer_.is_bytes()) { invalid_ += count_invalid_utf8(text); }
        if (ids.empty()) { return; }
        documents_++;
        put(tokenizer_.end_token());
        for (int id : begin_) { put(id); }
        for (int id : ids) { put(id); }
    }
    void finish() {
        put(tokenizer_.end_token());
        flush();
    }
    size_t tokens() const { return tokens_; }
    size_t documents() const { return documents_; }
    size_t bytes() const { return bytes_; }
    size_t invalid() const { return invalid_; }

  private:
    void put(int id) {
        constexpr size_t most_in_shard = 100'000'000;
        ids_.push_back((uint32_t)id);
        if (ids_.size() == most_in_shard) { flush(); }
    }
    void flush() {
        if (ids_.empty()) { return; }
        char name[32];
        std::snprintf(name, sizeof name, "/text_%06d.bin", shards_++);
        FileWriter file(folder_ + name);
        int32_t header[256] = {wide_ ? 20240801 : 20240520, wide_ ? 7 : 1, (int32_t)ids_.size()};
        file.write(header, sizeof header);
        if (wide_) {
            file.write(ids_.data(), ids_.size() * 4);
        } else {
            const std::vector<uint16_t> narrow(ids_.begin(), ids_.end());
            file.write(narrow.data(), narrow.size() * 2);
        }
        file.finish();
        tokens_ += ids_.size();
        ids_.clear();
    }
    std::string folder_;
    const Tokenizer& tokenizer_;
    std::vector<int> begin_;
    bool wide_;
    std::vector<uint32_t> ids_;
    int shards_ = 0;
    size_t tokens_ = 0, documents_ = 0, bytes_ = 0, invalid_ = 0;
};

void add_json_lines(const std::string& path, const std::string& text, ShardWriter& out) {
    int number = 0;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        const std::string where = path + ": line " + std::to_string(++number);
        if (text.find_first_not_of(" \t\r", at) < end) {
            const json j = parse_json(text.data() + at, end - at, where);
            need(j.is_object() && j.contains("text") && j["text"].is_string(),
                 where + ": is not an object with a document under \"text\"");
            out.add_document(j["text"].get<std::string>(), where);
        }
        at = end + 1;
    }
}

void add_file(const std::string& path, ShardWriter& out) {
    std::string text = InputFile(path).text();
    need(!text.starts_with("\xFF\xFE") && !text.starts_with("\xFE\xFF"),
         path + ": is UTF-16 text; data/prepare_text.py reads it");
    if (text.starts_with("\xEF\xBB\xBF")) { text.erase(0, 3); }  // a mark that says UTF-8
    if (holds_json_lines(path)) {
        add_json_lines(path, text, out);
    } else {
        out.add_document(text, path);
    }
}

void encode(const std::vector<std::string>& paths, const std::string& tokenizer_path,
            const std::string& tokenizer_text, const std::string& folder) {
    const double begin = now_ms();
    const Tokenizer tokenizer(tokenizer_path);
    need(tokenizer.end_token() >= 0,
         tokenizer_path + ": has no end token under one of the usual names; encode the text with "
                          "data/prepare_text.py --end-token");
    ShardWriter out(folder, tokenizer);
    for (const std::string& path : paths) { add_file(path, out); }
    need(out.documents() > 0, paths[0] + ": there is no text in it");
    out.finish();
    if (!tokenizer_text.empty()) { write_file(folder + "/tokenizer.json", tokenizer_text); }
    write_file(folder + "/tokens.json",
               json({{"vocab_size", tokenizer.vocab_size()},
                     {"end_token", tokenizer.end_token()},
                     {"begin_tokens", out.begin_tokens()},
                     {"tokenizer", tokenizer_text.empty() ? "bytes" : "tokenizer.json"},
                     {"documents", out.documents()}})
                       .dump(2) +
                   "\n");
    std::fprintf(stderr, "encoded  %s, %zu document%s: %zu tokens in %s\n",
                 readable_bytes(out.bytes()).c_str(), out.documents(), out.documents() == 1 ? "" : "s",
                 out.tokens(), readable_seconds((now_ms() - begin) / 1000).c_str());
    if (out.invalid()) {
        std::fprintf(stderr, "         U+FFFD stands for %zu places that are not UTF-8\n", out.invalid());
    }
}

// A hash of texts and tokenizer. Every byte of a text counts, and so does the version of this program's
// encoder: raise it whenever the same text gets other tokens.
uint64_t hash_of(const std::vector<std::string>& paths, const std::string& tokenizer_text) {
    constexpr uint64_t version = 1;
    uint64_t hash = hash_bytes(tokenizer_text.data(), tokenizer_text.size(), version);
    std::vector<char> piece(1 << 20);
    for (const std::string& path : paths) {
        const InputFile file(path);
        hash = hash * 31 + holds_json_lines(path);
        for (size_t at = 0; at < file.bytes(); at += piece.size()) {
            const size_t n = std::min(piece.size(), file.bytes() - at);
            file.read(at, piece.data(), n);
            hash = hash_bytes(piece.data(), n, hash);
        }
    }
    return hash;
}

// Removes what a process left that was ended while it encoded.
void remove_unfinished(const std::string& folder) {
    std::error_code none;
    const std::string begin = fs::path(folder).filename().string() + ".tmp";
    for (const auto& entry : fs::directory_iterator(fs::path(folder).parent_path(), none)) {
        const std::string name = entry.path().filename();
        if (!name.starts_with(begin)) { continue; }
        const std::optional<int> process = parse_whole<int>(name.substr(begin.size()));
        if (process && kill(*process, 0) != 0 && errno == ESRCH) { fs::remove_all(entry.path(), none); }
    }
}

}  // namespace

bool must_be_encoded(const std::vector<std::string>& paths, const std::string& tokenizer) {
    const bool bytes = tokenizer.empty() || tokenizer == "bytes";
    return std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
        return !is_token_file(path) && (!bytes || holds_json_lines(path));
    });
}

std::vector<std::string> token_files(const std::vector<std::string>& paths, const std::string& tokenizer,
                                     const std::string& parent) {
    if (!must_be_encoded(paths, tokenizer)) { return paths; }
    for (const std::string& path : paths) {
        if (is_token_file(path)) {
            throw Error(path +
                        ": is a .bin file among texts that must be encoded; name only one kind of files");
        }
        TokenFiles({path});  // refuses what is no text
    }
    const bool bytes = tokenizer.empty() || tokenizer == "bytes";
    const std::string tokenizer_text = bytes ? "" : tokenizer_json(tokenizer);
    const std::string name = "tokens-" + hash_text(hash_of(paths, tokenizer_text));
    const std::string folder = (fs::path(parent.empty() ? "." : parent) / name).string();
    remove_unfinished(folder);
    if (!is_there(folder + "/tokens.json")) {
        const std::string tmp = folder + ".tmp" + std::to_string(getpid());
        std::error_code error;
        fs::create_directories(tmp, error);
        if (error) { throw Error(tmp + ": " + error.message()); }
        try {
            encode(paths, bytes ? "bytes" : tokenizer, tokenizer_text, tmp);
            fs::rename(tmp, folder, error);  // fails if another process was faster, with the same result
            if (error && !is_there(folder + "/tokens.json")) { throw Error(folder + ": " + error.message()); }
        } catch (...) {
            fs::remove_all(tmp, error);
            throw;
        }
        fs::remove_all(tmp, error);
    }
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator(folder)) {
        if (entry.path().extension() == ".bin") { files.push_back(entry.path().string()); }
    }
    std::sort(files.begin(), files.end());
    return files;
}

}  // namespace moba

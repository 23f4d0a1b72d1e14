#include "train/data/token_files.h"
#include "train/data/hash.h"
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const size_t header_bytes = 256 * sizeof(int32_t);

struct BinFormat {
    int32_t magic, version;
    int id_bytes;
    Vocabulary vocabulary;
};
const BinFormat bin_formats[] = {{20240520, 1, 2, {50257, 50256, ""}},
                                 {20240801, 7, 4, {128256, 128000, ""}}};

Vocabulary read_vocabulary(const std::string& file) {
    const json j = read_json(file);
    const auto number = [&](const char* key, double lo, double hi) {
        if (!j.is_object() || !j.contains(key) || !j[key].is_number_integer() || j[key].get<double>() < lo ||
            j[key].get<double>() > hi) {
            throw Error(file + ": '" + key + "' is missing or is not a whole number from " +
                        std::to_string((long)lo) + " to " + std::to_string((long)hi));
        }
        return j[key].get<int>();
    };
    Vocabulary v;
    v.size = number("vocab_size", 1, 1 << 24);
    v.end_token = number("end_token", -1, v.size - 1);
    if (!j.contains("tokenizer") || !j["tokenizer"].is_string()) {
        throw Error(file + ": 'tokenizer' is missing or is not a string");
    }
    v.tokenizer = j["tokenizer"].get<std::string>();
    if (!v.tokenizer.empty() && v.tokenizer != "bytes") {  // a path relative to this file
        v.tokenizer = (fs::path(file).parent_path() / v.tokenizer).string();
    }
    return v;
}

}  // namespace

bool is_token_file(const std::string& path) {
    const InputFile file(path);
    int32_t magic = 0;
    file.read(0, &magic, std::min(file.bytes(), sizeof magic));
    return fs::path(path).extension() == ".bin" || magic == bin_formats[0].magic ||
           magic == bin_formats[1].magic;
}

void TokenFiles::add(const std::string& path) {
    File f{InputFile(path), 0, 0};
    const size_t bytes = f.file.bytes();
    int32_t header[3] = {};
    f.file.read(0, header, std::min(bytes, sizeof header));
    const BinFormat* format = nullptr;
    for (const BinFormat& b : bin_formats) {
        if (header[0] == b.magic) { format = &b; }
    }
    if (!format && fs::path(path).extension() == ".bin") {
        throw Error(path + ": is not a .bin file of tokens: it begins with the number " +
                    std::to_string(header[0]) + " instead of 20240520 (uint16 ids) or 20240801 (uint32 ids)");
    }
    const std::string other = what_it_is(f.file);
    if (!format && !other.empty() && other != "a web page") {
        throw Error(path + ": is " + other + "; --data takes text, or .bin files of data/prepare_text.py");
    }
    const int id_bytes = format ? format->id_bytes : 1;
    if (id_bytes_ && id_bytes_ != id_bytes) {
        throw Error(path + ": has another format than " + files_[0].file.path() +
                    "; all files must have the same format");
    }
    f.count = bytes;
    if (format) {
        if (header[1] != format->version) {
            throw Error(path + ": has version " + std::to_string(header[1]) +
                        " of its format; only version " + std::to_string(format->version) + " is supported");
        }
        const size_t held = bytes < header_bytes ? 0 : (bytes - header_bytes) / (size_t)format->id_bytes;
        if (header[2] < 1 || (size_t)header[2] != held ||
            bytes != header_bytes + held * (size_t)format->id_bytes) {
            throw Error(path + ": its header says " + std::to_string(header[2]) +
                        " tokens, but the file holds " + std::to_string(held) + "; it may be truncated");
        }
        f.first_byte = header_bytes;
        f.count = held;
        const std::string beside = (fs::path(path).parent_path() / "tokens.json").string();
        std::error_code none;
        const Vocabulary v = fs::exists(beside, none) ? read_vocabulary(beside) : format->vocabulary;
        if (!files_.empty() && !(v == vocabulary_)) {
            throw Error(path + ": has another vocabulary than " + files_[0].file.path() +
                        "; all files must have the same vocabulary");
        }
        vocabulary_ = v;
    }
    id_bytes_ = id_bytes;
    starts_.push_back(starts_.back() + f.count + (format ? 0 : 1));
    files_.push_back(std::move(f));
}

TokenFiles::TokenFiles(const std::vector<std::string>& paths) {
    if (paths.empty()) { throw Error("--data: the list of files is empty"); }
    for (const std::string& p : paths) { add(p); }
}

uint64_t TokenFiles::content_hash() const {
    const size_t piece = 1 << 16, most_pieces = (256 << 20) / piece;
    size_t all = 0;
    for (const File& f : files_) { all += ceil_div(f.file.bytes(), piece); }
    std::vector<char> buffer(piece);
    uint64_t hash = 0;
    for (const File& f : files_) {
        const size_t bytes = f.file.bytes(), pieces = ceil_div(bytes, piece);
        // Of the pieces of this file, its share: first and last, and those between at equal distances.
        const size_t share = all <= most_pieces ? pieces : std::max<size_t>(2, pieces * most_pieces / all);
        const size_t read = std::min(pieces, share);
        hash = hash_bytes(&bytes, sizeof bytes, hash);
        for (size_t i = 0; i < read; i++) {
            const size_t at = (read == 1 ? 0 : i * (pieces - 1) / (read - 1)) * piece;
            const size_t n = std::min(piece, bytes - at);
            f.file.read(at, buffer.data(), n);
            hash = hash_bytes(buffer.data(), n, hash);
        }
    }
    return hash;
}

void TokenFiles::read(size_t first, size_t count, int* out) const {
    REQUIRE(first + count <= size(), "tokens %zu + %zu of %zu", first, count, size());
    size_t f = std::upper_bound(starts_.begin(), starts_.end(), first) - starts_.begin() - 1;
    std::vector<char> bytes;
    for (; count > 0; f++) {
        const File& file = files_[f];
        const size_t at = first - starts_[f], here = std::min(count, starts_[f + 1] - first);
        const size_t ids = std::min(here, file.count - std::min(at, file.count));
        bytes.resize(ids * id_bytes_);
        file.file.read(file.first_byte + at * id_bytes_, bytes.data(), bytes.size());
        for (size_t i = 0; i < ids; i++) {
            uint32_t id = 0;
            std::memcpy(&id, &bytes[i * id_bytes_], id_bytes_);  // little-endian, as the files are
            if (id >= (uint32_t)vocabulary_.size) {
                throw Error(file.file.path() + ": token " + std::to_string(at + i) + " has id " +
                            std::to_string(id) + ", but the vocabulary has only " +
                            std::to_string(vocabulary_.size) + " tokens");
            }
            *out++ = (int)id;
        }
        if (ids < here) { *out++ = vocabulary_.end_token; }  // after the last byte of a text
        first += here, count -= here;
    }
}

}  // namespace moba

#include "train/data/token_files.h"
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

// Their bytes look random: a model learns nothing from them.
const std::pair<const char*, const char*> compressed[] = {
    {"\x1f\x8b", "gzip -d"},        {"BZh", "bzip2 -d"},
    {"\xfd\x37zXZ", "xz -d"},       {"\x28\xb5\x2f\xfd", "zstd -d"},
    {"\x04\x22\x4d\x18", "lz4 -d"}, {"PK\3\4", "unzip"}};

void check_not_compressed(const std::string& path, const MappedFile& file) {
    const std::string_view text(file.data.get(), file.bytes);
    for (const auto& [start, unpack] : compressed) {
        if (text.starts_with(start)) {
            throw Error(path + ": is compressed; unpack it first, for example with " + unpack);
        }
    }
}

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

void TokenFiles::add(const std::string& path) {
    File f{.path = path, .map = MappedFile(path), .ids = nullptr, .count = 0};
    int32_t header[3] = {};
    std::memcpy(header, f.map.data.get(), std::min(f.map.bytes, sizeof header));
    const BinFormat* format = nullptr;
    for (const BinFormat& b : bin_formats) {
        if (header[0] == b.magic) { format = &b; }
    }
    if (!format && fs::path(path).extension() == ".bin") {
        throw Error(path + ": is not a .bin file of tokens: it begins with the number " +
                    std::to_string(header[0]) + " instead of 20240520 (uint16 ids) or 20240801 (uint32 ids)");
    }
    if (!format) { check_not_compressed(path, f.map); }
    const int id_bytes = format ? format->id_bytes : 1;
    if (id_bytes_ && id_bytes_ != id_bytes) {
        throw Error(path + ": has another format than " + files_[0].path +
                    "; all files must have the same format");
    }
    f.ids = f.map.data.get();
    f.count = f.map.bytes;
    if (format) {
        if (header[1] != format->version) {
            throw Error(path + ": has version " + std::to_string(header[1]) +
                        " of its format; only version " + std::to_string(format->version) + " is supported");
        }
        const size_t held =
            f.map.bytes < header_bytes ? 0 : (f.map.bytes - header_bytes) / (size_t)format->id_bytes;
        if (header[2] < 1 || (size_t)header[2] != held ||
            f.map.bytes != header_bytes + held * (size_t)format->id_bytes) {
            throw Error(path + ": its header says " + std::to_string(header[2]) +
                        " tokens, but the file holds " + std::to_string(held) + "; it may be truncated");
        }
        f.ids += header_bytes;
        f.count = held;
        const std::string beside = (fs::path(path).parent_path() / "tokens.json").string();
        std::error_code none;
        const Vocabulary v = fs::exists(beside, none) ? read_vocabulary(beside) : format->vocabulary;
        if (!files_.empty() && !(v == vocabulary_)) {
            throw Error(path + ": has another vocabulary than " + files_[0].path +
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

uint64_t TokenFiles::fingerprint() const {
    uint64_t hash = 14695981039346656037ull;  // FNV-1a
    const auto add = [&](const void* data, size_t bytes) {
        for (size_t i = 0; i < bytes; i++) {
            hash = (hash ^ ((const unsigned char*)data)[i]) * 1099511628211ull;
        }
    };
    for (const File& f : files_) {
        const size_t part = std::min<size_t>(f.map.bytes, 1 << 16);
        add(&f.map.bytes, sizeof f.map.bytes);
        add(f.map.data.get(), part);
        add(f.map.data.get() + f.map.bytes - part, part);
    }
    return hash;
}

void TokenFiles::read(size_t first, size_t count, int* out) const {
    REQUIRE(first + count <= size(), "tokens %zu + %zu of %zu", first, count, size());
    size_t f = std::upper_bound(starts_.begin(), starts_.end(), first) - starts_.begin() - 1;
    for (size_t i = first; i < first + count; i++) {
        while (i >= starts_[f + 1]) { f++; }
        const File& file = files_[f];
        const size_t at = i - starts_[f];
        uint32_t id = (uint32_t)vocabulary_.end_token;  // after the last byte of a text
        if (at < file.count) {
            id = 0;
            std::memcpy(&id, file.ids + at * id_bytes_, id_bytes_);  // little-endian, as the files are
        }
        if (id >= (uint32_t)vocabulary_.size) {
            throw Error(file.path + ": token " + std::to_string(at) + " has id " + std::to_string(id) +
                        ", but the vocabulary has only " + std::to_string(vocabulary_.size) + " tokens");
        }
        *out++ = (int)id;
    }
}

}  // namespace moba

#include "train/data/tokenizer.h"
#include "train/core/file.h"
#include <map>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

Tokenizer::Tokenizer(const std::string& what) : bytes_(what == "bytes") {
    if (bytes_) {
        for (int b = 0; b < 256; b++) { pieces_[b] = std::string(1, (char)b); }
    } else {
        read(what);
    }
}

std::vector<int> Tokenizer::encode(const std::string& text) const {
    REQUIRE(can_encode(), "a tokenizer of bytes");
    std::vector<int> ids;
    for (unsigned char c : text) { ids.push_back(c); }
    return ids;
}

std::string Tokenizer::text(int id) const {
    const auto it = pieces_.find(id);
    return it == pieces_.end() ? "" : it->second;
}

static std::string utf8(int code) {
    if (code < 0x80) { return {(char)code}; }
    if (code < 0x800) { return {(char)(0xC0 | code >> 6), (char)(0x80 | (code & 63))}; }
    return {(char)(0xE0 | code >> 12), (char)(0x80 | (code >> 6 & 63)), (char)(0x80 | (code & 63))};
}

/* GPT-2 writes every byte as a visible character: the character of the same code where that is visible, else
   the next code from 256 on. */
static std::map<std::string, char> byte_letters() {
    std::map<std::string, char> out;
    int next = 256;
    for (int b = 0; b < 256; b++) {
        const bool seen = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        out[utf8(seen ? b : next++)] = (char)b;
    }
    return out;
}

static size_t letter_bytes(unsigned char first) {
    return first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

static std::string from_byte_level(const std::string& piece, const std::map<std::string, char>& letters) {
    std::string out;
    for (size_t i = 0; i < piece.size();) {
        const std::string letter = piece.substr(i, letter_bytes((unsigned char)piece[i]));
        const auto it = letters.find(letter);
        out += it == letters.end() ? letter : std::string(1, it->second);
        i += letter.size();
    }
    return out;
}

static std::string from_sentencepiece(const std::string& piece) {
    unsigned byte;
    char rest;
    if (piece.size() == 6 && std::sscanf(piece.c_str(), "<0x%2X>%c", &byte, &rest) == 1) {
        return std::string(1, (char)byte);
    }
    static const std::string blank = "\xE2\x96\x81";
    std::string out;
    for (size_t i = 0; i < piece.size();) {
        const bool is_blank = piece.compare(i, blank.size(), blank) == 0;
        out += is_blank ? ' ' : piece[i];
        i += is_blank ? blank.size() : 1;
    }
    return out;
}

// Whether this decoder, or one in its sequence of decoders, has this type.
static bool decodes_by(const json& j, const std::string& type) {
    if (!j.is_object()) { return false; }
    if (j.value("type", json()) == type) { return true; }
    const auto parts = j.find("decoders");
    if (parts == j.end() || !parts->is_array()) { return false; }
    for (const json& part : *parts) {
        if (part.is_object() && part.value("type", json()) == type) { return true; }
    }
    return false;
}

void Tokenizer::read(const std::string& path) {
    const json j = read_json(path);
    const auto need = [&](bool ok, const std::string& what) {
        if (!ok) { throw Error(path + ": is not a tokenizer.json of Hugging Face's tokenizers: " + what); }
    };
    const auto put = [&](const json& id, const std::string& piece) {
        need(id.is_number_unsigned() && id.get<uint64_t>() < 1 << 24,
             "token '" + piece.substr(0, 40) + "' has no id from 0 to 2^24 - 1");
        pieces_[id.get<int>()] = piece;
    };
    need(j.is_object() && j.contains("model") && j["model"].is_object(), "'model' is missing");
    const json& model = j["model"];
    need(model.contains("vocab"), "'model.vocab' is missing");
    const json& vocab = model["vocab"];
    const json decoder = j.value("decoder", json());
    const bool byte_level = decodes_by(decoder, "ByteLevel");
    const auto letters = byte_letters();
    const auto decoded = [&](const std::string& piece) {
        return byte_level ? from_byte_level(piece, letters) : from_sentencepiece(piece);
    };
    if (vocab.is_object()) {  // BPE, WordLevel: piece -> id
        for (const auto& [piece, id] : vocab.items()) { put(id, decoded(piece)); }
    } else {  // Unigram: a list of [piece, score]
        need(vocab.is_array(), "'model.vocab' is neither an object nor a list");
        for (size_t i = 0; i < vocab.size(); i++) {
            need(vocab[i].is_array() && !vocab[i].empty() && vocab[i][0].is_string(),
                 "entry " + std::to_string(i) + " of 'model.vocab' does not begin with a string");
            put(i, decoded(vocab[i][0].get<std::string>()));
        }
    }
    const json added = j.value("added_tokens", json::array());
    need(added.is_array(), "'added_tokens' is not a list");
    for (const json& t : added) {
        need(t.is_object() && t.contains("id") && t.contains("content") && t["content"].is_string(),
             "an entry of 'added_tokens' has no 'id' or no 'content'");
        put(t["id"], t.value("special", json(false)) == true ? "" : t["content"].get<std::string>());
    }
    need(!pieces_.empty(), "it holds no tokens");
}

}  // namespace moba

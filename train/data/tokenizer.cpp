#include "train/data/tokenizer.h"
#include "train/core/file.h"
#include <nlohmann/json.hpp>
#include <utility>

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
    const auto piece = pieces_.find(id);
    if (piece == pieces_.end()) { return ""; }
    std::string pending;
    return refusal_.empty() ? decoder_.decode(piece->second, Decoder::Place::later, pending) : piece->second;
}

TextStream::TextStream(const Tokenizer& t) : tokenizer_(&t) {
    if (!t.refusal_.empty()) { throw Error(t.refusal_); }
}

std::string TextStream::add(int id) {
    const auto piece = tokenizer_->pieces_.find(id);
    if (piece == tokenizer_->pieces_.end()) { return ""; }
    return tokenizer_->decoder_.decode(piece->second, std::exchange(place_, Decoder::Place::later), pending_);
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
    try {
        decoder_ = Decoder(j.value("decoder", json()), path);
    } catch (const Error& e) { refusal_ = e.what(); }
    if (vocab.is_object()) {  // BPE, WordLevel, WordPiece: piece -> id
        for (const auto& [piece, id] : vocab.items()) { put(id, piece); }
    } else {  // Unigram: a list of [piece, score]
        need(vocab.is_array(), "'model.vocab' is neither an object nor a list");
        for (size_t i = 0; i < vocab.size(); i++) {
            need(vocab[i].is_array() && !vocab[i].empty() && vocab[i][0].is_string(),
                 "entry " + std::to_string(i) + " of 'model.vocab' does not begin with a string");
            put(i, vocab[i][0].get<std::string>());
        }
    }
    const json added = j.value("added_tokens", json::array());
    need(added.is_array(), "'added_tokens' is not a list");
    for (const json& t : added) {
        need(t.is_object() && t.contains("id") && t.contains("content") && t["content"].is_string(),
             "an entry of 'added_tokens' has no 'id' or no 'content'");
        put(t["id"], t["content"].get<std::string>());
    }
    need(!pieces_.empty(), "it holds no tokens");
    for (const json& t : added) {
        if (t.value("special", json(false)) == true) { pieces_.erase(t["id"].get<int>()); }
    }
}

}  // namespace moba

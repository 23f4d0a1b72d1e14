#include "train/tokenizer/tokenizer.h"
#include "train/core/file.h"
#include "train/core/utf8.h"
#include "train/files/gguf_model.h"
#include "train/files/run_folder.h"
#include "train/tokenizer/encoder.h"
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

namespace moba {

using nlohmann::json;

static std::string file_of(const std::string& path) {
    std::error_code none;
    if (!std::filesystem::is_directory(path, none)) { return path; }
    const std::string file = path + "/tokenizer.json", run = is_there(file) ? "" : latest_checkpoint(path);
    return run.empty() ? file : run + "/tokenizer.json";
}

std::string tokenizer_json(const std::string& path) {
    const std::string file = file_of(path);
    return is_gguf(file) ? json_text(gguf_tokenizer(Gguf(file))) : read_file(file);
}

// That of a .gguf file is read like the tokenizer.json that can be made of it: valid UTF-8, unsigned numbers.
static json read_tokenizer(const std::string& file) {
    if (!is_gguf(file)) { return read_json(file); }
    const std::string text = tokenizer_json(file);
    return parse_json(text.data(), text.size(), file);
}

Tokenizer::Tokenizer(const std::string& what) : path_(file_of(what)), bytes_(what == "bytes") {
    if (bytes_) {
        for (int b = 0; b < 256; b++) { pieces_[b] = std::string(1, (char)b); }
    } else {
        read(path_);
    }
}
Tokenizer::~Tokenizer() = default;

Encoder& Tokenizer::encoder() const {
    if (!encoder_) { encoder_ = std::make_unique<Encoder>(*json_, path_); }
    return *encoder_;
}

std::vector<int> Tokenizer::encode(const std::string& text, SpecialNames special) const {
    if (!bytes_) { return encoder().encode(replace_invalid_utf8(text), special); }
    std::vector<int> ids;
    for (unsigned char c : text) { ids.push_back(c); }
    return ids;
}

std::vector<int> Tokenizer::begin_tokens() const { return bytes_ ? std::vector<int>{} : encoder().before(); }

int Tokenizer::id_of(const std::string& name) const {
    const auto it = ids_.find(name);
    return it == ids_.end() ? -1 : it->second;
}

int Tokenizer::end_token() const {
    if (bytes_) { return 256; }
    if (!encoder().after().empty()) { return encoder().after()[0]; }
    for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "[SEP]"}) {
        if (const int id = id_of(name); id >= 0) { return id; }
    }
    return -1;
}

std::string Tokenizer::name(int id) const {
    const auto piece = pieces_.find(id), mark = marks_.find(id);
    return piece != pieces_.end() ? piece->second : mark != marks_.end() ? mark->second : "";
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
    json_ = std::make_shared<json>(read_tokenizer(path));
    const json& j = *json_;
    const auto need = [&](bool ok, const std::string& what) {
        if (!ok) { throw Error(path + ": is not a tokenizer.json of Hugging Face's tokenizers: " + what); }
    };
    vocab_size_ = 0;
    const auto put = [&](const json& id, const std::string& piece) {
        need(id.is_number_unsigned() && id.get<uint64_t>() < 1 << 24,
             "token '" + piece.substr(0, 40) + "' has no id from 0 to 2^24 - 1");
        pieces_[id.get<int>()] = piece;
        ids_[piece] = id.get<int>();
        vocab_size_ = std::max(vocab_size_, id.get<int>() + 1);
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
        if (t.value("special", json(false)) != true) { continue; }
        pieces_.erase(t["id"].get<int>());
        marks_[t["id"].get<int>()] = t["content"].get<std::string>();
    }
}

}  // namespace moba

#include "train/tokenizer/word_model.h"
#include "train/tokenizer/fields.h"

namespace moba {

using nlohmann::json;

bool append_byte_fallback(const PieceIds& vocabulary, std::string_view text, std::vector<int>& ids) {
    const size_t before = ids.size();
    for (const char c : text) {
        char name[8];
        std::snprintf(name, sizeof name, "<0x%02X>", (unsigned char)c);
        const auto it = vocabulary.find(std::string_view(name));
        if (it == vocabulary.end()) {
            ids.resize(before);
            return false;
        }
        ids.push_back(it->second);
    }
    return true;
}

namespace {

class WordLevel : public WordModel {
  public:
    explicit WordLevel(const Fields& f) : where_(f.where()) {
        if (!f.at("vocab").is_object()) { f.fail("'vocab' is not an object"); }
        for (const auto& [piece, id] : f.at("vocab").items()) { ids_[piece] = id.get<int>(); }
        const auto unknown = ids_.find(f.text("unk_token"));
        if (unknown != ids_.end()) { unknown_ = unknown->second; }
    }
    void encode(std::string_view word, std::vector<int>& ids) override {
        const auto it = ids_.find(word);
        const int id = it == ids_.end() ? unknown_ : it->second;
        if (id < 0) {
            throw Error(where_ + ": a word is not in its vocabulary, nor has it a token for unknown words");
        }
        ids.push_back(id);
    }

  private:
    std::string where_;
    PieceIds ids_;
    int unknown_ = -1;
};

}  // namespace

std::unique_ptr<WordModel> make_word_model(const json& j, const std::string& path) {
    const std::string where = path + ": its model";
    const Fields f(j, where);
    // older files do not name it
    const std::string otherwise = f.has("merges")            ? "BPE"
                                  : f.at("vocab").is_array() ? "Unigram"
                                                             : "WordLevel";
    const std::string type = f.text("type", otherwise);
    if (type == "BPE") { return make_bpe(j, where); }
    if (type == "Unigram") { return make_unigram(j, where); }
    if (type == "WordLevel") { return std::make_unique<WordLevel>(f); }
    f.fail(type.substr(0, 40) + " is not supported");
}

}  // namespace moba

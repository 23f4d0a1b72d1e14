#include "train/data/fingerprint.h"
#include "train/data/hash.h"
#include "train/tokenizer/tokenizer.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

static bool is_file(const std::string& tokenizer) { return !tokenizer.empty() && tokenizer != "bytes"; }

json fingerprint_of(const TokenFiles& files) {
    const Vocabulary& v = files.vocabulary();
    std::string tokenizer = v.tokenizer;
    if (is_file(tokenizer)) {
        const std::string text = tokenizer_json(tokenizer);
        tokenizer = hash_text(hash_bytes(text.data(), text.size()));
    }
    return {{"content", hash_text(files.content_hash())},
            {"vocabulary", v.size},
            {"end token", v.end_token},
            {"tokenizer", tokenizer}};
}

void check_same_data(const json& trained_on, const json& now, const std::string& who) {
    const json before = trained_on.is_object() ? trained_on.value("fingerprint", json::object()) : json();
    for (const auto& [option, values] : now.items()) {
        if (!before.is_object() || !before.contains(option) || !before[option].is_object()) { continue; }
        for (const char* part : {"vocabulary", "end token", "tokenizer", "content"}) {
            const json was = before[option].value(part, json()), is = values.value(part, json());
            if (was == is) { continue; }
            throw Error(who + ": --" + option + " has changed since the training: another " + part +
                        (is.is_number() ? " (" + was.dump() + " then, " + is.dump() + " now)" : ""));
        }
    }
}

void check_tokenizer(const std::string& model, const Vocabulary& data, const std::string& what) {
    if (model.empty() || data.tokenizer.empty() || model == data.tokenizer) { return; }
    if (!is_file(data.tokenizer)) {
        throw Error(what + ": is plain text, whose tokens are bytes, but the model has the tokenizer " +
                    model + "; encode it with --tokenizer");
    }
    if (!is_file(model)) {
        throw Error(what + ": has tokens of " + data.tokenizer + ", but the model's tokens are bytes");
    }
    if (Tokenizer(model).has_vocabulary_of(Tokenizer(data.tokenizer))) { return; }
    throw Error(what + ": has tokens of " + data.tokenizer + ", but the model has another tokenizer, " +
                model);
}

}  // namespace moba

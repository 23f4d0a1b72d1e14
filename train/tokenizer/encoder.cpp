#include "train/tokenizer/encoder.h"
#include "train/tokenizer/fields.h"

namespace moba {

using nlohmann::json;

Encoder::Encoder(const json& j, const std::string& path)
    : normalizer_(j.value("normalizer", json()), path),
      pre_tokenizer_(j.value("pre_tokenizer", json()), path),
      added_(j.value("added_tokens", json::array()), normalizer_, path),
      model_(make_word_model(j.at("model"), path)) {
    add_post_processor(j.value("post_processor", json()), path);
}

static int id_field(const Fields& f, const json& id) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= 1 << 24) { f.fail("has no id from 0 to 2^24 - 1"); }
    return id.get<int>();
}

void Encoder::add_post_processor(const json& j, const std::string& path) {
    if (j.is_null()) { return; }
    each_part(j, "processors", path + ": its post_processor", [&](const Fields& f) {
        const std::string type = f.text("type");
        if (type == "ByteLevel") { return; }  // only changes where tokens are said to be
        if (type == "BertProcessing" || type == "RobertaProcessing") {
            for (const auto& [key, list] : {std::pair{"cls", &before_}, {"sep", &after_}}) {
                const json& pair = f.list(key);
                if (pair.size() != 2) { f.fail(std::string("'") + key + "' is not a token and its id"); }
                list->push_back(id_field(f, pair[1]));
            }
            return;
        }
        if (type != "TemplateProcessing") { f.fail(type.substr(0, 40) + " is not supported"); }
        bool seen = false;  // the text itself
        for (const json& part : f.list("single")) {
            if (part.is_object() && part.contains("Sequence")) {
                seen = true;
                continue;
            }
            const Fields entry(part, f.where() + ": 'single'");
            const Fields special(entry.at("SpecialToken"), entry.where());
            const Fields known(f.at("special_tokens"), f.where() + ": 'special_tokens'");
            const Fields token(known.at(special.text("id").c_str()), known.where());
            for (const json& id : token.list("ids")) {
                (seen ? after_ : before_).push_back(id_field(token, id));
            }
        }
    });
}

std::vector<int> Encoder::encode(std::string_view text, SpecialNames special) {
    using Stage = AddedTokens::Stage;
    std::vector<int> ids;
    const auto put = [&](int id) { ids.push_back(id); };
    const auto words = [&](Piece word) { model_->encode(word.text, ids); };
    added_.split(
        text, Stage::before_normalizer, special,
        [&](size_t begin, size_t end) {
            std::string_view part = text.substr(begin, end - begin);
            std::string normalized;
            if (!normalizer_.is_empty()) {
                normalized = normalizer_.apply(part);
                part = normalized;
            }
            added_.split(
                part, Stage::after_normalizer, special,
                [&](size_t b, size_t e) {
                    pre_tokenizer_.cut({part.substr(b, e - b), begin == 0 && b == 0}, words);
                },
                put);
        },
        put);
    return ids;
}

}  // namespace moba

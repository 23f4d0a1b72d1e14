#include "train/tokenizer/normalizer.h"
#include "train/tokenizer/byte_letters.h"
#include "train/tokenizer/fields.h"
#include "train/tokenizer/precompiled.h"
#include "train/tokenizer/regex.h"
#include "train/tokenizer/unicode.h"

namespace moba {

using nlohmann::json;
using Step = std::function<std::string(std::string_view)>;

// All matches of the pattern become `content`.
static Step replace(const Fields& f) {
    const Fields pattern(f.at("pattern"), f.where() + ": Replace: 'pattern'");
    const std::string content = f.text("content");
    if (pattern.has("String")) {
        return [from = pattern.text("String"), content](std::string_view text) {
            std::string out;
            size_t at = 0;
            for (size_t next; !from.empty() && (next = text.find(from, at)) != text.npos;
                 at = next + from.size()) {
                out.append(text, at, next - at).append(content);
            }
            return out.append(text, at, text.npos);
        };
    }
    return [regex = Regex(pattern.text("Regex"), f.where()), content](std::string_view text) {
        std::string out;
        size_t at = 0;
        regex.each(text, [&](size_t begin, size_t end) {
            out.append(text, at, begin - at).append(content);
            at = end;
        });
        return out.append(text, at, text.npos);
    };
}

// Without white space at its left, or right end.
static Step strip(const Fields& f) {
    const bool left = f.flag("strip_left", true), right = f.flag("strip_right", true);
    return [=, head = Regex("\\A\\s+", f.where())](std::string_view text) {
        size_t begin = 0, end = 0;
        if (right) { text = text.substr(0, Regex::blanks_before(text, text.size())); }
        if (left && head.find(text, 0, begin, end)) { text = text.substr(end); }
        return std::string(text);
    };
}

static Step step_of(const Fields& f) {
    const std::string type = f.text("type");
    for (const auto& [name, form] : {std::pair{"NFC", NormalForm::nfc},
                                     {"NFD", NormalForm::nfd},
                                     {"NFKC", NormalForm::nfkc},
                                     {"NFKD", NormalForm::nfkd}}) {
        if (type == name) {
            return [form = form](std::string_view text) { return normal_form(text, form); };
        }
    }
    if (type == "Lowercase") { return lower_case; }
    if (type == "StripAccents") { return without_accents; }
    if (type == "Strip") { return strip(f); }
    if (type == "Replace") { return replace(f); }
    if (type == "Prepend") {
        return [head = f.text("prepend")](std::string_view text) {
            return text.empty() ? "" : head + std::string(text);
        };
    }
    if (type == "ByteLevel") {
        return [](std::string_view text) {
            std::string out;
            append_byte_letters(text, out);
            return out;
        };
    }
    if (type == "Precompiled") {
        return [table = Precompiled(f.text("precompiled_charsmap"), f.where())](std::string_view text) {
            return table.apply(text);
        };
    }
    f.fail(type.substr(0, 40) + " is not supported");
}

Normalizer::Normalizer(const json& j, const std::string& path) : where_(path + ": its normalizer") {
    if (j.is_null()) { return; }
    each_part(j, "normalizers", where_, [&](const Fields& f) { steps_.push_back(step_of(f)); });
}

std::string Normalizer::apply(std::string_view text) const {
    std::string out(text);
    const size_t most = 100 * text.size() + (1 << 20);
    for (const Step& step : steps_) {
        out = step(out);
        // a file can make every letter a hundred, again and again
        need(out.size() <= most, where_ + ": makes the text more than a hundred times as long");
    }
    return out;
}

}  // namespace moba

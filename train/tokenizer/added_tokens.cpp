#include "train/tokenizer/added_tokens.h"
#include "train/core/utf8.h"
#include "train/tokenizer/fields.h"
#include "train/tokenizer/normalizer.h"
#include "train/tokenizer/regex.h"
#include <algorithm>

namespace moba {

using nlohmann::json;

AddedTokens::AddedTokens(const json& list, const Normalizer& normalizer, const std::string& path) {
    for (const json& entry : list) {
        const Fields f(entry, path + ": an entry of 'added_tokens'");
        Name name{f.at("id").get<int>(),    0,
                  f.flag("special", false), f.flag("single_word", false),
                  f.flag("lstrip", false),  f.flag("rstrip", false)};
        const bool normalized = f.flag("normalized", !name.special);
        std::string text = f.text("content");
        if (normalized && !normalizer.is_empty()) { text = normalizer.apply(text); }
        if (text.empty()) { continue; }
        name.bytes = text.size();
        Names& names = names_[normalized ? 1 : 0];
        names.lengths[(unsigned char)text[0]].push_back(text.size());
        names.by_text.try_emplace(text, name);  // of equal names the first
    }
    for (Names& names : names_) {
        for (std::vector<size_t>& same : names.lengths) {
            std::sort(same.begin(), same.end(), std::greater<>());
            same.erase(std::unique(same.begin(), same.end()), same.end());
        }
    }
}

const AddedTokens::Name* AddedTokens::Names::at(std::string_view text) const {
    for (const size_t length : lengths[(unsigned char)text[0]]) {
        const auto it = length <= text.size() ? by_text.find(text.substr(0, length)) : by_text.end();
        if (it != by_text.end()) { return &it->second; }
    }
    return nullptr;
}

// A name of a single word has no letter, mark or digit beside it.
static bool stands_alone(std::string_view text, size_t begin, size_t end) {
    static const Regex before(std::string("[") + word_characters + "]\\z", "added_tokens"),
        after(std::string("\\A[") + word_characters + "]", "added_tokens");
    size_t a, b;
    constexpr size_t most = 4;  // bytes of a character
    const std::string_view rest = text.substr(end, most);
    size_t from = begin - std::min(begin, most);
    while (from < begin && continues_character(text[from])) { from++; }
    if (before.find(text.substr(from, begin - from), 0, a, b)) { return false; }
    size_t whole = rest.size();  // of the next characters that are whole
    while (whole > 0 && end + whole < text.size() && continues_character(text[end + whole])) { whole--; }
    return !after.find(rest.substr(0, whole), 0, a, b);
}

static size_t blanks_after(std::string_view text, size_t begin) {
    static const Regex blanks("\\A\\s+", "added_tokens");
    size_t a, b;
    return blanks.find(text.substr(begin), 0, a, b) ? begin + b : begin;
}

void AddedTokens::split(std::string_view text, Stage stage, SpecialNames special,
                        const std::function<void(size_t, size_t)>& between,
                        const std::function<void(int)>& token) const {
    const Names& names = names_[stage == Stage::after_normalizer];
    if (names.by_text.empty()) { return between(0, text.size()); }
    size_t done = 0;
    for (size_t at = 0; at < text.size();) {
        const Name* name = names.at(text.substr(at));
        if (!name) {
            at++;
            continue;
        }
        size_t begin = at, end = at + name->bytes;
        at = end;
        if (name->special && special == SpecialNames::text) { continue; }
        if (name->single_word && !stands_alone(text, begin, end)) { continue; }
        // never white space that was looked at before: a name may be a blank itself
        if (name->lstrip && begin > done) {
            begin = done + Regex::blanks_before(text.substr(done), begin - done);
        }
        if (name->rstrip) { end = blanks_after(text, std::max(end, done)); }
        if (begin > done) { between(done, begin); }
        token(name->id);
        done = std::max(end, done);
    }
    if (done < text.size()) { between(done, text.size()); }
}

}  // namespace moba

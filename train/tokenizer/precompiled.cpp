#include "train/tokenizer/precompiled.h"
#include "moba/core/base.h"
#include "train/core/utf8.h"
#include "train/tokenizer/unicode.h"
#include "train/tokenizer/word_model.h"

namespace moba {

static std::string from_base64(const std::string& text, const std::string& where) {
    std::string out;
    uint32_t bits = 0;
    int count = 0;
    for (const char c : text) {
        const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                          : c >= 'a' && c <= 'z' ? c - 'a' + 26
                          : c >= '0' && c <= '9' ? c - '0' + 52
                          : c == '+'             ? 62
                          : c == '/'             ? 63
                                                 : -1;
        if (c == '=') { break; }
        need(value >= 0, where + ": 'precompiled_charsmap' is not base64");
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count >= 8) {
            count -= 8;
            out += (char)(bits >> count);
        }
    }
    return out;
}

Precompiled::Precompiled(const std::string& base64, const std::string& where) {
    const std::string bytes = from_base64(base64, where);
    const auto bad = [&](bool is_bad) { need(!is_bad, where + ": 'precompiled_charsmap' is damaged"); };
    if (bytes.empty()) { return; }
    uint32_t tree_bytes = 0;
    bad(bytes.size() < 4);
    std::memcpy(&tree_bytes, bytes.data(), 4);
    bad(tree_bytes % 4 != 0 || tree_bytes == 0 || tree_bytes > bytes.size() - 4);
    tree_.resize(tree_bytes / 4);
    std::memcpy(tree_.data(), bytes.data() + 4, tree_bytes);
    texts_ = bytes.substr(4 + tree_bytes);
}

const char* Precompiled::find(std::string_view part) const {
    const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & 1 << 9) >> 6); };
    if (tree_.empty()) { return nullptr; }
    uint32_t node = offset(tree_[0]);
    for (const char c : part) {
        const auto byte = (unsigned char)c;
        node ^= byte;
        if (byte == 0 || node >= tree_.size() || (tree_[node] & (1u << 31 | 0xFF)) != byte) {
            return nullptr;
        }
        const bool ends = tree_[node] >> 8 & 1;
        node ^= offset(tree_[node]);
        if (ends) {  // the shortest one
            const uint32_t at = node < tree_.size() ? tree_[node] & ~(1u << 31) : UINT32_MAX;
            return at < texts_.size() ? texts_.c_str() + at : nullptr;
        }
    }
    return nullptr;
}

std::string Precompiled::apply(std::string_view text) const {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t length = grapheme_bytes(text.substr(at));
        const std::string_view grapheme = text.substr(at, length);
        at += length;
        if (const char* becomes = length < 6 ? find(grapheme) : nullptr) {
            out += becomes;
            continue;
        }
        for (size_t i = 0; i < length;) {
            const std::string_view character = grapheme.substr(i, character_bytes(grapheme[i]));
            i += character.size();
            const char* becomes = find(character);
            becomes ? out += becomes : out += character;
        }
    }
    return out;
}

}  // namespace moba

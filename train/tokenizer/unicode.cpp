#include "train/tokenizer/unicode.h"
#include "moba/core/base.h"
#include <algorithm>
#include <cstdlib>

#ifdef MOBA_UNICODE
#include <utf8proc.h>
#endif

namespace moba {

#ifdef MOBA_UNICODE

static bool is_ascii(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return (unsigned char)c < 0x80; });
}

std::string normal_form(std::string_view text, NormalForm form) {
    if (text.empty() || is_ascii(text)) { return std::string(text); }
    const bool composed = form == NormalForm::nfc || form == NormalForm::nfkc;
    const bool compatible = form == NormalForm::nfkc || form == NormalForm::nfkd;
    const int options = UTF8PROC_STABLE | (composed ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                        (compatible ? UTF8PROC_COMPAT : 0);
    utf8proc_uint8_t* out = nullptr;
    const utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t*)text.data(),
                                            (utf8proc_ssize_t)text.size(), &out, (utf8proc_option_t)options);
    if (n < 0) { throw Error(std::string("text cannot be normalized: ") + utf8proc_errmsg(n)); }
    std::string result((const char*)out, (size_t)n);
    std::free(out);
    return result;
}

// Calls change(code, out) for each character; it appends what takes the character's place.
template <class Change>
static std::string each_character(std::string_view text, Change change) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        utf8proc_int32_t code = 0;
        const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t*)text.data() + at,
                                                    (utf8proc_ssize_t)(text.size() - at), &code);
        REQUIRE(n > 0, "valid UTF-8");
        change(code, out);
        at += (size_t)n;
    }
    return out;
}

static void append(utf8proc_int32_t code, std::string& out) {
    utf8proc_uint8_t bytes[4];
    out.append((const char*)bytes, (size_t)utf8proc_encode_char(code, bytes));
}

std::string lower_case(std::string_view text) {
    return each_character(text, [](utf8proc_int32_t code, std::string& out) {
        append(utf8proc_tolower(code), out);
        if (code == 0x130) { out += "\xCC\x87"; }  // the only letter that becomes two: i and a dot above
    });
}

std::string without_accents(std::string_view text) {
    return each_character(text, [](utf8proc_int32_t code, std::string& out) {
        const utf8proc_category_t c = utf8proc_category(code);
        const bool mark = c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
        if (!mark) { append(code, out); }
    });
}

size_t grapheme_bytes(std::string_view text) {
    utf8proc_int32_t before = 0, code = 0, state = 0;
    size_t at = 0;
    while (at < text.size()) {
        const utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t*)text.data() + at,
                                                    (utf8proc_ssize_t)(text.size() - at), &code);
        REQUIRE(n > 0, "valid UTF-8");
        if (at > 0 && utf8proc_grapheme_break_stateful(before, code, &state)) { break; }
        before = code;
        at += (size_t)n;
    }
    return at;
}

#else

static std::string refused() { throw Error(built_without); }
std::string normal_form(std::string_view, NormalForm) { return refused(); }
std::string lower_case(std::string_view) { return refused(); }
std::string without_accents(std::string_view) { return refused(); }
size_t grapheme_bytes(std::string_view) { return refused().size(); }

#endif

}  // namespace moba

#include "train/tokenizer/regex.h"
#include "moba/core/base.h"
#include "train/core/utf8.h"
#include "train/tokenizer/unicode.h"
#include <algorithm>

#ifdef MOBA_UNICODE
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

namespace moba {

// Alphabetic of Unicode is letters, letter numbers, many marks, and the circled and squared letters.
#define ALPHABETIC_AND_DIGITS                                                                                \
    R"(\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{24B6}-\x{24E9}\x{1F130}-\x{1F149}\x{1F150}-\x{1F169}\x{1F170}-\x{1F189})"
const char* const word_characters = ALPHABETIC_AND_DIGITS R"(\x{200C}\x{200D})";
// as Oniguruma has it: without the joiners, and with the six small numbers of Latin-1
static const char* const w_characters = ALPHABETIC_AND_DIGITS R"(\x{B2}\x{B3}\x{B9}\x{BC}-\x{BE})";
// PCRE2's own \s has U+180E, which is no white space since Unicode 6.3.
const char* const space_characters = R"(\t-\r\x{85}\p{Z})";

std::string Regex::quoted(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (std::string_view("\\^$.|?*+()[]{}-# ").find(c) != std::string_view::npos) { out += '\\'; }
        out += c;
    }
    return out;
}

size_t Regex::blanks_before(std::string_view text, size_t end) {
    static const Regex blank("\\A\\s\\z", "white space");
    while (end > 0) {
        size_t from = end - 1, a, b;
        while (from > 0 && continues_character(text[from])) { from--; }
        if (!blank.find(text.substr(from, end - from), 0, a, b)) { break; }
        end = from;
    }
    return end;
}

std::string Regex::to_pcre2(const std::string& pattern, const std::string& where) {
    const auto fail = [&](const std::string& what) {
        throw Error(where + ": the regular expression has " + what + ", which is not supported");
    };
    const auto next = [&](size_t i) { return i < pattern.size() ? pattern[i] : '\0'; };
    std::string out;
    int depth = 0;  // of brackets
    for (size_t i = 0; i < pattern.size(); i++) {
        const char c = pattern[i];
        if (c != '\\') {
            if (depth == 0) {
                if (c == '{' && next(i + 1) == ',') { fail("'{,'"); }
                // possessive in PCRE2, one or more times in Oniguruma
                if (c == '}' && next(i + 1) == '+') { fail("'}+'"); }
                if (c == '[' && next(i + 1 + (next(i + 1) == '^')) == ']') { fail("']' first in brackets"); }
                if (c == '(' && next(i + 1) == '*') { fail("'(*'"); }
                if (c == '(' && next(i + 1) == '?') {
                    size_t end = i + 2;  // of options: m means s there, and some reach further there
                    while (std::isalpha((unsigned char)next(end)) || next(end) == '-') { end++; }
                    const std::string options = pattern.substr(i + 2, end - i - 2);
                    if (options.find_first_not_of("ix-") != options.npos) { fail("'(?" + options + "'"); }
                    if (!options.empty() && next(end) == ')' && i > 0) {
                        fail("options after its beginning");
                    }
                }
            }
            if (c == '[' && depth > 0 && i + 1 < pattern.size() && pattern[i + 1] != ':') {
                fail("brackets inside brackets");
            }
            if (c == '[' && (depth == 0 || pattern[i + 1] == ':')) { depth++; }
            if (c == ']' && depth > 0) { depth--; }
            if (c == '&' && depth > 0 && i + 1 < pattern.size() && pattern[i + 1] == '&') { fail("&&"); }
            out += c;
            continue;
        }
        if (++i == pattern.size()) { fail("a backslash at its end"); }
        const char e = pattern[i];
        const std::string escape = std::string("\\") + e;
        if (e == 's' || e == 'w') {
            const std::string characters = e == 's' ? space_characters : w_characters;
            out += depth ? characters : "[" + characters + "]";
        } else if (e == 'S' || e == 'W') {
            if (depth) { fail(escape + " inside brackets"); }
            out += std::string("[^") + (e == 'S' ? space_characters : w_characters) + "]";
        } else if (std::isalnum((unsigned char)e) &&
                   std::string_view("pPdDnrtfxAz").find(e) == std::string_view::npos) {
            fail(escape);
        } else {
            out += escape;
            if (std::string_view("pPx").find(e) != std::string_view::npos && next(i + 1) == '{') {
                for (char b = '\0'; b != '}' && i + 1 < pattern.size();) { out += b = pattern[++i]; }
            }
        }
    }
    return out;
}

#ifdef MOBA_UNICODE

bool regex_available() { return true; }

static std::string pcre2_message(int code) {
    char text[200];
    pcre2_get_error_message(code, (PCRE2_UCHAR*)text, sizeof text);
    return text;
}

Regex::Regex(const std::string& pattern, const std::string& where) : where_(where) {
    const std::string text = to_pcre2(pattern, where);
    int error = 0;
    size_t at = 0;
    const std::shared_ptr<pcre2_compile_context> settings(pcre2_compile_context_create(nullptr),
                                                          pcre2_compile_context_free);
    pcre2_set_newline(settings.get(), PCRE2_NEWLINE_LF);
    pcre2_set_parens_nest_limit(settings.get(), 50);
    pcre2_code* code = pcre2_compile((PCRE2_SPTR)text.data(), text.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                     &error, &at, settings.get());
    if (!code) {
        throw Error(where + ": the regular expression '" + pattern.substr(0, 60) +
                    "' is not valid: " + pcre2_message(error));
    }
    code_ = {code, [](void* p) { pcre2_code_free((pcre2_code*)p); }};
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);  // without it the interpreter matches
    match_ = {pcre2_match_data_create(1, nullptr),
              [](void* p) { pcre2_match_data_free((pcre2_match_data*)p); }};
    context_ = {pcre2_match_context_create(nullptr),
                [](void* p) { pcre2_match_context_free((pcre2_match_context*)p); }};
    auto* context = (pcre2_match_context*)context_.get();
    pcre2_set_match_limit(context, 100'000'000);
    stack_ = {pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr),
              [](void* p) { pcre2_jit_stack_free((pcre2_jit_stack*)p); }};
    pcre2_jit_stack_assign(context, nullptr, stack_.get());
}

bool Regex::find(std::string_view text, size_t from, size_t& begin, size_t& end) const {
    auto* match = (pcre2_match_data*)match_.get();
    const int found = pcre2_match((const pcre2_code*)code_.get(), (PCRE2_SPTR)text.data(), text.size(), from,
                                  PCRE2_NO_UTF_CHECK, match, (pcre2_match_context*)context_.get());
    if (found == PCRE2_ERROR_NOMATCH) { return false; }
    if (found < 0) {
        throw Error(where_ + ": the regular expression fails on this text: " + pcre2_message(found));
    }
    const size_t* place = pcre2_get_ovector_pointer(match);
    begin = place[0], end = std::max(place[0], place[1]);
    return true;
}

#else

bool regex_available() { return false; }
Regex::Regex(const std::string&, const std::string& where) { throw Error(where + ": " + built_without); }
bool Regex::find(std::string_view, size_t, size_t&, size_t&) const { return false; }

#endif

}  // namespace moba

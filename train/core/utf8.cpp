#include "train/core/utf8.h"
#include <algorithm>
#include <cstdio>

namespace moba {

static std::string hex(char c) {
    char text[8];
    std::snprintf(text, sizeof text, "\\x%02x", (unsigned char)c);
    return text;
}

/* The character that begins at `at`: how many of its bytes are right, and whether it is whole. RFC 3629: no
   overlong forms, no surrogates, nothing above U+10FFFF. */
struct Character {
    size_t bytes;
    bool whole;
};
static Character character_at(const std::string& text, size_t at) {
    const auto byte = [&](size_t i) { return i < text.size() ? (unsigned char)text[i] : 0u; };
    const unsigned first = byte(at), second = byte(at + 1);
    if (first < 0x80) { return {1, true}; }
    const size_t n = first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0;
    const bool overlong = (first == 0xE0 && second < 0xA0) || (first == 0xF0 && second < 0x90);
    const bool beyond = (first == 0xED && second > 0x9F) || (first == 0xF4 && second > 0x8F);
    if (n == 0 || overlong || beyond) { return {0, false}; }
    for (size_t i = 1; i < n; i++) {
        if ((byte(at + i) & 0xC0) != 0x80) { return {i, false}; }
    }
    return {n, true};
}

// Bytes of the character that begins at `at`, or 0 when there is none.
static size_t character_bytes_at(const std::string& text, size_t at) {
    const Character c = character_at(text, at);
    return c.whole ? c.bytes : 0;
}

// Calls whole(at, bytes) for each character, and broken() for each place without one.
template <class Whole, class Broken>
static void each_character(const std::string& text, Whole whole, Broken broken) {
    for (size_t at = 0; at < text.size();) {
        const Character c = character_at(text, at);
        if (c.whole) {
            whole(at, c.bytes);
        } else {
            broken();
        }
        at += std::max<size_t>(c.bytes, 1);
    }
}

size_t count_invalid_utf8(const std::string& text) {
    size_t count = 0;
    each_character(
        text, [](size_t, size_t) {}, [&] { count++; });
    return count;
}

std::string replace_invalid_utf8(const std::string& text) {
    if (count_invalid_utf8(text) == 0) { return text; }
    std::string out;
    each_character(
        text, [&](size_t at, size_t n) { out.append(text, at, n); }, [&] { out += "\xEF\xBF\xBD"; });
    return out;
}

std::string valid_utf8(const std::string& text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t n = character_bytes_at(text, at);
        if (n) {
            out.append(text, at, n);
        } else {
            out += hex(text[at]);
        }
        at += n ? n : 1;
    }
    return out;
}

std::string visible_text(const std::string& text) {
    std::string out;
    for (const char c : valid_utf8(text)) {
        const unsigned char byte = (unsigned char)c;
        out += c == '\n' ? "\\n" : byte < ' ' || byte == 127 ? hex(c) : std::string(1, c);
    }
    return out;
}

}  // namespace moba

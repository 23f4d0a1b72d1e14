/* Text that comes as bytes: tokens, files, messages. */
#pragma once
#include <cstddef>
#include <string>

namespace moba {

/* For valid UTF-8. Whether this byte of a character is not its first one. */
inline bool continues_character(char byte) { return ((unsigned char)byte & 0xC0) == 0x80; }
/* For valid UTF-8. How many bytes the character has that begins with this one. */
inline size_t character_bytes(char first) {
    const auto byte = (unsigned char)first;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/* The text, with each byte that is not part of valid UTF-8 written as \xNN. */
std::string valid_utf8(const std::string& text);

/* The text, with U+FFFD in place of bytes that are not UTF-8: one for each longest beginning of a character,
   as Unicode recommends and Python does. */
std::string replace_invalid_utf8(const std::string& text);
size_t count_invalid_utf8(const std::string& text);  // how many U+FFFD that are

/* valid_utf8() with control characters made visible: a new line is \n, any other one \xNN. */
std::string visible_text(const std::string& text);

}  // namespace moba

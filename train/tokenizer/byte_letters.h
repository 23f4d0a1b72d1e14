/* GPT-2 writes every byte as a visible character: the character of the same code where that is visible, else
   the next code from 256 on. A blank is U+0120, the end of a line U+010A. */
#pragma once
#include <array>
#include <string>
#include <string_view>

namespace moba {

/* The letter of each byte, in UTF-8. */
const std::array<std::string, 256>& byte_letters();

/* The bytes of a token. A token with a character that stands for no byte, such as an added one, is text
   already and comes back as it is. */
std::string from_byte_letters(const std::string& token);

/* Appends the letters of all bytes of the text. */
void append_byte_letters(std::string_view text, std::string& out);

}  // namespace moba

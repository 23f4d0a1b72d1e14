/* Text that comes as bytes: tokens, files, messages. */
#pragma once
#include <string>

namespace moba {

/* The text, with each byte that is not part of valid UTF-8 written as \xNN. */
std::string valid_utf8(const std::string& text);

/* valid_utf8() with control characters made visible: a new line is \n, any other one \xNN. */
std::string visible_text(const std::string& text);

}  // namespace moba

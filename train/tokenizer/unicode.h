/* What Unicode says about whole texts, by utf8proc (https://juliastrings.github.io/utf8proc). All texts are
   valid UTF-8. Throws Error if the program was built without it. */
#pragma once
#include <string>
#include <string_view>

namespace moba {

/* The message where PCRE2 and utf8proc would be needed, and the program was built without them. */
constexpr const char* built_without = "this program was built without PCRE2 and utf8proc, so it cannot "
                                      "encode text with a tokenizer.json (Debian: "
                                      "libpcre2-dev, libutf8proc-dev)";

enum class NormalForm { nfc, nfd, nfkc, nfkd };
std::string normal_form(std::string_view text, NormalForm);
std::string lower_case(std::string_view text);
/* Without marks (category M), such as accents after normal_form(nfd). */
std::string without_accents(std::string_view text);
/* Bytes of the grapheme that the text begins with: what a reader sees as one character. */
size_t grapheme_bytes(std::string_view text);

}  // namespace moba

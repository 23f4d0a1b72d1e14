/* Regular expressions as tokenizer files have them, matched by PCRE2 (https://www.pcre.org).

   Source    Hugging Face's tokenizers use Oniguruma, whose dialect is Ruby's. Where PCRE2 means something
             else by the same sign, the pattern is changed: \s does not match U+180E, \w matches letters,
             marks, digits and connectors. ^ and $ match at every line
   Unicode   version of the PCRE2 that is installed; characters of later versions are no letters here
   Errors    throws Error for a pattern that is not valid, or has a sign that is not known to mean the same in
             both; and at the first use if the program was built without PCRE2 */
#pragma once
#include "train/core/utf8.h"
#include <memory>
#include <string>
#include <string_view>

namespace moba {

bool regex_available();  // whether the program was built with PCRE2 and utf8proc

class Regex {
  public:
    /* where: the file and the place, for messages. */
    Regex(const std::string& pattern, const std::string& where);
    /* The first match that begins at `from` or later; it may be empty. Returns false if there is none. The
       text must be valid UTF-8, and `from` the beginning of a character. */
    bool find(std::string_view text, size_t from, size_t& begin, size_t& end) const;
    /* Calls match(begin, end) for all matches, one after another; they do not overlap. */
    template <class Match>
    void each(std::string_view text, Match match) const {
        for (size_t begin, end, from = 0; from <= text.size() && find(text, from, begin, end);) {
            match(begin, end);
            from = end;
            if (begin < end) { continue; }
            // after an empty match: from the next character on
            do { from++; } while (from < text.size() && continues_character(text[from]));
        }
    }

    /* The pattern in PCRE2's dialect. Throws Error. */
    static std::string to_pcre2(const std::string& pattern, const std::string& where);
    /* A pattern that matches this text and nothing else. */
    static std::string quoted(const std::string& text);
    /* Where the white space begins that ends at `end`; `end` if there is none. A search for \s+\z would try
       every blank of the text. */
    static size_t blanks_before(std::string_view text, size_t end);

  private:
    std::shared_ptr<void> code_, match_, context_, stack_;
    std::string where_;
};

/* The characters of words as Rust has them, and white space, to stand inside brackets of a pattern. */
extern const char* const word_characters;
extern const char* const space_characters;

}  // namespace moba

#include "train/tokenizer/pre_tokenizer.h"
#include "train/core/utf8.h"
#include "train/tokenizer/byte_letters.h"
#include "train/tokenizer/fields.h"
#include "train/tokenizer/regex.h"
#include "train/tokenizer/word_model.h"

namespace moba {

using nlohmann::json;
using Step = std::function<void(Piece, const PieceSink&)>;

namespace {

enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

Behavior parse_behavior(const Fields& f, const char* otherwise) {
    const std::string name = f.text("behavior", otherwise);
    const std::pair<const char*, Behavior> names[] = {{"Removed", Behavior::removed},
                                                      {"Isolated", Behavior::isolated},
                                                      {"MergedWithPrevious", Behavior::merged_with_previous},
                                                      {"MergedWithNext", Behavior::merged_with_next},
                                                      {"Contiguous", Behavior::contiguous}};
    for (const auto& [known, behavior] : names) {
        if (name == known) { return behavior; }
    }
    f.fail("the behavior '" + name.substr(0, 40) + "' is not known");
}

/* Puts stretches of text together: matches of a pattern and the text between them, in turn. */
class Joiner {
  public:
    Joiner(Piece piece, Behavior behavior, const PieceSink& out)
        : piece_(piece), behavior_(behavior), out_(out) {}
    void add(size_t begin, size_t end, bool match) {
        const bool same = match == was_match_;
        bool joined = false;
        switch (behavior_) {
        case Behavior::removed:
            end = match ? begin : end;
            break;
        case Behavior::isolated:
            break;
        case Behavior::merged_with_previous:
            joined = match && !was_match_;
            break;
        case Behavior::merged_with_next:
            joined = !match && was_match_;
            break;
        case Behavior::contiguous:
            joined = same;
            break;
        }
        was_match_ = match;
        if (joined && held_) {
            end_ = end;
            return;
        }
        flush();
        begin_ = begin, end_ = end, held_ = true;
    }
    void flush() {
        if (held_ && end_ > begin_) {
            out_({piece_.text.substr(begin_, end_ - begin_), piece_.first && begin_ == 0});
        }
        held_ = false;
    }

  private:
    Piece piece_;
    Behavior behavior_;
    const PieceSink& out_;
    size_t begin_ = 0, end_ = 0;
    bool held_ = false, was_match_ = false;
};

void split(const Regex& regex, Behavior behavior, bool invert, Piece piece, const PieceSink& out) {
    Joiner joiner(piece, behavior, out);
    const std::string_view text = piece.text;
    size_t done = 0;
    regex.each(text, [&](size_t begin, size_t end) {
        if (begin > done) { joiner.add(done, begin, invert); }
        joiner.add(begin, end, !invert);
        done = end;
    });
    if (done < text.size()) { joiner.add(done, text.size(), invert); }
    joiner.flush();
}

Step split_step(const std::string& pattern, Behavior behavior, bool invert, const std::string& where) {
    return [=, regex = Regex(pattern, where)](Piece piece, const PieceSink& out) {
        split(regex, behavior, invert, piece, out);
    };
}

Step split_of(const Fields& f) {
    const Fields pattern(f.at("pattern"), f.where() + ": Split: 'pattern'");
    const std::string regex =
        pattern.has("String") ? Regex::quoted(pattern.text("String")) : pattern.text("Regex");
    return split_step(regex, parse_behavior(f, "Isolated"), f.flag("invert", false), f.where());
}

// GPT-2's words
const char* const gpt2_words =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

Step byte_level(const Fields& f) {
    const bool prefix = f.flag("add_prefix_space", true);
    const auto words = f.flag("use_regex", true) ? std::make_shared<Regex>(gpt2_words, f.where()) : nullptr;
    return [=](Piece piece, const PieceSink& out) {
        std::string with_blank, letters;
        if (prefix && !piece.text.starts_with(' ')) {
            with_blank = " " + std::string(piece.text);
            piece.text = with_blank;
        }
        const auto emit = [&](Piece word) {
            letters.clear();
            append_byte_letters(word.text, letters);
            out({letters, word.first});
        };
        if (!words) { return emit(piece); }
        split(*words, Behavior::isolated, false, piece, emit);
    };
}

Step metaspace(const Fields& f) {
    const std::string blank = f.text("replacement", "\xE2\x96\x81");
    if (blank.empty() || character_bytes(blank[0]) != blank.size()) {
        f.fail("the replacement '" + blank.substr(0, 40) + "' is not one character");
    }
    const bool without = !f.flag("add_prefix_space", true);  // older files
    const std::string scheme = f.text("prepend_scheme", without ? "never" : "always");
    if (scheme != "always" && scheme != "first" && scheme != "never") {
        f.fail("the prepend_scheme '" + scheme.substr(0, 40) + "' is not known");
    }
    const auto cut =
        f.flag("split", true) ? std::make_shared<Regex>(Regex::quoted(blank), f.where()) : nullptr;
    return [=](Piece piece, const PieceSink& out) {
        std::string text;
        for (const char c : piece.text) { c == ' ' ? text += blank : text += c; }
        if ((scheme == "always" || (scheme == "first" && piece.first)) && !text.starts_with(blank)) {
            text = blank + text;
        }
        if (!cut) { return out({text, piece.first}); }
        split(*cut, Behavior::merged_with_next, false, {text, piece.first}, out);
    };
}

Step step_of(const Fields& f) {
    const std::string type = f.text("type"), where = f.where();
    if (type == "ByteLevel") { return byte_level(f); }
    if (type == "Split") { return split_of(f); }
    if (type == "Metaspace") { return metaspace(f); }
    if (type == "Digits") {
        return split_step("\\p{N}",
                          f.flag("individual_digits", false) ? Behavior::isolated : Behavior::contiguous,
                          false, where);
    }
    if (type == "Punctuation") {
        return split_step("[\\p{P}$+<=>^`|~]", parse_behavior(f, "Isolated"), false, where);
    }
    if (type == "Whitespace") {
        const std::string word = word_characters;
        return split_step("[" + word + "]+|[^" + word + "\\s]+", Behavior::removed, true, where);
    }
    if (type == "WhitespaceSplit") { return split_step("\\s", Behavior::removed, false, where); }
    if (type == "CharDelimiterSplit") {
        return split_step(Regex::quoted(f.text("delimiter")), Behavior::removed, false, where);
    }
    f.fail(type.substr(0, 40) + " is not supported");
}

}  // namespace

PreTokenizer::PreTokenizer(const json& j, const std::string& path) {
    if (j.is_null()) { return; }
    int byte_levels = 0;  // each one doubles the text
    each_part(j, "pretokenizers", path + ": its pre_tokenizer", [&](const Fields& f) {
        byte_levels += f.text("type") == "ByteLevel";
        if (byte_levels > 1) { f.fail("ByteLevel after ByteLevel is not supported"); }
        steps_.push_back(step_of(f));
    });
}

void PreTokenizer::run(size_t step, Piece piece, const PieceSink& words) const {
    if (piece.text.empty()) { return; }
    if (step == steps_.size()) { return words(piece); }
    steps_[step](piece, [&](Piece part) { run(step + 1, part, words); });
}

}  // namespace moba

/* Text to token ids: added tokens, normalizers, pre-tokenizers and models by hand, what is refused, and the
   time of long words. test_tokenizer.cpp compares whole tokenizers with Hugging Face's. */
#include "moba/core/clock.h"
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/tokenizer/byte_letters.h"
#include "train/tokenizer/regex.h"
#include "train/tokenizer/tokenizer.h"
#include <nlohmann/json.hpp>
#include <random>

namespace moba {

namespace {

using nlohmann::json;
using Ids = std::vector<int>;
const std::string blank = "\xE2\x96\x81";

class Encodes : public testing::Test {
  protected:
    void SetUp() override {
        if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    }
    Tokenizer tokenizer(const json& j) {
        write_text(dir_ / "t.json", j.dump());
        return Tokenizer(dir_ / "t.json");
    }
    Ids ids(const json& j, const std::string& text, SpecialNames names = SpecialNames::text) {
        return tokenizer(j).encode(text, names);
    }
    void refused(const json& j, const std::string& says, const std::string& text = "a") {
        try {
            const Tokenizer t = tokenizer(j);
            EXPECT_EQ(t.text(0), t.text(0)) << "decoding needs no encoder";
            t.encode(text);
            ADD_FAILURE() << "accepted, should say '" << says << "': " << j;
        } catch (const Error& e) {
            const std::string message = e.what();
            EXPECT_NE(message.find(says), std::string::npos) << "should say '" << says << "': " << message;
            EXPECT_EQ(lines(message), 0) << message;
        }
    }
    // refused, and the message names the file
    void refused_by_name(const json& j, const std::string& says) {
        refused(j, says);
        refused(j, dir_ / "t.json: ");
    }
    TempDir dir_;
};

// Whole words: whatever a word of the text is called has the id that the text gives it, in turn.
json words(const std::vector<std::string>& known) {
    json vocab = json::object();
    for (size_t i = 0; i < known.size(); i++) { vocab[known[i]] = i; }
    return {{"model", {{"type", "WordLevel"}, {"vocab", vocab}, {"unk_token", known[0]}}}};
}
json bpe(const std::vector<std::string>& tokens, const json& merges, const json& more = json::object()) {
    json j = words(tokens);
    j["model"] = {{"type", "BPE"}, {"vocab", j["model"]["vocab"]}, {"merges", merges}};
    j["model"].update(more);
    return j;
}
json bytes(std::vector<std::string> more = {}, const json& merges = json::array()) {
    std::vector<std::string> tokens(byte_letters().begin(), byte_letters().end());
    tokens.insert(tokens.end(), more.begin(), more.end());
    json j = bpe(tokens, merges);
    j["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
    j["decoder"] = {{"type", "ByteLevel"}};
    return j;
}
json with(json j, const char* key, const json& value) {
    j[key] = value;
    return j;
}
json sequence(const char* key, const json& parts) { return {{"type", "Sequence"}, {key, parts}}; }
json replace(const char* from, const std::string& to) {
    return {{"type", "Replace"}, {"pattern", {{"String", from}}}, {"content", to}};
}
json split(const std::string& regex, const char* behavior, bool invert = false) {
    return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", behavior}, {"invert", invert}};
}

// -----------------------------------------------------------------------------------------------------------

TEST_F(Encodes, NormalizersInTheirOrder) {
    const json j = words({"?", "a", "b", "c", "ab", "xa"});
    const auto normalized = [&](const json& normalizer, const std::string& text) {
        return ids(with(j, "normalizer", normalizer), text);
    };
    EXPECT_EQ(normalized(sequence("normalizers", {replace("a", "b"), replace("b", "c")}), "a"), Ids{3});
    EXPECT_EQ(normalized(sequence("normalizers", {replace("b", "c"), replace("a", "b")}), "a"), Ids{2});
    EXPECT_EQ(normalized(replace("zz", ""), "zzazzbzz"), Ids{4}) << "all places";
    EXPECT_EQ(normalized(replace("", "x"), "ab"), Ids{4}) << "nothing is found nowhere";
    const json regex = {{"type", "Replace"}, {"pattern", {{"Regex", "z+|1"}}}, {"content", ""}};
    EXPECT_EQ(normalized(regex, "zzza1b1"), Ids{4});
    const json empty = {{"type", "Replace"}, {"pattern", {{"Regex", "(?=a)"}}}, {"content", "x"}};
    EXPECT_EQ(normalized(empty, "a"), Ids{5}) << "an empty match";
    EXPECT_EQ(normalized({{"type", "Prepend"}, {"prepend", "x"}}, "a"), Ids{5});
    EXPECT_EQ(normalized({{"type", "Prepend"}, {"prepend", "x"}}, ""), Ids{}) << "not to nothing";
    EXPECT_EQ(normalized({{"type", "Lowercase"}}, "AB"), Ids{4});
    const std::string ab = " \t\xC2\xA0"
                           "ab\xE3\x80\x80\n";
    EXPECT_EQ(normalized({{"type", "Strip"}}, ab), Ids{4});
    const json left = {{"type", "Strip"}, {"strip_left", true}, {"strip_right", false}};
    EXPECT_EQ(normalized(sequence("normalizers", {left, replace("\xE3\x80\x80\n", "")}), ab), Ids{4});
    const json right = {{"type", "Strip"}, {"strip_left", false}, {"strip_right", true}};
    EXPECT_EQ(normalized(sequence("normalizers", {right, replace(" \t\xC2\xA0", "")}), ab), Ids{4});
    const json accents = words({"?", "e\xCC\x81", "\xC3\xA9", "e", "fi"});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "NFC"}}), "e\xCC\x81"), Ids{2});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "NFD"}}), "\xC3\xA9"), Ids{1});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "NFKC"}}), "\xEF\xAC\x81"), Ids{4});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "NFC"}}), "\xEF\xAC\x81"), Ids{0});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "NFKD"}}), "\xC3\xA9"), Ids{1});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "NFKD"}}), "\xEF\xAC\x81"), Ids{4});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "NFD"}}), "\xEF\xAC\x81"), Ids{0});
    const json lower = with(words({"?", "i\xCC\x87", "\xC3\xA9"}), "normalizer", {{"type", "Lowercase"}});
    EXPECT_EQ(ids(lower, "\xC4\xB0"), Ids{1}) << "the only letter that becomes two";
    EXPECT_EQ(ids(lower, "\xC3\x89"), Ids{2});
    EXPECT_EQ(ids(with(accents, "normalizer", {{"type", "StripAccents"}}), "e\xCC\x81"), Ids{3});
}

TEST_F(Encodes, NormalizersThatAreRefused) {
    const auto no = [&](const json& normalizer, const std::string& says) {
        refused_by_name(with(words({"a"}), "normalizer", normalizer), says);
    };
    no({{"type", "BertNormalizer"}}, "its normalizer: BertNormalizer is not supported");
    no({{"type", "Precompiled"}}, "'precompiled_charsmap' is missing");
    no({{"type", "Precompiled"}, {"precompiled_charsmap", "a?"}}, "is not base64");
    for (const char* damaged : {"AAAA", "AAAAAA==", "BAAAAA==", "AwAAAAAAAA==", "/////wAAAAA="}) {
        no({{"type", "Precompiled"}, {"precompiled_charsmap", damaged}}, "'precompiled_charsmap' is damaged");
    }
    no(json::object(), "its normalizer: 'type' is missing");
    no(7, "its normalizer: is not an object");
    no({{"type", 7}}, "'type' is not a string");
    no({{"type", "Sequence"}}, "'normalizers' is missing");
    no(sequence("normalizers", 3), "'normalizers' is not a list");
    no(sequence("normalizers", json::array({3})), "is not an object");
    no(sequence("normalizers", json::array({sequence("normalizers", json::array())})),
       "a Sequence in a Sequence");
    no({{"type", "Prepend"}}, "'prepend' is missing");
    no({{"type", "Strip"}, {"strip_left", 1}}, "'strip_left' is neither true nor false");
    no({{"type", "Replace"}, {"content", ""}}, "'pattern' is missing");
    no({{"type", "Replace"}, {"pattern", "x"}, {"content", ""}}, "'pattern': is not an object");
    no({{"type", "Replace"}, {"pattern", {{"x", "x"}}}, {"content", ""}}, "'pattern': 'Regex' is missing");
    no({{"type", "Replace"}, {"pattern", {{"String", "x"}}}}, "'content' is missing");
    const json grow = replace("a", std::string(2000, 'a'));
    no(sequence("normalizers", {grow, grow}), "more than a hundred times as long");
}

TEST_F(Encodes, PreTokenizersThatAreRefused) {
    const auto no = [&](const json& pre_tokenizer, const std::string& says) {
        refused_by_name(with(words({"a"}), "pre_tokenizer", pre_tokenizer), says);
    };
    no({{"type", "BertPreTokenizer"}}, "its pre_tokenizer: BertPreTokenizer is not supported");
    no(json::array(), "its pre_tokenizer: is not an object");
    no({{"type", "Sequence"}}, "'pretokenizers' is missing");
    no(sequence("pretokenizers", json::array({sequence("pretokenizers", json::array())})),
       "a Sequence in a Sequence");
    no(split("a", "Sideways"), "the behavior 'Sideways' is not known");
    no({{"type", "Punctuation"}, {"behavior", "isolated"}}, "the behavior 'isolated' is not known");
    no({{"type", "Split"}, {"behavior", "Isolated"}}, "'pattern' is missing");
    no(split("(", "Isolated"), "the regular expression '(' is not valid");
    no(split("\\h", "Isolated"), "the regular expression has \\h, which is not supported");
    no({{"type", "CharDelimiterSplit"}}, "'delimiter' is missing");
    no({{"type", "Metaspace"}, {"prepend_scheme", "last"}}, "the prepend_scheme 'last' is not known");
    no({{"type", "Metaspace"}, {"replacement", "ab"}}, "the replacement 'ab' is not one character");
    no({{"type", "Metaspace"}, {"replacement", ""}}, "the replacement '' is not one character");
    no({{"type", "ByteLevel"}, {"use_regex", "yes"}}, "'use_regex' is neither true nor false");
    no(sequence("pretokenizers", {{{"type", "ByteLevel"}}, {{"type", "ByteLevel"}}}),
       "ByteLevel after ByteLevel");
}

TEST_F(Encodes, WordsByBehavior) {
    const json j = words({"?", "a", "-", "b", "a-", "-b", "--", "a--b"});
    const auto cut = [&](const char* behavior, bool invert = false) {
        return ids(with(j, "pre_tokenizer", split("-", behavior, invert)), "a--b");
    };
    EXPECT_EQ(cut("Removed"), (Ids{1, 3}));
    EXPECT_EQ(cut("Isolated"), (Ids{1, 2, 2, 3}));
    EXPECT_EQ(cut("MergedWithPrevious"), (Ids{4, 2, 3}));
    EXPECT_EQ(cut("MergedWithNext"), (Ids{1, 2, 5}));
    EXPECT_EQ(cut("Contiguous"), (Ids{1, 6, 3}));
    EXPECT_EQ(cut("Removed", true), (Ids{2, 2}));
    const json next_to_each_other = words({"?", "a", "b", "ab", "--a", "--"});
    EXPECT_EQ(ids(with(next_to_each_other, "pre_tokenizer", split("[ab]", "MergedWithNext", true)), "ab--a"),
              (Ids{1, 2, 4}));
    EXPECT_EQ(ids(with(next_to_each_other, "pre_tokenizer", split("[ab]", "Contiguous", true)), "ab--a"),
              (Ids{3, 5, 1}));
    EXPECT_EQ(ids(j, "a--b"), Ids{7}) << "no pre-tokenizer: one word";
    const json steps = {split("-", "Removed"), {{"type", "CharDelimiterSplit"}, {"delimiter", "x"}}};
    EXPECT_EQ(ids(with(j, "pre_tokenizer", sequence("pretokenizers", steps)), "axb-b-xx"), (Ids{1, 3, 3}))
        << "no empty words";
}

TEST_F(Encodes, BlanksInFront) {
    const json j = words({"?", "a", blank + "a", blank, blank + blank + "a", blank + "b", "b"});
    const auto cut = [&](const char* scheme, bool apart, const std::string& text) {
        json t =
            with(j, "pre_tokenizer", {{"type", "Metaspace"}, {"prepend_scheme", scheme}, {"split", apart}});
        t["added_tokens"] = {{{"id", 7}, {"content", "|"}, {"special", false}, {"normalized", false}}};
        return ids(t, text);
    };
    EXPECT_EQ(cut("always", true, "a b|b"), (Ids{2, 5, 7, 5}));
    EXPECT_EQ(cut("first", true, "a b|b"), (Ids{2, 5, 7, 6})) << "only where the whole text begins";
    EXPECT_EQ(cut("first", true, "|b"), (Ids{7, 6}));
    const json first = {{"type", "Metaspace"}, {"prepend_scheme", "first"}};
    const json steps = {{{"type", "WhitespaceSplit"}}, first};
    EXPECT_EQ(ids(with(j, "pre_tokenizer", sequence("pretokenizers", steps)), "a b"), (Ids{2, 6}))
        << "of its words, too";
    EXPECT_EQ(ids(with(j, "pre_tokenizer", sequence("pretokenizers", steps)), " a b"), (Ids{1, 6}));
    EXPECT_EQ(cut("never", true, "a b"), (Ids{1, 5}));
    EXPECT_EQ(cut("always", true, " a"), Ids{2}) << "there is one already";
    EXPECT_EQ(cut("never", false, "  a"), Ids{4});
    EXPECT_EQ(cut("never", true, "  a"), (Ids{3, 2}));
    json older = with(j, "pre_tokenizer", {{"type", "Metaspace"}, {"add_prefix_space", false}});
    EXPECT_EQ(ids(older, "a"), Ids{1});
    older["pre_tokenizer"]["add_prefix_space"] = true;
    EXPECT_EQ(ids(older, "a"), Ids{2});
    json level = bytes({"\xC4\xA0"
                        "a"},
                       {"\xC4\xA0 a"});
    level["pre_tokenizer"]["add_prefix_space"] = true;
    EXPECT_EQ(ids(level, "a"), Ids{256});
    EXPECT_EQ(ids(level, " a"), Ids{256});
}

// -----------------------------------------------------------------------------------------------------------

// What Oniguruma and PCRE2 both have, but with another meaning, must not pass.
TEST(RegexDialect, Refusals) {
    const auto no = [](const std::string& pattern, const std::string& what) {
        try {
            ADD_FAILURE() << pattern << " became " << Regex::to_pcre2(pattern, "x");
        } catch (const Error& e) {
            EXPECT_EQ(e.what(), "x: the regular expression has " + what + ", which is not supported")
                << pattern;
        }
    };
    for (const char* escape : {"h", "H", "R", "X", "K", "G", "b", "B", "Z", "Q", "E",
                               "C", "N", "u", "v", "1", "k", "g", "e", "a", "c"}) {
        no("a\\" + std::string(escape), "\\" + std::string(escape));
    }
    no("[a\\S]", "\\S inside brackets");
    no("[\\W]", "\\W inside brackets");
    no("[a[b]]", "brackets inside brackets");
    no("[a-z&&b]", "&&");
    no("[]a]", "']' first in brackets");
    no("[^]a]", "']' first in brackets");
    no("a\\", "a backslash at its end");
    no("a{,2}", "'{,'");
    no("\\p{N}{1,3}+", "'}+'");
    no("(?m:a)", "'(?m'");
    no("(?si:a)", "'(?si'");
    no("(?P<x>a)", "'(?P'");
    no("(?R)", "'(?R'");
    no("a(?i)b", "options after its beginning");
    no("(*UCP)a", "'(*'");
}

TEST(RegexDialect, Translations) {
    const auto same = [](const std::string& pattern) { EXPECT_EQ(Regex::to_pcre2(pattern, "x"), pattern); };
    for (const char* pattern : {"(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+", "\\p{N}{1,3}", "[[:alpha:]_]+",
                                "(?i)a", "(?<n>a)", "(?<=a)b", "a++", "\\d\\D\\.\\[", "[\\x{41}-\\x{43}]",
                                "\\A\\z^$", "(?:a|b)*?", "(?-i:a)", "[^}]+", "\\}+", "\\P{L}+", ""}) {
        same(pattern);
    }
    const std::string space = space_characters;
    EXPECT_EQ(Regex::to_pcre2("\\s+[\\sx]\\S", "x"), "[" + space + "]+[" + space + "x][^" + space + "]");
    if (!regex_available()) { return; }
    const auto matches = [](const std::string& pattern, const std::string& text) {
        size_t begin = 0, end = 0;
        return Regex("\\A" + pattern + "\\z", "x").find(text, 0, begin, end);
    };
    EXPECT_TRUE(matches("\\s", "\xE3\x80\x80") && matches("\\s", "\x0B") && matches("\\s", "\xC2\x85"));
    EXPECT_FALSE(matches("\\s", "\xE1\xA0\x8E") || matches("\\s", "\xE2\x80\x8B")) << "not since Unicode 6.3";
    EXPECT_TRUE(matches("\\S", "\xE1\xA0\x8E"));
    EXPECT_TRUE(matches("\\w", "\xCC\x81") && matches("\\w", "_") && matches("\\w", "\xC2\xB2"));
    EXPECT_TRUE(matches("\\W", "-") && matches("\\W", " ") && matches("\\S", "a"));
    EXPECT_FALSE(matches("\\W", "a") || matches("\\W", "\xC3\xA9") || matches("\\S", " "));
    size_t begin = 0, end = 0;
    EXPECT_TRUE(Regex("^b$", "x").find("a\nb\nc", 0, begin, end)) << "at every line";
    EXPECT_EQ(begin, 2u);
    EXPECT_TRUE(matches("\\d", "\xD9\xA3")) << "digits of all scripts";
    EXPECT_FALSE(matches("a.b", "a\nb"));
    for (const std::string& text : {std::string("a.b*[c]{2}^$|\\#x - "), std::string("\xE2\x96\x81")}) {
        EXPECT_TRUE(matches(Regex::quoted(text), text)) << text;
    }
    EXPECT_FALSE(matches(Regex::quoted("a.b"), "axb"));
}

TEST_F(Encodes, WhiteSpaceBeforeAPlace) {
    const auto from = [](const std::string& text) { return Regex::blanks_before(text, text.size()); };
    EXPECT_EQ(from(""), 0u);
    EXPECT_EQ(from("a"), 1u);
    EXPECT_EQ(from("  "), 0u);
    EXPECT_EQ(from("a \n\t"), 1u);
    EXPECT_EQ(from("\xC3\xA9\xE3\x80\x80\xC2\xA0"), 2u);
    EXPECT_EQ(from("\xE2\x80\x8B"), 3u);
    EXPECT_EQ(Regex::blanks_before("a  b", 3), 1u);
}

// -----------------------------------------------------------------------------------------------------------

TEST_F(Encodes, ModelsThatAreRefused) {
    const auto no = [&](const json& change, const std::string& says) {
        json j = bpe({"a", "b", "ab"}, {"a b"});
        j["model"].update(change);
        refused_by_name(j, says);
    };
    EXPECT_EQ(ids(bpe({"a", "b", "ab"}, {"a b"}), "ab"), Ids{2});
    no({{"type", "WordPiece"}}, "its model: WordPiece is not supported");
    no({{"type", 3}}, "'type' is not a string");
    no({{"dropout", 0.1}}, "dropout is not supported");
    EXPECT_NO_THROW(ids(bpe({"a"}, json::array(), {{"dropout", 0.0}}), "a"));
    no({{"vocab", {{"a", 0}, {"ab", 1}}}}, "'b' is not in its vocabulary");
    no({{"vocab", {{"a", 0}, {"b", 1}}}}, "'ab' is not in its vocabulary");
    no({{"merges", nullptr}}, "'merges' is missing");
    no({{"merges", 7}}, "'merges' is not a list");
    for (const char* merge : {"a", "", "a b c", "a  b"}) {
        no({{"merges", json::array({"a b", merge})}}, "merge 1 is not two tokens with a blank between them");
    }
    for (const json& merge : {json(3), json::array(), json::array({"a"}), json::array({"a", "b", "c"}),
                              json::array({"a", 1}), json(nullptr), json::object()}) {
        no({{"merges", json::array({merge})}}, "merge 0 is not a pair of tokens");
    }
    no({{"unk_token", "?"}}, "'?' is not in its vocabulary");
    no({{"unk_token", 3}}, "'unk_token' is not a string");
    for (const char* flag : {"byte_fallback", "fuse_unk", "ignore_merges"}) {
        no({{flag, 1}}, "'" + std::string(flag) + "' is neither true nor false");
    }
    no({{"vocab", json::array({{"a", 0}})}}, "'vocab' is not an object");
    no({{"type", "WordLevel"}, {"vocab", json::array({json::array({"a", 0})})}, {"unk_token", "a"}},
       "'vocab' is not an object");
    no({{"type", "WordLevel"}}, "'unk_token' is missing");
    no({{"type", "Unigram"}}, "'vocab' is not a list");
    const auto unigram = [&](const json& vocab, const json& unknown, const std::string& says) {
        refused_by_name({{"model", {{"type", "Unigram"}, {"vocab", vocab}, {"unk_id", unknown}}}}, says);
    };
    const json entry = json::array({"a", -1});
    for (const json& id : {json(1), json(-1), json("a"), json(0.5)}) {
        unigram(json::array({entry}), id, "'unk_id' is not the number of a piece");
    }
    for (const json& wrong : {json::array({"a"}), json::array({"a", "b"}), json::array({"a", 1, 2})}) {
        unigram(json::array({entry, wrong}), 0, "an entry of 'vocab' is not a piece and its score");
    }
    refused({{"model", {{"type", "Unigram"}, {"vocab", json::array({entry})}}}}, "a character has no token",
            "b");
    json j = words({"a"});
    j["model"]["unk_token"] = "?";
    EXPECT_EQ(ids(j, "a"), Ids{0});
    refused(j, "its model: a word is not in its vocabulary", "b");
    // older files do not name the type
    for (json model : {bpe({"a", "b", "ab"}, {"a b"}), words({"?", "x", "ab"})}) {
        model["model"].erase("type");
        EXPECT_EQ(ids(model, "ab"), Ids{2});
    }
    EXPECT_EQ(ids({{"model", {{"vocab", json::array({entry, json::array({"ab", -1})})}}}}, "ab"), Ids{1});
}

TEST_F(Encodes, BytePairs) {
    const std::vector<std::string> tokens{"a", "b", "c", "ab", "bc", "abc", "aa", "?"};
    const auto id = [&](const json& merges, const std::string& text, const json& more = json::object()) {
        return ids(bpe(tokens, merges, more), text);
    };
    EXPECT_EQ(id({"a b", "b c"}, "abc"), (Ids{3, 2})) << "the earliest merge first";
    EXPECT_EQ(id({"b c", "a b"}, "abc"), (Ids{0, 4}));
    EXPECT_EQ(id({"b c", "a bc"}, "abc"), Ids{5});
    EXPECT_EQ(id({"a a"}, "aaa"), (Ids{6, 0})) << "the leftmost of equal ones first";
    EXPECT_EQ(id({"a b", "b c", "a b"}, "abc"), (Ids{0, 4}))
        << "the last place of a merge that is there twice";
    EXPECT_EQ(id(json::array(), "axb"), (Ids{0, 1})) << "unknown characters are left out";
    EXPECT_EQ(id({"a b"}, "axb"), Ids{3}) << "and their neighbours join";
    EXPECT_EQ(id({"a b"}, "axyb", {{"unk_token", "?"}}), (Ids{0, 7, 7, 1}));
    EXPECT_EQ(id({"a b"}, "axyb", {{"unk_token", "?"}, {"fuse_unk", true}}), (Ids{0, 7, 1}));
    EXPECT_EQ(id(json::array(), "xx", {{"unk_token", "?"}, {"fuse_unk", true}}), Ids{7});
    EXPECT_EQ(id(json::array(), "abc", {{"ignore_merges", true}}), Ids{5});
    EXPECT_EQ(id(json::array(), "abca", {{"ignore_merges", true}}), (Ids{0, 1, 2, 0}));
    const json fallback = bpe({"a", "?", "<0xC3>", "<0xA9>", "<0xC2>"}, json::array(),
                              {{"byte_fallback", true}, {"unk_token", "?"}});
    EXPECT_EQ(ids(fallback, "a\xC3\xA9"
                            "a"),
              (Ids{0, 2, 3, 0}));
    EXPECT_EQ(ids(fallback, "\xC2\xAA"), Ids{1}) << "all bytes of a character or none";
    const json parts =
        bpe({"a", "##b", "##c", "a</w>", "##b</w>", "##c</w>", "ab", "abc</w>"}, {"a ##b", "ab ##c</w>"},
            {{"continuing_subword_prefix", "##"}, {"end_of_word_suffix", "</w>"}});
    EXPECT_EQ(ids(parts, "abc"), Ids{7});
    EXPECT_EQ(ids(parts, "a"), Ids{3});
    EXPECT_EQ(ids(parts, "acb"), (Ids{0, 2, 4}));
    // words that are seen again, and words that are too long to be kept
    const Tokenizer t =
        tokenizer(with(bpe({"a", "b", "aa", " "}, {"a a"}), "pre_tokenizer", split(" ", "Isolated")));
    for (int again = 0; again < 2; again++) {
        EXPECT_EQ(t.encode("aab aab b"), (Ids{2, 1, 3, 2, 1, 3, 1}));
        EXPECT_EQ(t.encode(std::string(64, 'a')), Ids(32, 2));
        EXPECT_EQ(t.encode(std::string(66, 'a')), Ids(33, 2));
    }
}

TEST_F(Encodes, Unigram) {
    const auto id = [&](const char* vocab, const std::string& text, bool byte_fallback = false) {
        return ids({{"model",
                     {{"type", "Unigram"},
                      {"vocab", json::parse(vocab)},
                      {"unk_id", 0u},
                      {"byte_fallback", byte_fallback}}}},
                   text);
    };
    const char* vocab =
        R"([["?", 0], ["a", -1], ["b", -1], ["ab", -1.5], ["abc", -4], ["c", -3], ["aba", -2.75]])";
    EXPECT_EQ(id(vocab, "ab"), Ids{3});
    EXPECT_EQ(id(vocab, "abc"), Ids{4}) << "-4, but ab and c -4.5";
    EXPECT_EQ(id(vocab, "aba"), (Ids{3, 1})) << "-2.5, but aba -2.75";
    EXPECT_EQ(id(vocab, "axyb"), (Ids{1, 0, 2})) << "unknown neighbours are one";
    EXPECT_EQ(id(vocab, "xaya"), (Ids{0, 1, 0, 1}));
    EXPECT_EQ(id(R"([["?", 0], ["<0x78>", -1], ["a", -1]])", "axay", true), (Ids{2, 1, 2, 0}));
    EXPECT_EQ(id(R"([["?", 0], ["a", -1], ["b", -1], ["ab", -2]])", "ab"), Ids{3})
        << "the longer of equal ones";
    // an unknown character costs 10 more than the worst piece: -16 or -19, then -24 or -23
    EXPECT_EQ(id(R"([["?", 0], ["xa", -8], ["b", -8], ["ab", -1]])", "xab"), (Ids{1, 2}));
    EXPECT_EQ(id(R"([["?", 0], ["xa", -12], ["b", -12], ["ab", -1]])", "xab"), (Ids{0, 3}));
    EXPECT_EQ(id(R"([["?", 0], ["a", -1], ["xa", -11.5]])", "xa"), Ids{2});
    EXPECT_EQ(id(R"([["?", 0], ["a", -1], ["xa", -23]])", "xa"), Ids{2}) << "-23, but unknown and a: -34";
}

TEST_F(Encodes, BeforeAndAfterAText) {
    const json base = words({"?", "<s>", "</s>", "[CLS]"});
    const auto around = [&](const json& processor) {
        const Tokenizer t = tokenizer(with(base, "post_processor", processor));
        return std::pair(t.begin_tokens(), t.end_token());
    };
    const auto token = [](const char* name) {
        return json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
    };
    const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
    const json known = {{"<s>", {{"id", "<s>"}, {"ids", json::array({1u})}}},
                        {"[CLS]", {{"id", "[CLS]"}, {"ids", json::array({3u, 0u})}}}};
    const auto one = [&](const json& single) {
        return json{{"type", "TemplateProcessing"}, {"single", single}, {"special_tokens", known}};
    };
    EXPECT_EQ(around(one({token("<s>"), text})), std::pair(Ids{1}, 2)) << "</s> by its name";
    EXPECT_EQ(around(one({token("[CLS]"), text, token("<s>")})), std::pair((Ids{3, 0}), 1));
    EXPECT_EQ(around(one({token("<s>"), text, token("<s>")})), std::pair(Ids{1}, 1))
        << "the end of a document begins one, too";
    EXPECT_EQ(around({{"type", "RobertaProcessing"}, {"cls", {"<s>", 1u}}, {"sep", {"[CLS]", 3u}}}),
              std::pair(Ids{1}, 3));
    EXPECT_EQ(around({{"type", "BertProcessing"}, {"cls", {"<s>", 1u}}, {"sep", {"[CLS]", 3u}}}),
              std::pair(Ids{1}, 3));
    EXPECT_EQ(around({{"type", "ByteLevel"}}), std::pair(Ids{}, 2));
    EXPECT_EQ(around(sequence("processors", {{{"type", "ByteLevel"}}, one({token("<s>"), text})})),
              std::pair(Ids{1}, 2));
    const auto no = [&](const json& processor, const std::string& says) {
        refused_by_name(with(base, "post_processor", processor), says);
    };
    no({{"type", "Magic"}}, "its post_processor: Magic is not supported");
    no({{"type", "BertProcessing"}, {"cls", {"<s>", 1u}}}, "'sep' is missing");
    no({{"type", "BertProcessing"}, {"cls", {"<s>"}}, {"sep", {"[CLS]", 3u}}},
       "'cls' is not a token and its id");
    no({{"type", "BertProcessing"}, {"cls", {"<s>", -1}}, {"sep", {"[CLS]", 3u}}},
       "has no id from 0 to 2^24 - 1");
    no({{"type", "TemplateProcessing"}}, "'single' is missing");
    no(one(json::array({7})), "'single': is not an object");
    no(one(json::array({json::object()})), "'SpecialToken' is missing");
    no(one({token("<x>"), text}), "'special_tokens': '<x>' is missing");
    json far = one({token("<s>"), text});
    far["special_tokens"]["<s>"]["ids"] = json::array({1u << 24});
    no(far, "has no id from 0 to 2^24 - 1");
    far["special_tokens"]["<s>"]["ids"] = 1;
    no(far, "'ids' is not a list");
}

// -----------------------------------------------------------------------------------------------------------

json added(int id, const char* name, const json& more = json::object()) {
    json j = {{"id", id}, {"content", name}, {"special", false}, {"normalized", false}};
    j.update(more);
    return j;
}

TEST_F(Encodes, NamesOfAddedTokens) {
    json j = bytes();
    j["added_tokens"] = {added(256, "<s>", {{"special", true}}), added(257, "<n>")};
    const auto text = [&](const std::string& t) { return ids(j, t, SpecialNames::text); };
    const auto tokens = [&](const std::string& t) { return ids(j, t, SpecialNames::tokens); };
    EXPECT_EQ(text("a<s>"), (Ids{'a', '<', 's', '>'}));
    EXPECT_EQ(tokens("a<s>"), (Ids{'a', 256}));
    EXPECT_EQ(text("<n>b<n>"), (Ids{257, 'b', 257})) << "no special one: always a token";
    EXPECT_EQ(tokens("<n><s>"), (Ids{257, 256}));
    EXPECT_EQ(text(""), Ids{});
    // the longest name
    j["added_tokens"] = {added(256, "<a"), added(257, "<a>b"), added(258, "<a>")};
    EXPECT_EQ(text("<a>b<a><a"), (Ids{257, 258, 256}));
    EXPECT_EQ(text("<<a"), (Ids{'<', 256}));
    // a special name hides shorter ones, also where it is text
    j["added_tokens"] = {added(256, "ab", {{"special", true}}), added(257, "a")};
    EXPECT_EQ(text("ab a"), (Ids{'a', 'b', ' ', 257}));
    EXPECT_EQ(tokens("ab a"), (Ids{256, ' ', 257}));
    EXPECT_EQ(tokenizer(j).id_of("ab"), 256);
    j["added_tokens"] = {added(256, "ab", {{"special", true}}), added(257, "b"), added(258, "cc")};
    EXPECT_EQ(text("abb"), (Ids{'a', 'b', 257})) << "also those inside it";
    EXPECT_EQ(text("ccc"), (Ids{258, 'c'}));
    EXPECT_EQ(tokenizer(j).id_of("abc"), -1);
}

TEST_F(Encodes, BlanksAroundAddedTokens) {
    json j = bytes();
    const auto near = [&](const json& flags, const std::string& text) {
        j["added_tokens"] = {added(256, "<n>", flags)};
        return ids(j, text);
    };
    const Ids bare = near(json::object(), "a  <n> \nb");
    EXPECT_EQ(bare, (Ids{'a', ' ', ' ', 256, ' ', '\n', 'b'}));
    EXPECT_EQ(near({{"lstrip", true}}, "a  <n> \nb"), (Ids{'a', 256, ' ', '\n', 'b'}));
    EXPECT_EQ(near({{"rstrip", true}}, "a  <n> \nb"), (Ids{'a', ' ', ' ', 256, 'b'}));
    EXPECT_EQ(near({{"lstrip", true}, {"rstrip", true}}, "  <n>\xE3\x80\x80 <n> "), (Ids{256, 256}));
    EXPECT_EQ(near({{"lstrip", true}}, "<n>" + std::string(100, ' ') + "<n>"), (Ids{256, 256}));
    // words
    const json word = {{"single_word", true}};
    EXPECT_EQ(near(word, "<n>"), Ids{256});
    EXPECT_EQ(near(word, "-<n> "), (Ids{'-', 256, ' '}));
    for (const char* text : {"a<n>", "<n>a", "1<n>", "<n>_", "\xC3\xA9<n>", "<n>\xC3\xA9", "<n>\xE4\xBD\xA0",
                             "\xF0\xA0\x80\x80<n>"}) {
        const Ids got = near(word, text);
        EXPECT_EQ(std::count(got.begin(), got.end(), 256), 0) << text;
    }
    for (const char* text : {".<n>", "<n>,", "\xE2\x82\xAC<n>\xE2\x82\xAC", "<n>\n"}) {
        const Ids got = near(word, text);
        EXPECT_EQ(std::count(got.begin(), got.end(), 256), 1) << text;
    }
}

// Names with `normalized` are found in the normalized text, the others before it.
TEST_F(Encodes, AddedTokensBeforeAndAfterTheNormalizer) {
    json j = with(words({"?", "x", "n", "N"}), "normalizer", {{"type", "Lowercase"}});
    j["added_tokens"] = {added(4, "N")};
    EXPECT_EQ(ids(j, "N"), Ids{4});
    EXPECT_EQ(ids(j, "n"), Ids{2});
    j["added_tokens"] = {added(4, "N", {{"normalized", true}})};
    EXPECT_EQ(ids(j, "N"), Ids{4});
    EXPECT_EQ(ids(j, "n"), Ids{4}) << "its name is normalized, too";
    j["added_tokens"][0].erase("normalized");
    EXPECT_EQ(ids(j, "n"), Ids{4}) << "as if not said";
    j["added_tokens"][0]["special"] = true;
    EXPECT_EQ(ids(j, "n", SpecialNames::tokens), Ids{2}) << "special ones are not normalized";
    j = with(words({"?", "xx"}), "normalizer", {{"type", "Prepend"}, {"prepend", "x"}});
    j["added_tokens"] = {added(4, "|")};
    EXPECT_EQ(ids(j, "x|x"), (Ids{1, 4, 1})) << "each stretch is normalized by itself";
    j["added_tokens"] = {added(4, "")};
    EXPECT_EQ(ids(j, "x"), Ids{1}) << "a name without letters is nowhere";
}

TEST_F(Encodes, InvalidUtf8) {
    const json j = bytes();
    const std::string instead = "\xEF\xBF\xBD";
    const auto same = [&](const std::string& text, const std::string& as) {
        EXPECT_EQ(ids(j, text), ids(j, as)) << text;
    };
    same("\xFF", instead);
    same("a\x80", "a" + instead);
    same("\xE2\x82", instead);
    same("\xE2\x82x", instead + "x");
    same("\xED\xA0\x80", instead + instead + instead);
    same("\xC0\xAF", instead + instead);
    same("\xF4\x90\x80\x80", instead + instead + instead + instead);
    EXPECT_EQ(ids(j, instead), (Ids{0xEF, 0xBF, 0xBD}));
    EXPECT_EQ(ids(j, std::string("a\0b", 3)), (Ids{'a', 0, 'b'}));
}

// -----------------------------------------------------------------------------------------------------------

// Seconds of the fastest of two.
double seconds(const std::function<void()>& f) {
    double best = INFINITY;
    for (int i = 0; i < 2; i++) {
        const double begin = now_ms();
        f();
        best = std::min(best, (now_ms() - begin) / 1000);
    }
    return best;
}

// Twice as long a text must take about twice as long, not four times: n and 8 n are compared with 24, because
// machines are busy.
TEST_F(Encodes, LongTextsInLinearTime) {
    std::mt19937 draw(1);
    const auto random_letters = [&](size_t n) {
        std::string out(n, ' ');
        for (char& c : out) { c = (char)('a' + draw() % 26); }
        return out;
    };
    const auto repeated = [](const std::string& part, size_t n) {
        std::string out;
        while (out.size() < n) { out += part; }
        return out;
    };
    std::vector<std::string> pairs;
    json merges = json::array();
    for (char a = 'a'; a <= 'z'; a++) {
        for (char b = 'a'; b <= 'z'; b++) {
            pairs.push_back({a, b});
            merges.push_back(std::string{a, ' ', b});
        }
    }
    for (std::string a = "aa"; a.size() <= 1024; a += a) {
        pairs.push_back(a + a);
        merges.push_back(a + " " + a);
    }
    json level = bytes(pairs, merges);
    json names = level;
    names["added_tokens"] = {added(5000, "<n>", {{"lstrip", true}, {"rstrip", true}, {"single_word", true}}),
                             added(5001, "<")};
    json blanks = level;
    blanks["added_tokens"] = {added(5000, " ", {{"lstrip", true}, {"rstrip", true}})};
    const json unigram = {
        {"model",
         {{"type", "Unigram"},
          {"unk_id", 0u},
          {"vocab", json::parse(R"([["?", 0], ["a", -1], ["aaaaaaaa", -2], ["b", -1]])")}}}};
    json stripped = with(level, "normalizer", {{"type", "Strip"}});
    json metaspace = with(level, "pre_tokenizer", {{"type", "Metaspace"}});
    const struct {
        const char* name;
        const json& tokenizer;
        std::function<std::string(size_t)> text;
    } cases[] = {
        {"one letter", level, [&](size_t n) { return std::string(n, 'a'); }},
        {"random letters", level, random_letters},
        {"blanks", level, [&](size_t n) { return std::string(n, ' ') + "x"; }},
        {"short words", level, [&](size_t n) { return repeated("ab ", n); }},
        {"ends of lines", level, [&](size_t n) { return repeated(" \n", n); }},
        {"marks", level, [&](size_t n) { return repeated("\xCC\x81", n); }},
        {"blanks before a name", names,
         [&](size_t n) { return repeated(std::string(1000, ' ') + "<n>", n); }},
        {"beginnings of names", names, [&](size_t n) { return repeated("<", n); }},
        {"names that are blanks", blanks, [&](size_t n) { return std::string(n, ' ') + "x"; }},
        {"names in words", names, [&](size_t n) { return repeated("<n>x", n); }},
        {"one letter, unigram", unigram, [&](size_t n) { return std::string(n, 'a'); }},
        {"unknown letters, unigram", unigram, [&](size_t n) { return std::string(n, 'x'); }},
        {"blanks inside, stripped", stripped, [&](size_t n) { return "x" + std::string(n, ' ') + "x"; }},
        {"blanks, metaspace", metaspace, [&](size_t n) { return std::string(n, ' '); }},
    };
    for (const auto& c : cases) {
        const Tokenizer t = tokenizer(c.tokenizer);
        t.encode("a");
        constexpr size_t n = 1 << 16;
        const std::string little = c.text(n), much = c.text(8 * n);
        const double one = seconds([&] { t.encode(little); }), eight = seconds([&] { t.encode(much); });
        EXPECT_LT(eight, 24 * one + 0.05) << c.name;
    }
    for (const std::string& word : {std::string(2'000'000, 'a'), random_letters(2'000'000)}) {
        const Tokenizer t = tokenizer(level);
        EXPECT_LT(seconds([&] { t.encode(word); }), 10);
    }
}

TEST(EncoderWithoutLibraries, SaysSo) {
    if (regex_available()) { GTEST_SKIP() << "built with PCRE2"; }
    const TempDir dir;
    write_text(dir / "t.json", bytes().dump());
    const Tokenizer t(dir / "t.json");
    EXPECT_EQ(t.text('a'), "a");
    try {
        t.encode("a");
        ADD_FAILURE() << "encoded";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("built without PCRE2"), std::string::npos);
    }
}

}  // namespace

}  // namespace moba

/* tokenizer.json: the text of token ids in its three forms, and refused files. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/tokenizer/regex.h"
#include "train/tokenizer/tokenizer.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

const char* byte_level =
    R"({"model": {"type": "BPE", "vocab": {"H": 0, "Ġthe": 1, "Ċ": 2, "Ã©": 3, "Ã": 4, "©": 5, "Ń": 8, "Ā": 9}},
    "decoder": {"type": "ByteLevel"}, "added_tokens": [{"id": 6, "content": "<|endoftext|>", "special": true},
    {"id": 7, "content": "<name>", "special": false}]})";
const char* llama2 =
    R"({"model": {"type": "BPE", "vocab": {"▁the": 0, "cat": 1, "<0x0A>": 2, "<0xC3>": 3, "▁▁": 4}},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}]}})";
const char* unigram = R"({"model": {"type": "Unigram", "vocab": [["<unk>", 0.0], ["▁a", -1.5], ["b", -2]]}})";

TEST(Tokenizer, Decodes) {
    const TempDir dir;
    write_text(dir / "a", byte_level);
    const Tokenizer a(dir / "a");
    EXPECT_EQ(a.text(0) + a.text(1) + a.text(2), "H the\n");
    EXPECT_EQ(a.text(3), "\xC3\xA9");
    EXPECT_EQ(a.text(4) + a.text(5), "\xC3\xA9") << "a letter in two tokens";
    EXPECT_EQ(a.text(6), "") << "a mark";
    EXPECT_EQ(a.text(7), "<name>");
    EXPECT_EQ(a.text(8), "\xAD") << "the last of the 68 bytes that have no letter of their own";
    EXPECT_EQ(a.text(9), std::string(1, '\0')) << "the first";
    EXPECT_EQ(a.text(10) + a.text(-1), "");
    write_text(dir / "b", llama2);
    const Tokenizer b(dir / "b");
    EXPECT_EQ(b.text(0) + b.text(1) + b.text(2) + b.text(3) + b.text(4), " thecat\n\xC3  ");
    write_text(dir / "c", unigram);
    EXPECT_EQ(Tokenizer(dir / "c").text(1) + Tokenizer(dir / "c").text(2), " ▁a b") << "no decoder: blanks";
    const Tokenizer bytes("bytes");
    EXPECT_EQ(bytes.encode("a\xff"), (std::vector<int>{97, 255}));
    EXPECT_EQ(bytes.text(255), "\xff");
    EXPECT_EQ(bytes.text(256), "");
}

// test/python/decoders.py wrote the file with Hugging Face's tokenizers.
TEST(Tokenizer, DecodesLikeHuggingFace) {
    const auto cases = nlohmann::json::parse(read_text(MOBA_SOURCE_DIR "/test/huggingface/decoders.json"));
    EXPECT_GE(cases.size(), 80u);
    const TempDir dir;
    for (const auto& c : cases) {
        write_text(dir / "t", c["tokenizer"].dump());
        const Tokenizer tokenizer(dir / "t");
        for (const auto& text : c["texts"]) {
            TextStream stream(tokenizer);
            std::string got;
            for (int id : text[0]) { got += stream.add(id); }
            EXPECT_EQ(got, text[1].get<std::string>())
                << c["tokenizer"]["decoder"] << " " << c["tokenizer"]["model"]["type"] << " " << text[0];
        }
    }
}

// test/python/tokenizers_test.py wrote the file.
TEST(Tokenizer, EncodesLikeHuggingFace) {
    if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    const auto all = nlohmann::json::parse(read_text(MOBA_SOURCE_DIR "/test/huggingface/encoders.json"));
    const auto texts = all["texts"].get<std::vector<std::string>>();
    EXPECT_GE(texts.size(), 50u);
    EXPECT_GE(all["cases"].size(), 16u);
    const TempDir dir;
    for (const auto& c : all["cases"]) {
        write_text(dir / "t", c["tokenizer"].dump());
        const Tokenizer t(dir / "t");
        auto wanted = c["ids"].get<std::vector<std::vector<int>>>();
        ASSERT_EQ(wanted.size(), texts.size());
        for (const SpecialNames names : {SpecialNames::text, SpecialNames::tokens}) {
            for (size_t i = 0; i < texts.size(); i++) {
                EXPECT_EQ(t.encode(texts[i], names), wanted[i]) << c["name"] << ": " << texts[i];
            }
            for (const auto& other : c["ids with names"]) {
                wanted[other[0].get<size_t>()] = other[1].get<std::vector<int>>();
            }
        }
        EXPECT_EQ(t.begin_tokens(), c["around"][0].get<std::vector<int>>()) << c["name"];
        if (!c["around"][1].empty()) { EXPECT_EQ(t.end_token(), c["around"][1][0]) << c["name"]; }
    }
}

TEST(Tokenizer, DecodersThatAreNotKnownAreRefusedByName) {
    const TempDir dir;
    const auto refused = [&](const std::string& decoder, const std::string& says) {
        write_text(dir / "t", R"({"model": {"vocab": {"a": 0}}, "decoder": )" + decoder + "}");
        try {
            const Tokenizer t(dir / "t");  // training needs no decoder
            EXPECT_EQ(t.text(0), "a");
            try {
                TextStream text(t);
                ADD_FAILURE() << "accepted: " << decoder;
            } catch (const Error& e) {
                EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << decoder << ": " << e.what();
            }
        } catch (const Error& e) { ADD_FAILURE() << "refused before text was wanted: " << e.what(); }
    };
    refused(R"({"type": "CTC"})", "CTC is not supported");
    refused(R"({"type": "Replace", "pattern": {"Regex": "a+"}, "content": ""})", "regular expression");
    refused(R"({"type": "Replace", "pattern": {"String": "a"}})", "'content' is missing");
    refused(R"({"type": "Strip", "content": " ", "start": 0, "stop": 1})", "only a Strip");
    refused(R"({"type": "Sequence", "decoders": [{"type": "Fuse"}, {"type": "ByteFallback"}]})",
            "after Fuse");
    refused(R"({"type": "Sequence", "decoders": [{"type": "Sequence", "decoders": []}]})", "Sequence in a");
    refused(R"({"type": "Sequence"})", "not a list");
    for (const char* no_type : {"{}", "7", "[]", R"("ByteLevel")", R"({"type": 3})"}) {
        refused(no_type, "no 'type'");
    }
}

TEST(Tokenizer, LiesAreRefusedInOneLine) {
    const TempDir dir;
    for (const std::string text :
         {"{}", "[]", "7", "{", R"({"model": 7})", R"({"model": {}})", R"({"model": {"vocab": 3}})",
          R"({"model": {"vocab": {}}})", R"({"model": {"vocab": {"a": -1}}})",
          R"({"model": {"vocab": {"a": 1e9}}})", R"({"model": {"vocab": {"a": 4294967296}}})",
          R"({"model": {"vocab": [["a", 0], 3]}})", R"({"model": {"vocab": {"a": 0}}, "added_tokens": 3})",
          R"({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 1}]})"}) {
        write_text(dir / "x", text);
        try {
            Tokenizer t(dir / "x");
            ADD_FAILURE() << "accepted: " << text;
        } catch (const Error& e) { EXPECT_EQ(std::string(e.what()).rfind(dir / "x", 0), 0u) << e.what(); }
    }
    write_text(dir / "x", std::string(5000000, '['));
    EXPECT_THROW(Tokenizer(dir / "x"), Error);
    std::string deep = byte_level;
    deep.insert(1, "\"x\": " + std::string(100, '[') + std::string(100, ']') + ", ");
    write_text(dir / "x", deep);
    EXPECT_THROW(Tokenizer(dir / "x"), Error);
}

}  // namespace

}  // namespace moba

/* Texts that are encoded before they are read: documents, the folder of the tokens, and refused files. */
#include "test/support/program.h"
#include "train/core/file.h"
#include "train/data/encoded_text.h"
#include "train/data/token_files.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

namespace fs = std::filesystem;

// Words are tokens: a = 0, b = 1, c = 2; 3 is unknown; 4 ends a document, 5 begins one.
const char* words =
    R"({"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "c": 2, "?": 3}, "unk_token": "?"},
    "pre_tokenizer": {"type": "WhitespaceSplit"}, "added_tokens": [{"id": 4, "content": "</s>", "special": true},
    {"id": 5, "content": "<s>", "special": true}], "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}}})";

std::vector<int> read_all_tokens(const std::vector<std::string>& files) {
    const TokenFiles tokens(files);
    std::vector<int> ids(tokens.size());
    tokens.read(0, ids.size(), ids.data());
    return ids;
}

class EncodedText : public testing::Test {
  public:
    void SetUp() override {
        write_text(dir / "tokenizer.json", words);
        try {
            encode({"a"});
        } catch (const Error& e) {
            if (std::string(e.what()).find("built without") != std::string::npos) {
                GTEST_SKIP() << e.what();
            }
        }
    }
    // The tokens of these texts, each a file.
    std::vector<int> encode(const std::vector<std::string>& texts, const std::string& end = ".txt") {
        std::vector<std::string> files;
        for (size_t i = 0; i < texts.size(); i++) {
            files.push_back(dir / ("t" + std::to_string(i) + end));
            write_text(files.back(), texts[i]);
        }
        return read_all_tokens(token_files(files, dir.path(), dir / "cache"));
    }
    TempDir dir;
};

TEST_F(EncodedText, EveryFileIsADocument) {
    EXPECT_EQ(encode({"a b", "c"}), (std::vector<int>{4, 5, 0, 1, 4, 5, 2, 4}));
    EXPECT_EQ(encode({"a", " \n", "b"}), (std::vector<int>{4, 5, 0, 4, 5, 1, 4}))
        << "one without text is left out";
    EXPECT_EQ(encode({"\xEF\xBB\xBF"
                      "a"}),
              (std::vector<int>{4, 5, 0, 4}))
        << "a mark that says UTF-8";
    EXPECT_EQ(encode({"a </s> <s>"}), (std::vector<int>{4, 5, 0, 3, 3, 4}))
        << "names of special tokens are text";
}

// GPT-2's token that ends a document may also begin one: then it stands there once.
TEST_F(EncodedText, AnEndThatBegins) {
    std::string same = words;
    for (size_t at; (at = same.find("\"<s>\": {\"id\": \"<s>\", \"ids\": [5]")) != same.npos;) {
        same.replace(same.find("[5]", at), 3, "[4]");
    }
    write_text(dir / "tokenizer.json", same);
    EXPECT_EQ(encode({"a b", "c"}), (std::vector<int>{4, 0, 1, 4, 2, 4}));
}

TEST_F(EncodedText, EveryLineOfAJsonlFileIsADocument) {
    const std::string lines = "{\"text\": \"a b\"}\n\n \r\n{\"text\": \"c\\nc\", \"name\": 3}";
    EXPECT_EQ(encode({lines}, ".jsonl"), (std::vector<int>{4, 5, 0, 1, 4, 5, 2, 2, 4}));
    EXPECT_EQ(encode({lines}, ".ndjson"), encode({lines}, ".jsonl"));
    EXPECT_EQ(encode({lines}, ".md").size(), 10u) << "text like any other: 7 words";
    // without a tokenizer: the bytes of the documents
    write_text(dir / "bytes.jsonl", "{\"text\": \"a\\u00e9\"}\n{\"text\": \"b\"}\n");
    EXPECT_EQ(read_all_tokens(token_files({dir / "bytes.jsonl"}, "", dir / "cache")),
              (std::vector<int>{256, 'a', 0xC3, 0xA9, 256, 'b', 256}));
}

TEST_F(EncodedText, OnlyWhatMustBeIsEncoded) {
    write_text(dir / "a.txt", "a b");
    const std::vector<std::string> text{dir / "a.txt"};
    EXPECT_EQ(token_files(text, "", dir / "cache"), text);
    EXPECT_EQ(token_files(text, "bytes", dir / "cache"), text);
    const std::vector<std::string> tokens = token_files(text, dir.path(), dir / "cache");
    EXPECT_EQ(token_files(tokens, dir.path(), dir / "cache"), tokens);
    EXPECT_THROW(token_files({text[0], tokens[0]}, dir.path(), dir / "cache"), Error);
}

TEST_F(EncodedText, TheFolderIsFoundAgain) {
    write_text(dir / "a.txt", "a b");
    const std::vector<std::string> first = token_files({dir / "a.txt"}, dir.path(), dir / "cache");
    const auto written = fs::last_write_time(first[0]);
    EXPECT_EQ(token_files({dir / "a.txt"}, dir.path(), dir / "cache"), first);
    EXPECT_EQ(fs::last_write_time(first[0]), written);
    const auto folders = [&] {
        return std::distance(fs::directory_iterator(dir / "cache"), fs::directory_iterator());
    };
    const auto before = folders();
    write_text(dir / "a.txt", "a c");
    EXPECT_NE(token_files({dir / "a.txt"}, dir.path(), dir / "cache"), first) << "another text";
    std::string other = words;
    other.replace(other.find("\"c\""), 3, "\"d\"");
    write_text(dir / "tokenizer.json", other);
    EXPECT_NE(token_files({dir / "a.txt"}, dir.path(), dir / "cache"), first) << "another tokenizer";
    EXPECT_EQ(folders(), before + 2) << "nothing unfinished is left";
}

TEST_F(EncodedText, WhatIsRefused) {
    const auto refused = [&](const std::string& text, const std::string& end, const std::string& says) {
        try {
            encode({text}, end);
            ADD_FAILURE() << "accepted: " << text;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(says), std::string::npos) << e.what();
        }
        for (const auto& entry : fs::directory_iterator(dir / "cache")) {
            EXPECT_EQ(entry.path().string().find(".tmp"), std::string::npos) << entry.path();
        }
    };
    refused("{\"text\": \"a\"}\n{\"text\": 3}", ".jsonl",
            "t0.jsonl: line 2: is not an object with a document");
    refused("{\"text\": \"a\"}\n\n{", ".jsonl", "t0.jsonl: line 3: not valid JSON");
    refused(" \n", ".txt", "there is no text in it");
    refused(std::string("\xFF\xFE"
                        "a\0",
                        4),
            ".txt", "UTF-16");
    std::string endless = words;
    endless.replace(endless.find("</s>"), 4, "<x>");
    write_text(dir / "tokenizer.json", endless);
    refused("a", ".txt", "no end token under one of the usual names");
}

// A run on a text encodes it beside its folder; its checkpoints have the tokenizer, so that eval and sample
// can read and write text.
TEST_F(EncodedText, TrainEvalSample) {
    write_text(dir / "a.txt", "a b c a b c a b c a b c a b c a b c a b c a b c a b c a b c a b c a b c");
    const std::string run = dir / "runs/one";
    const std::string train =
        "train --hidden-size 16 --num-layers 1 --num-heads 1 --seq-len 8 --batch-size 2 --block-size 16 "
        "--top-k 1 --steps 30 --warmup 2 --lr 0.02 --eval-every 10 --val-share 0.3 --log-every 1000 ";
    const Outcome r =
        moba(train + "--data " + (dir / "a.txt") + " --tokenizer " + dir.path() + " --out " + run);
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_NE(r.out.find("encoded  71 B, 1 document: 39 tokens"), std::string::npos) << r.out;
    EXPECT_EQ(read_text(run + "/latest/tokenizer.json"), words);
    EXPECT_EQ(std::distance(fs::directory_iterator(dir / "runs"), fs::directory_iterator()), 2)
        << "the run and the tokens";
    // the tokenizer may be gone: the run has it
    fs::remove(dir / "tokenizer.json");
    EXPECT_EQ(moba("train --resume --steps 31 --out " + run).status, 0);
    const Outcome eval = moba("eval --model " + run + " --seq-len 8");
    EXPECT_EQ(eval.status, 0) << eval.out;
    EXPECT_NE(eval.out.find("bits per byte"), std::string::npos) << eval.out;
    const Outcome sample = moba("sample --model " + run + " --prompt 'a b' --max-new-tokens 2");
    EXPECT_EQ(sample.out.rfind("a b c a\n", 0), 0u) << sample.out;
    EXPECT_NE(sample.out.find("prompt: 3 tokens"), std::string::npos)
        << "a begin token first: " << sample.out;
    expect_refused("train --data " + (dir / "a.txt") + " --tokenizer /nowhere --out " + run + "2", 1,
                   "/nowhere: No such file");
    expect_refused(train + "--data " + run + "/../x.bin --tokenizer a --out " + run + "2", 1,
                   "x.bin: No such file");
    expect_refused("train --task needle --tokenizer a --out " + run + "2", 1, "--tokenizer needs --data");
}

}  // namespace

}  // namespace moba

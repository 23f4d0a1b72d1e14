/* GGUF files: every format of numbers, Llamas with their tokenizers, and files that are damaged or lie.
   test/python/gguf_test.py wrote those in test/huggingface/gguf/ with the package gguf, and the results with
   transformers. */
#include "moba/model.h"
#include "test/support/gguf_case.h"
#include "test/support/logits.h"
#include "test/support/packed_batch.h"
#include "test/support/program.h"
#include "train/files/checkpoint.h"
#include "train/files/gguf_model.h"
#include "train/files/safetensors.h"
#include "train/tokenizer/byte_letters.h"
#include "train/tokenizer/regex.h"
#include "train/tokenizer/tokenizer.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::string root = MOBA_SOURCE_DIR "/test/huggingface/gguf/";
const char* const llamas[] = {"gpt2_tied_q8_0", "llama_f16"};

// Reads all that a file has.
void use(const std::string& path) {
    const ModelFolder folder = open_model(path);
    if (!folder.tokenizer.empty()) {
        const Tokenizer t(folder.tokenizer);
        if (regex_available()) { t.encode("a"); }
    }
    logits_of(path, {0});
}

// f() must throw Error with one line that begins with the path and contains `says`.
template <class F>
void expect_error_of(const std::string& path, const std::string& says, F f) {
    try {
        f();
        ADD_FAILURE() << "accepted, should say '" << says << "'";
    } catch (const Error& e) {
        const std::string text = e.what();
        EXPECT_NE(text.find(says), std::string::npos) << "should say '" << says << "': " << text;
        EXPECT_EQ(text.rfind(path, 0), 0u) << text;
        EXPECT_EQ(lines(text), 0) << text;
    }
}

class GgufTest : public testing::Test {
  protected:
    std::string write(TestGguf g) {
        const std::string path = dir_ / "x.gguf";
        write_text(path, g.bytes());
        return path;
    }
    // The smallest Llama after this change.
    void refused(const std::string& says, const std::function<void(TestGguf&)>& change) {
        TestGguf g = smallest_llama();
        change(g);
        const std::string path = write(g);
        expect_error_of(path, says, [&] { use(path); });
    }
    json config(const std::function<void(TestGguf&)>& change) {
        TestGguf g = smallest_llama();
        change(g);
        return gguf_config(Gguf(write(g)));
    }
    TempDir dir_;
};

// -----------------------------------------------------------------------------------------------------------

TEST(NumberFormats, HalfToFloat) {
    const std::pair<int, double> cases[] = {{0, 0},
                                            {1, 0x1p-24},
                                            {0x3FF, 0x3FFp-24},
                                            {0x400, 0x1p-14},
                                            {0x3C00, 1},
                                            {0x3C01, 1.0 + 0x1p-10},
                                            {0xC000, -2},
                                            {0x7BFF, 65504},
                                            {0xFBFF, -65504},
                                            {0x7C00, INFINITY},
                                            {0xFC00, -INFINITY}};
    for (const auto& [bits, value] : cases) { EXPECT_EQ(half_to_float((uint16_t)bits), value) << bits; }
    EXPECT_TRUE(std::signbit(half_to_float(0x8000)));
    EXPECT_TRUE(std::isnan(half_to_float(0x7C01)) && std::isnan(half_to_float(0xFE00)));
}

// The package gguf computes the same sums in float; only a fused multiply-add may differ in the last bit.
TEST(NumberFormats, AsThePackageGgufReadsThem) {
    const Gguf file(root + "formats.gguf");
    int formats = 0;
    for (const auto& [name, tensor] : file.tensors()) {
        if (name.ends_with(".expected")) { continue; }
        formats++;
        EXPECT_EQ(tensor.format->name, name);
        EXPECT_EQ(tensor.shape, (std::vector<size_t>{2, 256}));
        const std::vector<float> got = file.floats(name), want = file.floats(name + ".expected");
        ASSERT_EQ(got.size(), 512u);
#ifdef __FP_FAST_FMAF
        SCOPED_TRACE(name);
        EXPECT_WITHIN(relative_error(got, want), 2e-7);
#else
        EXPECT_EQ(got, want) << name;
#endif
    }
    EXPECT_EQ(formats, 13);
}

// A tensor is read in pieces of 65536 numbers.
TEST_F(GgufTest, LargeTensors) {
    for (const uint32_t id : {0u, 8u, 10u}) {
        const NumberFormat* format = find_number_format(id);
        const size_t row = 512, rows = 300, n = row * rows;
        TestGguf g;
        TestGguf::Tensor& t = g.tensor("t");
        t.sizes = {row, rows}, t.format = id;
        for (size_t i = 0; i < n / format->block_numbers * format->block_bytes; i++) {
            t.data += (char)(i * 2654435761u >> 13 & 0x3F);  // no large exponents
        }
        const std::vector<float> got = Gguf(write(g)).floats("t");
        std::vector<float> want(n);
        to_floats(*format, (const uint8_t*)t.data.data(), n, want.data());
        ASSERT_EQ(got.size(), n);
        EXPECT_EQ(got, want) << format->name;
    }
}

TEST_F(GgufTest, SettingsOfEveryType) {
    TestGguf g = smallest_llama();
    g.set_raw("u8", raw(0u) + raw((uint8_t)200));
    g.set_raw("i8", raw(1u) + raw((int8_t)-3));
    g.set_raw("u16", raw(2u) + raw((uint16_t)60000));
    g.set_raw("i16", raw(3u) + raw((int16_t)-300));
    g.set_raw("u32", raw(4u) + raw(3000000000u));
    g.set_raw("i32", raw(5u) + raw(-70000));
    g.set("f32", 0.5f);
    g.set("yes", true);
    g.set("no", false);
    g.set("text", "a b");
    g.set("empty", "");
    g.set_raw("u64", raw(10u) + raw((uint64_t)1 << 40));
    g.set_raw("i64", raw(11u) + raw(-((int64_t)1 << 40)));
    g.set_raw("f64", raw(12u) + raw(0.1));
    g.set("floats", std::vector<float>{1.5f, -2});
    g.set("texts", std::vector<std::string>{"x", "", "yz"});
    g.set("nothing", std::vector<int>{});
    const std::string path = write(g);
    const Gguf file(path);
    for (const auto& [key, value] : std::map<std::string, double>{{"u8", 200},
                                                                  {"i8", -3},
                                                                  {"u16", 60000},
                                                                  {"i16", -300},
                                                                  {"u32", 3e9},
                                                                  {"i32", -70000},
                                                                  {"f32", 0.5},
                                                                  {"u64", 0x1p40},
                                                                  {"i64", -0x1p40},
                                                                  {"f64", 0.1}}) {
        EXPECT_EQ(file.number(key), value) << key;
    }
    EXPECT_TRUE(file.flag("yes", false));
    EXPECT_FALSE(file.flag("no", true));
    EXPECT_TRUE(file.flag("absent", true));
    EXPECT_EQ(file.text("text") + file.text("empty"), "a b");
    EXPECT_EQ(file.list("floats"), json({1.5, -2}));
    EXPECT_EQ(file.list("texts"), json({"x", "", "yz"}));
    EXPECT_EQ(file.list("nothing"), json::array());
    EXPECT_EQ(file.whole("i32"), -70000);
    const auto fails = [&](const std::string& says, const auto& f) { expect_error_of(path, says, f); };
    fails("'absent' is missing", [&] { file.number("absent"); });
    fails("'text' is not a number", [&] { file.number("text"); });
    fails("'u8' is not a text", [&] { file.text("u8"); });
    fails("'f32' is not a whole number", [&] { file.whole("f32"); });
    fails("'u64' is not a whole number, or too large", [&] { file.whole("u64"); });
    fails("'u8' is neither true nor false", [&] { file.flag("u8", true); });
    fails("'text' is not a list", [&] { file.list("text"); });
    fails("tensor 'absent' is missing", [&] { file.floats("absent"); });
}

// The header is read through a buffer of 1 MB.
TEST_F(GgufTest, LongHeaders) {
    TestGguf g = smallest_llama();
    std::vector<std::string> texts;
    for (int i = 0; i < 200000; i++) { texts.push_back("text " + std::to_string(i)); }
    texts.push_back(std::string(3 << 20, 'x'));
    g.set("texts", texts);
    g.set("after", 7);
    const Gguf file(write(g));
    EXPECT_EQ(file.list("texts"), json(texts));
    EXPECT_EQ(file.whole("after"), 7);
    EXPECT_EQ(file.tensors().size(), g.tensors.size());
}

TEST_F(GgufTest, Versions2And3AndAlignment) {
    const std::vector<float> want = logits_of(write(smallest_llama()), {0, 3, 1});
    for (const uint32_t version : {2u, 3u}) {
        for (const size_t alignment : {8, 64, 96}) {
            TestGguf g = smallest_llama();
            g.version = version, g.alignment = alignment;
            g.set("general.alignment", (int)alignment);
            EXPECT_EQ(logits_of(write(g), {0, 3, 1}), want) << version << " " << alignment;
        }
    }
}

// -----------------------------------------------------------------------------------------------------------

TEST(GgufLlama, SameLogitsAsTransformers) {
    for (const std::string name : llamas) {
        const Safetensors want(root + name + "/expected.safetensors");
        expect_error(
            "logits of " + name,
            relative_error(logits_of(root + name + "/model.gguf", want.ints("ids")), want.floats("logits")),
            2e-5);
    }
}

TEST(GgufLlama, OpenModel) {
    const std::string path = root + "gpt2_tied_q8_0/model.gguf";
    const ModelFolder m = open_model(path);
    EXPECT_EQ(m.path, path);
    EXPECT_EQ(m.tokenizer, path);
    const Config& c = m.config;
    EXPECT_EQ((std::vector{c.vocab_size, c.hidden_size, c.intermediate_size, c.num_layers, c.num_heads,
                           c.num_kv_heads, c.head_dim, c.max_position_embeddings}),
              (std::vector{300, 32, 64, 2, 4, 2, 8, 64}));
    EXPECT_TRUE(c.tie_word_embeddings);
    EXPECT_FLOAT_EQ((float)c.rms_norm_eps, 1e-5f);
    EXPECT_EQ(c.rope_theta, 10000);
    EXPECT_EQ(m.begin_token, 298);
    EXPECT_EQ(m.end_tokens, (std::vector{298, 299})) << "of a text, and of a turn";
    EXPECT_EQ(m.chat_template, "{{ messages[0]['content'] }}<|turn|>");
    EXPECT_EQ(m.trained_length, 64);
    const ModelFolder other = open_model(root + "llama_f16/model.gguf");
    EXPECT_FALSE(other.config.tie_word_embeddings);
    EXPECT_EQ(other.begin_token, 1);
    EXPECT_EQ(other.end_tokens, std::vector{2});
    EXPECT_EQ(other.chat_template, "");
}

TEST(GgufLlama, WithoutATokenizer) {
    const TempDir dir;
    write_text(dir / "x.gguf", smallest_llama().bytes());
    const ModelFolder m = open_model(dir / "x.gguf");
    EXPECT_EQ(m.tokenizer, "");
    EXPECT_EQ(m.begin_token, -1);
    EXPECT_TRUE(read_kept_files(m).files.empty());
    EXPECT_EQ(moba("sample --device cpu --prompt-ids 1,2 --max-new-tokens 1 --model " + (dir / "x.gguf"))
                  .out.find("1 2 "),
              0u);
    expect_refused("tokens --prompt a --tokenizer " + (dir / "x.gguf"), 1,
                   "'tokenizer.ggml.model' is missing");
}

// Training keeps a folder as transformers would have it.
TEST(GgufLlama, FilesOfATrainedModel) {
    for (const std::string name : llamas) {
        const TempDir dir;
        const std::string path = root + name + "/model.gguf";
        std::vector<int32_t> header(256);
        header[0] = 20240520, header[1] = 1, header[2] = 500;
        std::string shard((const char*)header.data(), 1024);
        for (int i = 0; i < 500; i++) { shard += raw((uint16_t)(i * 7 % 200)); }
        write_text(dir / "x.bin", shard);
        write_text(dir / "tokens.json", R"({"vocab_size": 299, "end_token": 2, "tokenizer": ""})");
        const Outcome r =
            moba("train --seq-len 16 --batch-size 2 --steps 2 --warmup 0 --eval-every 0 --attention full "
                 "--device cpu --init-from " +
                 path + " --data " + (dir / "x.bin") + " --out " + (dir / "run"));
        ASSERT_EQ(r.status, 0) << r.out;
        const std::string latest = dir / "run/latest";
        const bool gpt2 = name != "llama_f16";
        const json settings = json::parse(read_text(latest + "/tokenizer_config.json"));
        EXPECT_EQ(settings["bos_token"], gpt2 ? "<|end|>" : "<s>");
        EXPECT_EQ(settings["eos_token"], gpt2 ? "<|end|>" : "</s>");
        EXPECT_EQ(settings["tokenizer_class"], "PreTrainedTokenizerFast");
        EXPECT_EQ(fs::exists(latest + "/chat_template.jinja"), gpt2);
        if (gpt2) { EXPECT_EQ(read_text(latest + "/chat_template.jinja"), open_model(path).chat_template); }
        EXPECT_EQ(read_text(latest + "/tokenizer.json"), tokenizer_json(path));
        EXPECT_TRUE(Tokenizer(latest).has_vocabulary_of(Tokenizer(path)));
        const ModelFolder after = open_model(dir / "run");
        EXPECT_EQ(after.config.vocab_size, open_model(path).config.vocab_size);
        EXPECT_EQ(after.config_json["bos_token_id"], gpt2 ? 298 : 1);
        EXPECT_EQ(after.config_json["model_type"], "llama");
    }
}

TEST(GgufLlama, TokenizersAsTransformersReadsThem) {
    if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    for (const std::string name : llamas) {
        const Tokenizer t(root + name + "/model.gguf");
        for (const json& text : json::parse(read_text(root + name + "/texts.json"))) {
            const auto given = text[0].get<std::string>();
            const std::vector<int> ids = t.encode(given, SpecialNames::text);
            EXPECT_EQ(ids, text[1].get<std::vector<int>>()) << name << ": " << given;
            EXPECT_EQ(t.encode(given, SpecialNames::tokens), text[2].get<std::vector<int>>())
                << name << ": " << given;
            TextStream back(t);
            std::string out;
            for (int id : ids) { out += back.add(id); }
            EXPECT_EQ(out, given) << name;
        }
        EXPECT_EQ(t.begin_tokens(), name == "llama_f16" ? std::vector{1} : std::vector<int>{});
    }
    EXPECT_EQ(Tokenizer(root + "llama_f16/model.gguf").end_token(), 2);
}

// -----------------------------------------------------------------------------------------------------------

std::vector<std::string> letters() { return {byte_letters().begin(), byte_letters().end()}; }

// llama.cpp has the pre-tokenizers in its code and only their names in the file.
TEST_F(GgufTest, PreTokenizersByName) {
    if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    const auto tokenizer = [&](const char* words) {
        TestGguf g = smallest_llama();
        put_gpt2_tokenizer(g, letters(), {"12", "123", "1234", "Ġ1234", "78", "Ã©"},
                           {"1 2", "12 3", "123 4", "Ġ 1234", "Ã ©"}, words);
        return Tokenizer(write(g));
    };
    using Ids = std::vector<int>;
    const Ids digits{'1', '2', '3', '4'};
    for (const char* words : {"gpt-2", "mpt", "olmo", "jais"}) {
        EXPECT_EQ(tokenizer(words).encode("1234"), Ids{258}) << words;
        EXPECT_EQ(tokenizer(words).encode(" 1234"), Ids{259}) << words << ": a blank and a number are a word";
        EXPECT_EQ(tokenizer(words).encode("78"), (Ids{'7', '8'})) << words << ": no merge";
    }
    for (const char* words : {"smollm", "starcoder", "refact", "command-r", "codeshell"}) {
        EXPECT_EQ(tokenizer(words).encode("1234"), digits) << words;
    }
    for (const char* words : {"llama3", "llama-v3", "llama-bpe"}) {
        EXPECT_EQ(tokenizer(words).encode("1234"), (Ids{257, '4'})) << words << ": three digits are a word";
        EXPECT_EQ(tokenizer(words).encode("78"), Ids{260}) << words << ": whole words need no merges";
    }
    for (const char* words : {"qwen2", "deepseek-r1-qwen", "megrez"}) {
        EXPECT_EQ(tokenizer(words).encode("1234"), digits) << words;
        EXPECT_EQ(tokenizer(words).encode("e\xCC\x81"), Ids{261}) << words << ": NFC";
    }
    EXPECT_EQ(tokenizer("gpt-2").encode("e\xCC\x81").size(), 3u);
    // one that is not known is an error only where text is encoded
    for (const char* words : {"tekken", "default"}) {
        const Tokenizer t = tokenizer(words);
        EXPECT_EQ(t.text(258), "1234");
        expect_error_of(dir_ / "x.gguf", "GGUF's '" + std::string(words) + "' is not supported",
                        [&] { t.encode("a"); });
    }
    TestGguf g = smallest_llama();
    put_gpt2_tokenizer(g, letters(), {}, {}, "");
    g.remove("tokenizer.ggml.pre");
    const Tokenizer unnamed(write(g));
    expect_error_of(dir_ / "x.gguf", "GGUF's 'unnamed' is not supported", [&] { unnamed.encode("a"); });
}

TEST_F(GgufTest, BeginTokens) {
    if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    const auto begins = [&](const char* words, int id, int add) {
        TestGguf g = smallest_llama();
        put_gpt2_tokenizer(g, letters(), {"<begin>", "</s>"}, {}, words);
        if (id >= 0) { g.set("tokenizer.ggml.bos_token_id", id); }
        if (add >= 0) { g.set("tokenizer.ggml.add_bos_token", add == 1); }
        return Tokenizer(write(g)).begin_tokens();
    };
    using Ids = std::vector<int>;
    EXPECT_EQ(begins("llama-bpe", 256, -1), Ids{256})
        << "Llama 3 begins with it unless the file says otherwise";
    EXPECT_EQ(begins("llama-bpe", 256, 0), Ids{});
    EXPECT_EQ(begins("llama-bpe", -1, -1), Ids{}) << "there is none";
    EXPECT_EQ(begins("gpt-2", 256, -1), Ids{});
    EXPECT_EQ(begins("gpt-2", 256, 1), Ids{256});
    EXPECT_EQ(begins("gpt-2", 257, 1), Ids{257}) << "the end of a document begins one, too";
}

// The types of tokens: 1 normal, 2 unknown, 3 control, 4 of the user, 6 a byte
TEST_F(GgufTest, TypesOfTokens) {
    if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    TestGguf g = smallest_llama();
    put_gpt2_tokenizer(g, letters(), {"<a>", "<b>", "<c>", "<d>"}, {}, "gpt-2");
    std::vector<int> types(256, 1);
    types.insert(types.end(), {1, 2, 3, 4});
    g.set("tokenizer.ggml.token_type", types);
    const Tokenizer t(write(g));
    for (const char* never : {"<a>"}) {
        EXPECT_EQ(t.encode(never, SpecialNames::tokens).size(), 3u) << never;
    }
    for (int special : {257, 258}) {
        const std::string name = special == 257 ? "<b>" : "<c>";
        EXPECT_EQ(t.encode(name, SpecialNames::tokens), std::vector{special});
        EXPECT_EQ(t.encode(name, SpecialNames::text).size(), 3u);
        EXPECT_EQ(t.text(special), "") << "a mark";
    }
    EXPECT_EQ(t.encode("<d>", SpecialNames::text), std::vector{259}) << "the user's are always tokens";
    EXPECT_EQ(t.text(259), "<d>");
}

TEST_F(GgufTest, SentencePieceWithAndWithoutABlankInFront) {
    if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    TestGguf g = smallest_llama();
    const std::string blank = "\xE2\x96\x81";
    const std::vector<std::string> tokens{"?", blank, "a", "b", "ab", blank + "a", "aba", "ba"};
    g.set("tokenizer.ggml.model", "llama");
    g.set("tokenizer.ggml.tokens", tokens);
    g.set("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, 0, -1, -3, -2, -1.5f});
    const auto ids = [&](const std::string& text) {
        const Tokenizer t(write(g));
        const std::vector<int> out = t.encode(text);
        TextStream stream(t);
        std::string back;
        for (int id : out) { back += stream.add(id); }
        EXPECT_EQ(back, text);
        return out;
    };
    using Ids = std::vector<int>;
    EXPECT_EQ(ids("ab"), (Ids{1, 4})) << "the highest score first: ab, then no piece of a blank and ab";
    EXPECT_EQ(ids("a ba"), (Ids{5, 1, 7}));
    EXPECT_EQ(ids("aba"), (Ids{1, 6})) << "ab and a";
    EXPECT_EQ(Tokenizer(write(g)).encode("azzb"), (Ids{5, 0, 3}))
        << "unknown neighbours are one, token 0 unless the file says otherwise";
    g.set("tokenizer.ggml.unknown_token_id", 6);
    EXPECT_EQ(Tokenizer(write(g)).encode("bz"), (Ids{1, 3, 6}));
    g.set("tokenizer.ggml.add_space_prefix", false);
    EXPECT_EQ(ids("ab"), Ids{4});
    EXPECT_EQ(ids(" ab"), (Ids{1, 4}));
}

// Names that are not UTF-8 get U+FFFD, as in the tokenizer.json that training writes.
TEST_F(GgufTest, TokensThatAreNotUtf8) {
    if (!regex_available()) { GTEST_SKIP() << "built without PCRE2"; }
    TestGguf g = smallest_llama();
    put_gpt2_tokenizer(g, letters(), {"\x80", "\xE2\x82"}, {}, "gpt-2");
    std::vector<int> types(256, 1);
    types.insert(types.end(), {4, 4});
    g.set("tokenizer.ggml.token_type", types);
    const std::string path = write(g);
    const std::string euro = "\xE2\x82\xAC";
    EXPECT_EQ(Tokenizer(path).encode(euro), (std::vector<int>{0xE2, 0x82, 0xAC}))
        << "no name is found inside a character";
    write_text(dir_ / "t.json", tokenizer_json(path));
    EXPECT_TRUE(Tokenizer(path).has_vocabulary_of(Tokenizer(dir_ / "t.json")));
}

TEST_F(GgufTest, TokenizersThatLie) {
    const auto sentencepiece = [](TestGguf& g) {
        g.set("tokenizer.ggml.model", "llama");
        g.set("tokenizer.ggml.tokens", std::vector<std::string>{"?", "a"});
        g.set("tokenizer.ggml.scores", std::vector<float>{0, 0});
    };
    const auto gpt2 = [](TestGguf& g) { put_gpt2_tokenizer(g, {"a", "b"}, {}, {}, "gpt-2"); };
    refused("tokenizer 't5' is not supported, only gpt2 and llama", [&](TestGguf& g) {
        gpt2(g);
        g.set("tokenizer.ggml.model", "t5");
    });
    refused("'tokenizer.ggml.tokens' is missing", [&](TestGguf& g) {
        gpt2(g);
        g.remove("tokenizer.ggml.tokens");
    });
    refused("'tokenizer.ggml.tokens' holds what is not a text", [&](TestGguf& g) {
        gpt2(g);
        g.set("tokenizer.ggml.tokens", std::vector<int>{1, 2});
    });
    refused("'tokenizer.ggml.merges' is missing", [&](TestGguf& g) {
        gpt2(g);
        g.remove("tokenizer.ggml.merges");
    });
    refused("as many token types as tokens", [&](TestGguf& g) {
        gpt2(g);
        g.set("tokenizer.ggml.token_type", std::vector<int>{1});
    });
    refused("its begin token is not in its vocabulary", [&](TestGguf& g) {
        gpt2(g);
        g.set("tokenizer.ggml.add_bos_token", true);
        g.set("tokenizer.ggml.bos_token_id", 2);
    });
    refused("'tokenizer.ggml.scores' is missing", [&](TestGguf& g) {
        sentencepiece(g);
        g.remove("tokenizer.ggml.scores");
    });
    refused("as many scores as tokens", [&](TestGguf& g) {
        sentencepiece(g);
        g.set("tokenizer.ggml.scores", std::vector<float>{0, 0, 0});
    });
    refused("'tokenizer.ggml.scores' holds what is not a number", [&](TestGguf& g) {
        sentencepiece(g);
        g.set("tokenizer.ggml.scores", std::vector<std::string>{"x", "y"});
    });
    refused("its unknown token is not in its vocabulary", [&](TestGguf& g) {
        sentencepiece(g);
        g.set("tokenizer.ggml.unknown_token_id", 2);
    });
    refused("'tokenizer.chat_template' is not a text",
            [](TestGguf& g) { g.set("tokenizer.chat_template", 7); });
}

// -----------------------------------------------------------------------------------------------------------

TEST_F(GgufTest, Rope) {
    const json plain = config([](TestGguf&) {})["rope_parameters"];
    EXPECT_EQ(plain, json({{"rope_type", "default"}, {"rope_theta", 10000.0}}));
    EXPECT_EQ(
        config([](TestGguf& g) { g.set("llama.rope.freq_base", 500.f); })["rope_parameters"]["rope_theta"],
        500);
    const json linear = {{"rope_type", "linear"}, {"factor", 4.0}, {"rope_theta", 10000.0}};
    EXPECT_EQ(config([](TestGguf& g) {
                  g.set("llama.rope.scaling.type", "linear");
                  g.set("llama.rope.scaling.factor", 4.f);
              })["rope_parameters"],
              linear);
    for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
        EXPECT_EQ(config([&](TestGguf& g) { g.set(key, 4.f); })["rope_parameters"], linear)
            << key << " alone";
    }
    EXPECT_EQ(config([](TestGguf& g) {
                  g.set("llama.rope.scaling.type", "none");
                  g.set("llama.rope.scaling.factor", 4.f);
              })["rope_parameters"],
              plain);
    refused("'llama.rope.scaling.factor' is missing",
            [](TestGguf& g) { g.set("llama.rope.scaling.type", "linear"); });
    refused("linear\xEF\xBF\xBD", [](TestGguf& g) {
        g.set("llama.rope.scaling.type", "linear\xFF");
        g.set("llama.rope.scaling.factor", 4.f);
    });
    const json yarn = config([](TestGguf& g) {
        g.set("llama.rope.scaling.type", "yarn");
        g.set("llama.rope.scaling.factor", 4.f);
        g.set("llama.rope.scaling.original_context_length", 64);
    })["rope_parameters"];
    EXPECT_EQ(yarn["rope_type"], "yarn");
    EXPECT_EQ(yarn["original_max_position_embeddings"], 64);
    refused("longrope", [](TestGguf& g) {
        g.set("llama.rope.scaling.type", "longrope");
        g.set("llama.rope.scaling.factor", 4.f);
    });
    // the factors of Llama 3.1 and 3.2, by llama.cpp's words: none, all, and between
    const auto llama3 = [](TestGguf& g, double factor, double wrong) {
        g.set("llama.embedding_length", 64);
        g.set("llama.rope.freq_base", 500000.f);
        TestGguf::Tensor& t = g.tensor("rope_freqs.weight");
        t.sizes = {32};
        t.data.clear();
        for (int i = 0; i < 32; i++) {
            const double wave = 2 * M_PI * std::pow(500000, i / 32.0), smooth = (8192 / wave - 1) / 3;
            const double x = wave < 2048 ? 1 : wave > 8192 ? factor : 1 / ((1 - smooth) / factor + smooth);
            t.data += raw((float)(i == 20 ? x * wrong : x));
        }
    };
    for (const double factor : {8.0, 32.0}) {
        EXPECT_EQ(config([&](TestGguf& g) { llama3(g, factor, 1); })["rope_parameters"],
                  json({{"rope_type", "llama3"},
                        {"factor", factor},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 8192},
                        {"rope_theta", 500000.0}}));
    }
    const char* others = "no others are supported";
    refused(others, [&](TestGguf& g) { llama3(g, 16, 1); });
    refused(others, [&](TestGguf& g) { llama3(g, 8, 1.01); });
    refused(others, [&](TestGguf& g) {
        llama3(g, 8, 1);
        g.tensor("rope_freqs.weight").sizes = {31};
    });
    refused("llama.rope.scaling.type beside 'rope_freqs.weight'", [&](TestGguf& g) {
        llama3(g, 8, 1);
        g.set("llama.rope.scaling.factor", 2.f);
    });
}

TEST_F(GgufTest, OtherModels) {
    refused("architecture 'gemma' is not supported, only llama",
            [](TestGguf& g) { g.set("general.architecture", "gemma"); });
    refused("'general.architecture' is missing", [](TestGguf& g) { g.remove("general.architecture"); });
    refused("a mixture of experts", [](TestGguf& g) { g.set("llama.expert_count", 8); });
    EXPECT_NO_THROW(config([](TestGguf& g) { g.set("llama.expert_count", 0); }));
    refused("head_count must be at least 1", [](TestGguf& g) { g.set("llama.attention.head_count", 0); });
    refused("value_length differs from the key's",
            [](TestGguf& g) { g.set("llama.attention.value_length", 2); });
    refused("RoPE on a part of a head", [](TestGguf& g) { g.set("llama.rope.dimension_count", 2); });
    refused("'llama.attention.key_length' is not a whole number",
            [](TestGguf& g) { g.set("llama.attention.key_length", 1e30f); });
    refused("'llama.attention.head_count_kv' is not a number",
            [](TestGguf& g) { g.set("llama.attention.head_count_kv", std::vector<int>{1}); });
    for (const char* key :
         {"llama.embedding_length", "llama.block_count", "llama.feed_forward_length",
          "llama.attention.head_count", "llama.context_length", "llama.attention.layer_norm_rms_epsilon"}) {
        refused("'" + std::string(key) + "' is missing", [&](TestGguf& g) { g.remove(key); });
    }
}

TEST_F(GgufTest, WeightsThatDoNotFit) {
    for (const auto& t : smallest_llama().tensors) {
        if (t.name == "output.weight") { continue; }  // without it the model is tied
        refused("tensor '" + t.name + "' is missing", [&](TestGguf& g) { g.remove_tensor(t.name); });
    }
    EXPECT_TRUE(config([](TestGguf& g) { g.remove_tensor("output.weight"); })["tie_word_embeddings"]);
    for (const char* more : {"blk.0.attn_q.bias", "blk.1.attn_q.weight", "blk.0.ffn_gate_inp.weight", "x"}) {
        refused("tensor '" + std::string(more) + "' does not belong to this model",
                [&](TestGguf& g) { g.put(more, {4}); });
    }
    refused("tensor 'blk.0.ffn_up.weight'", [](TestGguf& g) { g.put("blk.0.ffn_up.weight", {4, 6}); });
    refused("tensor 'output_norm.weight'", [](TestGguf& g) { g.put("output_norm.weight", {5}); });
    refused("tensor 'output.weight'", [](TestGguf& g) { g.put("output.weight", {6, 4}); });
    for (const char* name : {"blk.0.attn_q.weight", "blk.0.attn_k.weight"}) {
        refused("tensor '" + std::string(name) + "'", [&](TestGguf& g) { g.put(name, {3, 4}); });
        refused("tensor '" + std::string(name) + "'", [&](TestGguf& g) { g.put(name, {16}); });
    }
}

// -----------------------------------------------------------------------------------------------------------

TEST_F(GgufTest, TruncatedAnywhere) {
    TestGguf small = smallest_llama();
    put_gpt2_tokenizer(small, {"a", "b"}, {"ab"}, {"a b"}, "gpt-2");
    small.set("floats", std::vector<float>{1, 2});
    const std::string path = dir_ / "x.gguf";
    const auto truncate = [&](const std::string& bytes, size_t header) {
        write_text(path, bytes);
        for (size_t size = header; size-- > 0;) {
            fs::resize_file(path, size);
            expect_error_of(path, size == 0 ? "empty" : "", [&] { const Gguf file(path); });
            if (HasFailure()) { FAIL() << "at " << size << " bytes"; }
        }
    };
    const std::string bytes = small.bytes();
    EXPECT_NO_THROW(use((write(small), path)));
    truncate(bytes, bytes.size() - 24);  // the last tensor has 96 bytes: no padding
    truncate(read_text(root + "gpt2_tied_q8_0/model.gguf"), 8000);
    // and as the program says it
    write_text(path, bytes.substr(0, 20));
    expect_refused("info --model " + path, 1, "ends in the middle of its header; it may be truncated");
    write_text(path, bytes.substr(0, 200));
    expect_refused("info --model " + path, 1, "is longer than the file, which may be truncated");
    write_text(path, bytes.substr(0, bytes.size() - 40));
    expect_refused("info --model " + path, 1,
                   "its data lies beyond the end of the file, which may be truncated");
}

TEST_F(GgufTest, HeadersThatLie) {
    refused("no GGUF file: it does not begin with GGUF", [](TestGguf& g) { g.magic = "GGUX"; });
    refused("a zip file", [](TestGguf& g) { g.magic = "PK\3\4"; });
    for (const uint32_t version : {0u, 1u, 4u, 3u << 24}) {
        refused("has version " + std::to_string(version) + " of GGUF; only versions 2 and 3",
                [&](TestGguf& g) { g.version = version; });
    }
    for (const uint64_t many : {(uint64_t)1000, ~(uint64_t)0 / 2}) {
        refused("", [&](TestGguf& g) { g.claimed_settings = many; });
        refused("", [&](TestGguf& g) { g.claimed_tensors = many; });
    }
    // texts and lists
    refused("a text of its header is longer than the file",
            [](TestGguf& g) { g.set_raw("x", raw(8u) + raw((uint64_t)1 << 40) + "a"); });
    refused("a text of its header is longer than the file",
            [](TestGguf& g) { g.set_raw("x", raw(8u) + raw(~(uint64_t)0)); });
    refused("'x': its list is longer than the file",
            [](TestGguf& g) { g.set_raw("x", raw(9u) + raw(0u) + raw((uint64_t)1 << 40)); });
    refused("'x': lists of lists are not supported", [](TestGguf& g) {
        g.set_raw("x", raw(9u) + raw(9u) + raw((uint64_t)1) + raw(0u) + raw((uint64_t)0));
    });
    refused("'x': has the unknown type 13", [](TestGguf& g) { g.set_raw("x", raw(13u) + raw(0u)); });
    refused("'x': has the unknown type 77",
            [](TestGguf& g) { g.set_raw("x", raw(9u) + raw(77u) + raw((uint64_t)1) + raw(0u)); });
    for (const int wrong : {0, 4, -8}) {
        refused("general.alignment must be a multiple of 8",
                [&](TestGguf& g) { g.set_raw("general.alignment", raw(5u) + raw(wrong)); });
    }
    refused("'general.alignment' is not a number", [](TestGguf& g) { g.set("general.alignment", "32"); });
    // tensors
    const std::string name = "token_embd.weight", where = "tensor '" + name + "'";
    refused(where + " is there twice", [&](TestGguf& g) { g.tensors.push_back(g.tensor(name)); });
    refused(where + ": has 0 dimensions", [&](TestGguf& g) { g.tensor(name).sizes = {}; });
    refused(where + ": has 5 dimensions", [&](TestGguf& g) { g.tensor(name).sizes = {1, 1, 1, 1, 1}; });
    refused(where + ": has the number format 4, which is not supported",
            [&](TestGguf& g) { g.tensor(name).format = 4; });
    refused("number format 4294967295", [&](TestGguf& g) { g.tensor(name).format = ~0u; });
    refused(where + ": its rows are not whole blocks of Q8_0",
            [&](TestGguf& g) { g.tensor(name).format = 8; });
    const char* too_large = ": its shape needs more bytes than the file has";
    const uint64_t half = (uint64_t)1 << 32;
    for (const std::vector<uint64_t>& sizes : {std::vector<uint64_t>{half, half},
                                               {half * half - 1},
                                               {4, half, half, half},
                                               {0, 5},
                                               {4, 0},
                                               {(uint64_t)1 << 63, 2, 1, 2},
                                               {(half * half - 1) / 4, 5}}) {
        refused(where + too_large, [&](TestGguf& g) { g.tensor(name).sizes = sizes; });
    }
    refused(where + ": its data lies beyond the end", [&](TestGguf& g) { g.tensor(name).sizes = {4, 1000}; });
    for (const uint64_t offset : {(uint64_t)1 << 20, ~(uint64_t)0 - 31, (uint64_t)1 << 63}) {
        refused(where + ": its data lies beyond the end", [&](TestGguf& g) {
            g.tensor(name).offset = offset;
            g.tensor(name).own_offset = true;
        });
    }
    refused(where + ": its data is not aligned", [&](TestGguf& g) {
        g.tensor(name).offset = 4;
        g.tensor(name).own_offset = true;
    });
    // control characters in names do not reach the terminal
    TestGguf g = smallest_llama();
    g.put("bad\n\x1b[31mname", {4});
    const Outcome r = moba_errors("sample --device cpu --prompt-ids 1 --model " + write(g));
    EXPECT_EQ(r.status, 1) << r.out;
    EXPECT_EQ(lines(r.out), 1) << r.out;
    EXPECT_EQ(r.out.find('\x1b'), std::string::npos) << r.out;
}

}  // namespace

}  // namespace moba

#include "train/core/utf8.h"
#include "train/files/gguf_model.h"
#include <algorithm>
#include <unordered_set>

namespace moba {

using nlohmann::json;

namespace {

enum TokenType { normal = 1, unknown, control, user_defined, unused, byte };

json byte_level(bool use_regex) {
    return {
        {"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

json split(const std::string& regex) {
    return {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
}

json sequence(json first, json second) {
    return {{"type", "Sequence"}, {"pretokenizers", json::array({std::move(first), std::move(second)})}};
}

// The words of Llama 3; Qwen's differ in how many digits are one word.
std::string llama3_words(const std::string& digits) {
    return R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits +
           R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
}

/* llama.cpp names the pre-tokenizer of byte-level BPE, and has its parts in its code. */
void set_words(json& out, const std::string& name) {
    const auto is = [&](std::initializer_list<const char*> names) {
        return std::find(names.begin(), names.end(), name) != names.end();
    };
    if (is({"gpt-2", "mpt", "olmo", "jais"})) {
        out["pre_tokenizer"] = byte_level(true);
    } else if (is({"smollm", "starcoder", "refact", "command-r", "codeshell"})) {
        out["pre_tokenizer"] = sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
    } else if (is({"llama3", "llama-v3", "llama-bpe"})) {
        out["pre_tokenizer"] = sequence(split(llama3_words(R"(\p{N}{1,3})")), byte_level(false));
        out["model"]["ignore_merges"] = true;
    } else if (is({"qwen2", "deepseek-r1-qwen", "megrez"})) {
        out["normalizer"] = {{"type", "NFC"}};
        out["pre_tokenizer"] = sequence(split(llama3_words(R"(\p{N})")), byte_level(false));
    } else {
        out["pre_tokenizer"] = {{"type", "GGUF's '" + name.substr(0, 24) + "'"}};
    }
}

size_t characters(const std::string& text) {
    return (size_t)std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); });
}

/* The merges of a vocabulary of SentencePiece, which has scores instead: every way to make a token of two
   others, the highest score first, as Hugging Face converts them. */
json merges_of(const std::vector<std::string>& tokens, const std::vector<double>& scores) {
    struct Merge {
        std::string left, right;
        double score;
        size_t left_size, right_size;
    };
    const std::unordered_set<std::string> known(tokens.begin(), tokens.end());
    std::vector<Merge> merges;
    for (size_t i = 0; i < tokens.size(); i++) {
        const std::string& t = tokens[i];
        for (size_t cut = 1; cut < t.size(); cut++) {
            if (continues_character(t[cut])) { continue; }
            const std::string left = t.substr(0, cut), right = t.substr(cut);
            if (!known.count(left) || !known.count(right)) { continue; }
            merges.push_back({left, right, scores[i], characters(left), characters(right)});
        }
    }
    std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
        return std::tie(a.score, a.left_size, a.right_size) > std::tie(b.score, b.left_size, b.right_size);
    });
    json out = json::array();
    for (const Merge& m : merges) { out.push_back({m.left, m.right}); }
    return out;
}

void set_sentencepiece(json& out, const Gguf& file, const std::vector<std::string>& tokens) {
    const std::string blank = "\xE2\x96\x81";
    std::vector<double> scores;
    for (const json& score : file.list("tokenizer.ggml.scores")) {
        need(score.is_number(), file.path() + ": 'tokenizer.ggml.scores' holds what is not a number");
        scores.push_back(score.get<double>());
    }
    need(scores.size() == tokens.size(), file.path() + ": as many scores as tokens are needed");
    json& model = out["model"];
    model["merges"] = merges_of(tokens, scores);
    model["byte_fallback"] = model["fuse_unk"] = true;
    const int unknown =
        file.has("tokenizer.ggml.unknown_token_id") ? file.whole("tokenizer.ggml.unknown_token_id") : 0;
    need(unknown >= 0 && unknown < (int)tokens.size(),
         file.path() + ": its unknown token is not in its vocabulary");
    model["unk_token"] = tokens[(size_t)unknown];
    const json to_blank = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", blank}};
    const json from_blank = {{"type", "Replace"}, {"pattern", {{"String", blank}}}, {"content", " "}};
    const bool prefix = file.flag("tokenizer.ggml.add_space_prefix", true);
    json steps = json::array();
    if (prefix) { steps.push_back({{"type", "Prepend"}, {"prepend", blank}}); }
    steps.push_back(to_blank);
    out["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
    json back = json::array({from_blank, {{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
    if (prefix) { back.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}); }
    out["decoder"] = {{"type", "Sequence"}, {"decoders", back}};
}

}  // namespace

json gguf_tokenizer(const Gguf& file) {
    const std::string path = file.path(), kind = file.text("tokenizer.ggml.model");
    need(kind == "gpt2" || kind == "llama",
         path + ": tokenizer '" + kind.substr(0, 40) + "' is not supported, only gpt2 and llama");
    std::vector<std::string> tokens;
    for (const json& t : file.list("tokenizer.ggml.tokens")) {
        need(t.is_string(), path + ": 'tokenizer.ggml.tokens' holds what is not a text");
        tokens.push_back(t.get<std::string>());
    }
    json out = {{"version", "1.0"},          {"truncation", nullptr},
                {"padding", nullptr},        {"added_tokens", json::array()},
                {"normalizer", nullptr},     {"pre_tokenizer", nullptr},
                {"post_processor", nullptr}, {"decoder", nullptr}};
    json& model = out["model"];
    model = {{"type", "BPE"},
             {"dropout", nullptr},
             {"unk_token", nullptr},
             {"continuing_subword_prefix", nullptr},
             {"end_of_word_suffix", nullptr},
             {"fuse_unk", false},
             {"byte_fallback", false},
             {"ignore_merges", false}};
    model["vocab"] = json::object();
    for (size_t i = 0; i < tokens.size(); i++) { model["vocab"][tokens[i]] = i; }
    const std::string types = "tokenizer.ggml.token_type";
    if (file.has(types)) {
        need(file.list(types).size() == tokens.size(), path + ": as many token types as tokens are needed");
        for (size_t i = 0; i < tokens.size(); i++) {
            const json& type = file.list(types)[i];
            const bool special = type == control || type == unknown;
            if (!special && type != user_defined) { continue; }
            out["added_tokens"].push_back({{"id", i},
                                           {"content", tokens[i]},
                                           {"single_word", false},
                                           {"lstrip", false},
                                           {"rstrip", false},
                                           {"normalized", false},
                                           {"special", special}});
        }
    }
    const bool byte_pairs = kind == "gpt2";
    const std::string words = file.has("tokenizer.ggml.pre") ? file.text("tokenizer.ggml.pre") : "unnamed";
    if (byte_pairs) {
        model["merges"] = file.list("tokenizer.ggml.merges");
        out["decoder"] = byte_level(true);
        set_words(out, words);
    } else {
        set_sentencepiece(out, file, tokens);
    }
    const bool begins = !byte_pairs || words == "llama3" || words == "llama-v3" || words == "llama-bpe";
    if (file.flag("tokenizer.ggml.add_bos_token", begins) && file.has("tokenizer.ggml.bos_token_id")) {
        const int id = file.whole("tokenizer.ggml.bos_token_id");
        need(id >= 0 && id < (int)tokens.size(), path + ": its begin token is not in its vocabulary");
        const std::string name = tokens[(size_t)id];
        const json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}},
                   second = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
        const json begin = {{"SpecialToken", {{"id", name}, {"type_id", 0}}}};
        out["post_processor"] = {
            {"type", "TemplateProcessing"},
            {"single", json::array({begin, text})},
            {"pair", json::array({begin, text, begin, second})},
            {"special_tokens", {{name, {{"id", name}, {"ids", {id}}, {"tokens", {name}}}}}}};
    }
    return out;
}

}  // namespace moba

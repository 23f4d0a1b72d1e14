// A tokenizer.json up to the first NUL, then a text that it encodes. The ids must be tokens, and the same
// when the text is encoded again. A plain byte-level tokenizer loses no byte: its ids decode to the text.
#include "test/fuzz/fuzz.h"
#include "train/core/file.h"
#include "train/core/utf8.h"
#include "train/tokenizer/byte_letters.h"
#include "train/tokenizer/tokenizer.h"
#include <nlohmann/json.hpp>
#include <set>

using namespace moba;
using nlohmann::json;

static bool is_plain_byte_level(const json& j) {
    const auto part = [&](const char* key) { return j.value(key, json()); };
    const auto type = [&](const char* key) {
        return part(key).is_object() ? part(key).value("type", json()) : json();
    };
    const json model = part("model");
    if (!part("normalizer").is_null() || !part("added_tokens").empty() || type("model") != "BPE" ||
        type("pre_tokenizer") != "ByteLevel" || type("decoder") != "ByteLevel" ||
        part("pre_tokenizer").value("add_prefix_space", json()) != false) {
        return false;
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        if (!model.value(key, json()).is_null()) { return false; }
    }
    std::set<int> ids;
    for (const auto& [piece, id] : model["vocab"].items()) {
        if (!ids.insert(id.get<int>()).second) { return false; }
    }
    for (const std::string& letter : byte_letters()) {
        if (!model["vocab"].contains(letter)) { return false; }
    }
    return true;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const uint8_t* end = (const uint8_t*)std::memchr(data, 0, size);
    if (!end) { return 0; }
    const std::string path = fuzz_file("tokenizer.json", data, (size_t)(end - data));
    const std::string text(end + 1, data + size);
    return refuses_or_reads([&] {
        const Tokenizer t(path);
        for (const SpecialNames names : {SpecialNames::text, SpecialNames::tokens}) {
            const std::vector<int> ids = t.encode(text, names);
            for (int id : ids) {
                if (id < 0 || id >= t.vocab_size()) { std::abort(); }
            }
            if (t.encode(text, names) != ids) { std::abort(); }
            if (!is_plain_byte_level(read_json(path))) { continue; }
            TextStream stream(t);
            std::string back;
            for (int id : ids) { back += stream.add(id); }
            if (back != replace_invalid_utf8(text)) { std::abort(); }
        }
        t.begin_tokens();
        t.end_token();
    });
}

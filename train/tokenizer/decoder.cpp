#include "train/tokenizer/decoder.h"
#include "moba/core/base.h"
#include "train/tokenizer/byte_letters.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace moba {

using nlohmann::json;

namespace {

// "<0x0A>" -> the byte
std::string from_byte_fallback(const std::string& token) {
    const auto hex = [&](size_t i) { return std::isxdigit((unsigned char)token[i]) != 0; };
    if (token.size() != 6 || token.compare(0, 3, "<0x") != 0 || token[5] != '>' || !hex(3) || !hex(4)) {
        return token;
    }
    return std::string(1, (char)std::stoi(token.substr(3, 2), nullptr, 16));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    for (size_t at = 0; !from.empty() && (at = text.find(from, at)) != std::string::npos; at += to.size()) {
        text.replace(at, from.size(), to);
    }
    return text;
}

// What the WordPiece decoder does to each token when its `cleanup` is on, in this order.
std::string cleaned_up(std::string text) {
    static const std::pair<const char*, const char*> rules[] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : rules) { text = replaced(text, from, to); }
    return text;
}

}  // namespace

Decoder::Decoder(const json& j, const std::string& path) {
    if (j.is_null()) {
        steps_.push_back([](std::string& t, Place place, std::string&) {
            if (place != Place::first) { t = " " + t; }
        });
        return;
    }
    add(j, path);
}

void Decoder::add(const json& j, const std::string& path) {
    const auto fail = [&](const std::string& what) {
        throw Error(path + ": its decoder cannot be used: " + what);
    };
    const auto text = [&](const char* key, const char* fallback) -> std::string {
        const json value = j.value(key, json());
        if (value.is_null() && fallback) { return fallback; }
        if (!value.is_string()) { fail(std::string("'") + key + "' is missing or is not a string"); }
        return value.get<std::string>();
    };
    if (!j.is_object() || !j.contains("type") || !j["type"].is_string()) { fail("it has no 'type'"); }
    const std::string type = j["type"].get<std::string>();
    if (type == "Sequence") {
        const json parts = j.value("decoders", json());
        if (!parts.is_array()) { fail("'decoders' is not a list"); }
        for (const json& part : parts) {
            if (part.is_object() && part.value("type", json()) == "Sequence") {
                fail("a Sequence in a Sequence");
            }
            add(part, path);
        }
    } else if (type == "Fuse") {
        fused_ = true;
    } else if (type == "Strip") {
        const std::string content = text("content", nullptr);
        const json start = j.value("start", json(0)), stop = j.value("stop", json(0));
        const bool once = fused_;  // of the first token only, as all tokens are one string
        if (content.empty() || !start.is_number_unsigned() || stop != 0 || (once && start != 1)) {
            fail("only a Strip of the first character is supported");
        }
        steps_.push_back([=, most = start.get<size_t>()](std::string& t, Place place, std::string&) {
            if (once && place != Place::first) { return; }
            for (size_t i = 0; i < most && t.compare(0, content.size(), content) == 0; i++) {
                t.erase(0, content.size());
            }
        });
    } else if (fused_) {
        fail(type + " after Fuse is not supported");
    } else if (type == "ByteLevel") {
        steps_.push_back([](std::string& t, Place, std::string&) { t = from_byte_letters(t); });
    } else if (type == "ByteFallback") {
        steps_.push_back([](std::string& t, Place, std::string&) { t = from_byte_fallback(t); });
    } else if (type == "Replace") {
        const json pattern = j.value("pattern", json());
        if (!pattern.is_object() || !pattern.contains("String") || !pattern["String"].is_string()) {
            fail("Replace needs a 'pattern' that is a string, not a regular expression");
        }
        steps_.push_back([from = pattern["String"].get<std::string>(), to = text("content", nullptr)](
                             std::string& t, Place, std::string&) { t = replaced(t, from, to); });
    } else if (type == "Metaspace") {
        const bool without = j.value("add_prefix_space", json()) == false;  // older files
        const bool prepended = text("prepend_scheme", without ? "never" : "always") != "never";
        steps_.push_back(
            [=, blank = text("replacement", "\xE2\x96\x81")](std::string& t, Place place, std::string&) {
                t = replaced(t, blank, place == Place::first && prepended ? "" : " ");
            });
    } else if (type == "BPEDecoder") {
        steps_.push_back([suffix = text("suffix", "</w>")](std::string& t, Place, std::string& pending) {
            // The last token's suffix becomes nothing, those of the others a blank.
            const size_t n = suffix.size();
            const bool ends = n > 0 && t.size() >= n && t.compare(t.size() - n, n, suffix) == 0;
            if (ends) {
                t.resize(t.size() - n);
                pending = " ";
            }
            t = replaced(t, suffix, " ");
        });
    } else if (type == "WordPiece") {
        const json cleanup = j.value("cleanup", json(true));
        steps_.push_back([prefix = text("prefix", "##"),
                          clean = cleanup != false](std::string& t, Place place, std::string&) {
            const bool part = place != Place::first && t.compare(0, prefix.size(), prefix) == 0;
            if (part) {
                t.erase(0, prefix.size());
            } else if (place != Place::first) {
                t = " " + t;
            }
            if (clean) { t = cleaned_up(t); }
        });
    } else {
        fail(type.substr(0, 40) + " is not supported");
    }
}

std::string Decoder::decode(const std::string& token, Place place, std::string& pending) const {
    const std::string before = std::exchange(pending, "");
    std::string text = token;
    for (const Step& step : steps_) { step(text, place, pending); }
    return before + text;
}

}  // namespace moba

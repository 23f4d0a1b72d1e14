/* GGUF files for tests, byte by byte, also wrong ones. */
#pragma once
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace moba {

template <class X>
std::string raw(X x) {
    return {(const char*)&x, sizeof x};
}
inline std::string gguf_text(const std::string& text) { return raw((uint64_t)text.size()) + text; }

struct TestGguf {
    struct Tensor {
        std::string name;
        std::vector<uint64_t> sizes;  // in the file's order, the columns first
        uint32_t format = 0;          // F32
        std::string data;
        uint64_t offset = 0;  // set by bytes()
        bool own_offset = false;
    };
    std::string magic = "GGUF";
    uint32_t version = 3;
    std::vector<std::pair<std::string, std::string>> settings;  // with the type in front of the value
    std::vector<Tensor> tensors;
    uint64_t claimed_tensors = 0, claimed_settings = 0;  // in addition to those that are there
    size_t alignment = 32;

    void set_raw(const std::string& key, const std::string& typed) {
        for (auto& [known, value] : settings) {
            if (known == key) { return (void)(value = typed); }
        }
        settings.emplace_back(key, typed);
    }
    void set(const std::string& key, const char* text) { set_raw(key, raw(8u) + gguf_text(text)); }
    void set(const std::string& key, int x) { set_raw(key, raw(4u) + raw((uint32_t)x)); }
    void set(const std::string& key, float x) { set_raw(key, raw(6u) + raw(x)); }
    void set(const std::string& key, bool x) { set_raw(key, raw(7u) + raw((uint8_t)x)); }
    void set(const std::string& key, const std::vector<std::string>& texts) {
        std::string out = raw(9u) + raw(8u) + raw((uint64_t)texts.size());
        for (const std::string& t : texts) { out += gguf_text(t); }
        set_raw(key, out);
    }
    void set(const std::string& key, const std::vector<float>& x) {
        set_raw(key, raw(9u) + raw(6u) + raw((uint64_t)x.size()) +
                         std::string((const char*)x.data(), 4 * x.size()));
    }
    void set(const std::string& key, const std::vector<int>& x) {
        set_raw(key, raw(9u) + raw(5u) + raw((uint64_t)x.size()) +
                         std::string((const char*)x.data(), 4 * x.size()));
    }
    void remove(const std::string& key) {
        std::erase_if(settings, [&](const auto& s) { return s.first == key; });
    }
    Tensor& tensor(const std::string& name) {
        for (Tensor& t : tensors) {
            if (t.name == name) { return t; }
        }
        tensors.push_back({name, {}, 0, "", 0, false});
        return tensors.back();
    }
    void remove_tensor(const std::string& name) {
        std::erase_if(tensors, [&](const Tensor& t) { return t.name == name; });
    }
    // F32, rows first, as in this program; the values are small and differ
    void put(const std::string& name, std::vector<uint64_t> shape) {
        Tensor& t = tensor(name);
        t.sizes = {shape.rbegin(), shape.rend()};
        size_t n = 1;
        for (uint64_t d : shape) { n *= d; }
        t.data.clear();
        for (size_t i = 0; i < n; i++) { t.data += raw((float)(int)(i * 37 % 23) / 23 - 0.5f); }
    }
    std::string header() {
        std::string out = magic + raw(version) + raw((uint64_t)tensors.size() + claimed_tensors) +
                          raw((uint64_t)settings.size() + claimed_settings);
        for (const auto& [key, typed] : settings) { out += gguf_text(key) + typed; }
        uint64_t offset = 0;
        for (Tensor& t : tensors) {
            if (!t.own_offset) { t.offset = offset; }
            offset = (offset + t.data.size() + alignment - 1) / alignment * alignment;
            out += gguf_text(t.name) + raw((uint32_t)t.sizes.size());
            for (uint64_t d : t.sizes) { out += raw(d); }
            out += raw(t.format) + raw(t.offset);
        }
        return out;
    }
    std::string bytes() {
        const auto pad = [&](std::string& out) {
            while (out.size() % alignment) { out += '\0'; }
        };
        std::string out = header();
        pad(out);
        for (const Tensor& t : tensors) {
            out += t.data;
            pad(out);
        }
        return out;
    }
};

/* The smallest Llama: one layer, one head of 4 channels, 5 tokens. */
inline TestGguf smallest_llama() {
    TestGguf g;
    g.set("general.architecture", "llama");
    g.set("llama.embedding_length", 4);
    g.set("llama.block_count", 1);
    g.set("llama.feed_forward_length", 6);
    g.set("llama.attention.head_count", 1);
    g.set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    g.set("llama.context_length", 64);
    g.put("token_embd.weight", {5, 4});
    g.put("output_norm.weight", {4});
    g.put("output.weight", {5, 4});
    for (const char* square : {"attn_q", "attn_k", "attn_v", "attn_output"}) {
        g.put(std::string("blk.0.") + square + ".weight", {4, 4});
    }
    g.put("blk.0.attn_norm.weight", {4});
    g.put("blk.0.ffn_norm.weight", {4});
    g.put("blk.0.ffn_gate.weight", {6, 4});
    g.put("blk.0.ffn_up.weight", {6, 4});
    g.put("blk.0.ffn_down.weight", {4, 6});
    return g;
}

/* With a byte-level tokenizer: the 256 letters of bytes are given, then these tokens. */
inline void put_gpt2_tokenizer(TestGguf& g, const std::vector<std::string>& letters,
                               const std::vector<std::string>& more, const std::vector<std::string>& merges,
                               const char* words) {
    std::vector<std::string> tokens = letters;
    tokens.insert(tokens.end(), more.begin(), more.end());
    g.set("tokenizer.ggml.model", "gpt2");
    g.set("tokenizer.ggml.pre", words);
    g.set("tokenizer.ggml.tokens", tokens);
    g.set("tokenizer.ggml.merges", merges);
}

}  // namespace moba

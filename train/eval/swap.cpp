#include "train/eval/swap.h"
#include "moba/core/clock.h"
#include "moba/core/decimal.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/joined.h"
#include "train/data/encoded_text.h"
#include "train/data/fingerprint.h"
#include "train/data/hash.h"
#include "train/display/numbers.h"
#include "train/eval/evaluate_impl.h"
#include "train/eval/swap_page.h"
#include "train/files/gguf.h"
#include "train/options/option_builder.h"
#include <filesystem>
#include <sstream>

namespace moba {

using nlohmann::json;

void add_swap_options(CLI::App& app, SwapOptions& o) {
    start_options(app);
    add_model_path(app, o.model);
    add_files(app, "--data", o.data, "Text to compute the loss of.")->required();
    add(app, "--variants", o.variants, "LIST",
        "Variants to compare, with commas between them: full, or S:K or S:K:N: blocks of S tokens, K blocks "
        "for each "
        "query, the last N layers full.");
    add(app, "--seq-len", o.seq_len, "TOKENS", "Length T of a window.")->check(whole(2, most_tokens));
    add(app, "--windows", o.windows, "WINDOWS", "Windows of the text, spread evenly over it. 0: all.")
        ->check(whole(0, most_steps));
    add_rope_scaling(app, o.rope_scaling);
    add(app, "--out", o.out, "DIR", "Folder for results.json and page.html. A second call adds to it.");
    add_device(app, o.device, o.precision);
}

namespace {

struct Variant {
    std::string name;
    int block_size = 0, top_k = 0, full_layers = 0;  // block_size 0 = full attention
};

Variant parse_variant(const std::string& text) {
    if (text == "full") { return {text}; }
    std::vector<int> numbers;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(':', at), text.size());
        numbers.push_back(parse_whole<int>(text.substr(at, end - at)).value_or(-1));
        at = end + 1;
    }
    const bool positive = numbers[0] > 0 && numbers.size() > 1 && numbers[1] > 0;
    if (!positive || numbers.size() > 3 || numbers.back() < 0) {
        throw Error("--variants " + text + ": must be full, S:K or S:K:N, e.g. 64:8 or 64:8:3");
    }
    return {text, numbers[0], numbers[1], numbers.size() == 3 ? numbers[2] : 0};
}

Config with_variant(Config c, const Variant& v) {
    if (v.block_size == 0) {
        swap_attention(c, "full", 0, 0);
        return c;
    }
    try {
        swap_attention(c, "moba", v.block_size, v.top_k);
    } catch (const Error& e) { throw Error("--variants " + v.name + ": " + e.what()); }
    if (v.full_layers > c.num_layers) {
        throw Error("--variants " + v.name + ": the model has only " + std::to_string(c.num_layers) +
                    " layers");
    }
    for (int i = 0; i < v.full_layers; i++) {
        c.layers[c.num_layers - 1 - i].attention = AttentionKind::full;
    }
    return c;
}

// What was measured before with the same settings; else an empty result. `about` is only shown: files may
// move.
json results_so_far(const std::string& file, const json& settings, const json& about) {
    if (!is_there(file)) { return {{"settings", settings}, {"about", about}, {"variants", json::array()}}; }
    const json before = read_json(file);
    const bool whole = before.is_object() && before.contains("variants") && before["variants"].is_array() &&
                       before.contains("about") && before.value("settings", json()).is_object();
    if (!whole) { throw Error(file + ": is not a result of moba swap"); }
    for (const auto& [key, value] : settings.items()) {
        if (before["settings"].value(key, json()) != value) {
            throw Error(file + ": was measured with another " + key +
                        "; name another folder with --out, or delete it");
        }
    }
    return before;
}

// A hash of the weights: pieces spread over each file. Training changes every weight.
std::string hash_of_weights(const std::string& path) {
    std::vector<std::string> files;
    if (is_gguf(path)) {
        files.push_back(path);
    } else {
        for (const auto& entry : std::filesystem::directory_iterator(path)) {
            if (entry.path().extension() == ".safetensors" &&
                !entry.path().filename().string().starts_with("state.")) {
                files.push_back(entry.path().string());
            }
        }
    }
    std::sort(files.begin(), files.end());
    constexpr size_t pieces = 64;
    std::vector<char> piece(1 << 16);
    uint64_t hash = 0;
    for (const std::string& name : files) {
        const InputFile file(name);
        for (size_t i = 0; i < pieces; i++) {
            const size_t n = std::min(piece.size(), file.bytes());
            file.read((file.bytes() - n) / (pieces - 1) * i, piece.data(), n);
            hash = hash_bytes(piece.data(), n, hash);
        }
    }
    return hash_text(hash);
}

}  // namespace

int run_swap(const SwapOptions& o) {
    ModelFolder folder = open_model(o.model);
    rescale(folder.config, o.rope_scaling);
    std::vector<Variant> variants;
    std::stringstream list(o.variants);
    for (std::string text; std::getline(list, text, ',');) {
        std::erase(text, ' ');
        variants.push_back(parse_variant(text));
    }
    if (variants.empty()) { throw Error("--variants: the list is empty"); }
    for (const Variant& v : variants) { with_variant(folder.config, v); }  // wrong ones fail now

    std::error_code error;
    std::filesystem::create_directories(o.out, error);
    if (error) { throw Error("--out " + o.out + ": " + error.message()); }
    EvalOptions eval;
    eval.model = o.model, eval.precision = o.precision, eval.device = o.device;
    eval.data = token_files(o.data, folder.tokenizer, o.out);
    eval.seq_len = {o.seq_len};
    eval.windows = o.windows;
    const TokenFiles text(eval.data);
    if (text.size() <= (size_t)o.seq_len) {
        throw Error("--data has " + std::to_string(text.size()) +
                    " tokens, fewer than one window of --seq-len " + std::to_string(o.seq_len));
    }
    const json settings = {{"weights", hash_of_weights(folder.path)},
                           {"text", fingerprint_of(text)["content"]},
                           {"seq-len", o.seq_len},
                           {"windows", o.windows},
                           {"rope-scaling", o.rope_scaling},
                           {"precision", o.precision}};
    const json about = {{"model", o.model}, {"text", o.data}, {"trained", layer_summary(folder.config)}};
    const std::string file = o.out + "/results.json";
    json results = results_so_far(file, settings, about);
    const auto print_line = [&](size_t i) { std::printf("%s\n", swap_line(results, i).c_str()); };
    std::printf("%s tokens of %s: %s windows of %d\n\n%s\n", readable_number((double)text.size()).c_str(),
                joined(o.data, ", ").c_str(), o.windows ? std::to_string(o.windows).c_str() : "all",
                o.seq_len, swap_head().c_str());
    for (size_t i = 0; i < results["variants"].size(); i++) { print_line(i); }
    for (const Variant& v : variants) {
        const auto same = [&](const json& r) { return r["variant"] == v.name; };
        json& done = results["variants"];
        if (std::any_of(done.begin(), done.end(), same)) { continue; }
        const Config config = with_variant(folder.config, v);
        const double begin = now_ms();
        json r = with_precision(o.precision, [&](auto e) {
            return eval_text<decltype(e)>(Comm::alone(), eval, folder, config, false)["lengths"][0];
        });
        r["variant"] = v.name;
        r["seconds"] = (now_ms() - begin) / 1000;
        done.push_back(r);
        replace_file(file, results.dump(1) + "\n");
        replace_file(o.out + "/page.html", swap_page(results));
        print_line(done.size() - 1);
    }
    std::printf("\npage: %s/page.html\n", o.out.c_str());
    return 0;
}

}  // namespace moba

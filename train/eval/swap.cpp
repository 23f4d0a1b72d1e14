#include "train/eval/swap.h"
#include "moba/core/clock.h"
#include "moba/core/decimal.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/core/scratch_folder.h"
#include "train/data/encoded_text.h"
#include "train/data/fingerprint.h"
#include "train/eval/evaluate_impl.h"
#include "train/eval/swap_page.h"
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
    swap_attention(c, "moba", v.block_size, v.top_k);
    if (v.full_layers > c.num_layers) {
        throw Error("--variants " + v.name + ": the model has only " + std::to_string(c.num_layers) +
                    " layers");
    }
    for (int i = 0; i < v.full_layers; i++) {
        c.layers[c.num_layers - 1 - i].attention = AttentionKind::full;
    }
    return c;
}

// What was measured before with the same settings; else an empty result.
json results_so_far(const std::string& file, const json& settings) {
    if (is_there(file)) {
        const json before = read_json(file);
        const bool whole = before.is_object() && before.contains("variants") && before["variants"].is_array();
        if (whole && before.value("settings", json()) == settings) { return before; }
        throw Error(file +
                    ": is of another model, text or length; name another folder with --out, or delete it");
    }
    return {{"settings", settings}, {"variants", json::array()}};
}

}  // namespace

int run_swap(const SwapOptions& o) {
    ModelFolder folder = open_model(o.model);
    rescale(folder.config, o.rope_scaling);
    std::vector<Variant> variants;
    std::stringstream list(o.variants);
    for (std::string text; std::getline(list, text, ',');) { variants.push_back(parse_variant(text)); }
    if (variants.empty()) { throw Error("--variants: the list is empty"); }
    for (const Variant& v : variants) { with_variant(folder.config, v); }  // wrong ones fail now

    const ScratchFolder encoded;
    EvalOptions eval;
    eval.model = o.model, eval.precision = o.precision, eval.device = o.device;
    eval.data = token_files(o.data, folder.tokenizer, encoded.path());
    eval.seq_len = {o.seq_len};
    eval.windows = o.windows;
    const json settings = {{"model", std::filesystem::path(o.model).filename().string()},
                           {"text", o.data},
                           {"content", fingerprint_of(TokenFiles(eval.data))["content"]},
                           {"seq_len", o.seq_len},
                           {"windows", o.windows},
                           {"rope_scaling", o.rope_scaling},
                           {"precision", o.precision}};
    std::error_code error;
    std::filesystem::create_directories(o.out, error);
    if (error) { throw Error("--out " + o.out + ": " + error.message()); }
    const std::string file = o.out + "/results.json";
    json results = results_so_far(file, settings);
    for (const Variant& v : variants) {
        const auto same = [&](const json& r) { return r["variant"] == v.name; };
        json& done = results["variants"];
        if (std::any_of(done.begin(), done.end(), same)) { continue; }
        const Config config = with_variant(folder.config, v);
        const double begin = now_ms();
        json r = with_precision(
            o.precision, [&](auto e) { return eval_text<decltype(e)>(eval, folder, config)["lengths"][0]; });
        r["variant"] = v.name;
        r["seconds"] = (now_ms() - begin) / 1000;
        done.push_back(r);
        replace_file(file, results.dump(1) + "\n");
        replace_file(o.out + "/page.html", swap_page(results));
    }
    std::printf("\n%s\npage: %s/page.html\n", swap_table(results).c_str(), o.out.c_str());
    return 0;
}

}  // namespace moba

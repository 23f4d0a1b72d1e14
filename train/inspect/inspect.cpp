#include "train/inspect/inspect.h"
#include "train/core/device_choice.h"
#include "train/core/file.h"
#include "train/display/numbers.h"
#include "train/inspect/inspect_page.h"
#include "train/options/options.h"
#include "train/run/prompt.h"
#include "train/run/scorer.h"
#include <nlohmann/json.hpp>
#include <numeric>

namespace moba {

using nlohmann::json;

namespace {

// The layers or heads that the option names, sorted and without repetition; all if it names none.
std::vector<int> pick(const char* option, std::vector<int> named, int count) {
    if (named.empty()) {
        named.resize(count);
        std::iota(named.begin(), named.end(), 0);
    }
    std::sort(named.begin(), named.end());
    named.erase(std::unique(named.begin(), named.end()), named.end());
    if (named.back() >= count) {
        throw Error(std::string(option) + " " + std::to_string(named.back()) + ": the model has only 0 to " +
                    std::to_string(count - 1));
    }
    return named;
}

// Writes view by view: the text of all views together could fill the memory.
void write_json(const std::string& path, const json& head, const std::vector<HeadView>& views,
                const Inspection& about) {
    FileWriter out(path);
    const auto write = [&](const std::string& text) { out.write(text.data(), text.size()); };
    std::string text = head.dump();
    text.pop_back();
    write(text + ",\n\"views\":[");
    for (size_t i = 0; i < views.size(); i++) {
        write((i ? ",\n" : "\n") + to_json(views[i], about.question, about.source).dump());
    }
    write("]}\n");
    out.finish();
}

void print_view(const HeadView& v, const Inspection& about) {
    std::printf("layer %d head %d: reads the keys with %s of full attention's weight", v.layer, v.head,
                percent(v.mass_kept()).c_str());
    if (about.is_test()) {
        std::printf(", the question %s the answer",
                    sees(v, about.question, about.source) ? "sees" : "does not see");
    }
    std::printf("\n");
}

template <class E>
int inspect(const InspectOptions& o) {
    const ModelFolder folder = open_model(o.model);
    Config config = folder.config;
    swap_attention(config, o.attention, o.block_size, o.top_k);
    const std::vector<int> layers = pick("--layer", o.layers, config.num_layers),
                           heads = pick("--head", o.heads, config.num_heads);
    const TokenText speech(folder, o.task);
    const Prompt prompt = make_prompt({o.prompt, o.prompt_ids, o.seed, o.seq_len, o.depth}, folder, speech);
    if (o.out.empty()) { throw Error("--out is empty: name a file for the page"); }
    check_writable(o.out);
    check_writable(o.json);
    const int T = (int)prompt.tokens.size();
    Scorer<E> scorer(folder, config, T, 1, T, parse_device(o.device), true);
    Batch batch;
    batch.add({prompt.tokens, std::vector<int>(T, ignored), std::vector<int>(T, -1)});
    if (!prompt.answer.empty()) { batch.targets.back() = prompt.answer[0]; }
    scorer.run(batch);

    Inspection about;
    about.model = o.model;
    about.layers = layer_names(config);
    TokenStream words(speech);
    for (int id : prompt.tokens) {
        about.text.push_back(words.write(id));
        about.tokens.push_back(speech.name(id));
    }
    json head = {{"model", o.model},       {"precision", o.precision}, {"layers", about.layers},
                 {"tokens", about.tokens}, {"ids", prompt.tokens},     {"question", nullptr},
                 {"source", nullptr}};
    if (!prompt.answer.empty()) {
        head["question"] = about.question = T - 1;
        head["source"] = about.source = prompt.source;
        head["answer"] = about.answer = speech.name(prompt.answer[0]);
        head["probability"] = about.probability = std::exp(-(double)scorer.losses.back());
        head["right"] = about.right = scorer.correct.back();
    }
    std::vector<HeadView> views;
    InspectPage page(about);
    for (int l : layers) {
        const AttentionView attention = view_attention(scorer.model(), l);
        for (int h : heads) {
            views.push_back(view_head(attention, l, h));
            page.add(views.back());
            print_view(views.back(), about);
        }
    }
    if (!o.json.empty()) { write_json(o.json, head, views, about); }
    write_file(o.out, page.html());
    std::printf("%s\n", o.out.c_str());
    return 0;
}

}  // namespace

int run_inspect(const InspectOptions& o) {
    return with_precision(o.precision, [&](auto e) { return inspect<decltype(e)>(o); });
}

}  // namespace moba

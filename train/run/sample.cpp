#include "train/run/sample.h"
#include "moba/core/clock.h"
#include "train/core/device_choice.h"
#include "train/core/utf8.h"
#include "train/files/safetensors.h"
#include "train/options/options.h"
#include "train/run/chat.h"
#include "train/run/prompt.h"
#include "train/run/scorer.h"
#include <algorithm>
#include <numeric>
#include <set>

namespace moba {

int choose_token(std::vector<float> logits, const std::vector<int>& tokens, const Sampling& s, Rng& rng) {
    if (s.repetition_penalty != 1) {
        for (int id : std::set<int>(tokens.begin(), tokens.end())) {
            logits[id] = (float)(logits[id] > 0 ? logits[id] / s.repetition_penalty
                                                : logits[id] * s.repetition_penalty);
        }
    }
    if (s.temperature == 0) { return (int)(std::max_element(logits.begin(), logits.end()) - logits.begin()); }
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    size_t candidates = s.top_k > 0 ? std::min<size_t>(s.top_k, order.size()) : order.size();
    std::vector<double> weight;
    double total = 0;
    for (size_t i = 0; i < candidates; i++) {
        weight.push_back(std::exp((logits[order[i]] - logits[order[0]]) / s.temperature));
        total += weight.back();
    }
    double held = 0;
    for (size_t i = 0; i < candidates; i++) {
        held += weight[i];
        if (held >= s.top_p * total) {
            candidates = i + 1;
            break;
        }
    }
    double at = rng.uniform() * std::accumulate(weight.begin(), weight.begin() + candidates, 0.0);
    for (size_t i = 0; i < candidates; i++) {
        at -= weight[i];
        if (at <= 0) { return order[i]; }
    }
    return order[candidates - 1];
}

namespace {

template <class E>
void write_logits(const std::string& path, Model<E>& model, int tokens) {
    const int V = model.config().vocab_size;
    write_safetensors(path, {{"logits", {tokens, V}}}, {},
                      [&](size_t, std::vector<float>& out) { model.read_logits(0, tokens, out); });
}

void print_speed(const char* what, int tokens, double ms, const std::string& more = "") {
    if (tokens > 0) {
        std::fprintf(stderr, "%s %d tokens in %.2f s, %.0f tokens/s%s\n", what, tokens, ms / 1000,
                     tokens / ms * 1000, more.c_str());
    }
}

void check(const SampleOptions& o) {
    if (o.top_k && o.attention != "moba" && o.decode_attention != "moba") {
        throw Error(
            "--top-k is the number of blocks per query and goes with --attention moba; to sample among "
            "the most likely tokens, use --sample-top-k");
    }
    if (o.temperature == 0 && (o.sample_top_k || o.top_p < 1)) {
        throw Error(std::string(o.sample_top_k ? "--sample-top-k" : "--sample-top-p") +
                    " goes with a --temperature above 0: without one the most likely token is taken");
    }
}

// A text may hold bytes of 0.
void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

// A long text is printed from one of its last lines on.
std::string end_of_text(const std::string& text) {
    constexpr size_t most = 4096, kept = 400;
    if (text.size() <= most) { return text; }
    const size_t line = text.find('\n', text.size() - kept);
    size_t from = line == text.npos ? text.size() - kept : line + 1;
    while (continues_character(text[from])) { from++; }
    return "(" + std::to_string(from) + " bytes before this)\n" + text.substr(from);
}

template <class E>
int sample(const SampleOptions& o) {
    check(o);
    const ModelFolder folder = open_model(o.model);
    Config config = folder.config;
    rescale(config, o.rope_scaling);
    if (o.decode_attention == "moba") {  // checks S and K, which prompt and decoding share
        swap_attention(config, "moba", o.block_size, o.top_k);
        config.layers = folder.config.layers;
        swap_attention(config, o.attention, o.attention == "moba" ? config.block_size : 0,
                       o.attention == "moba" ? config.top_k : 0);
    } else {
        swap_attention(config, o.attention, o.block_size, o.top_k);
    }
    if (o.top_k) {  // who means tokens to sample from can see that these are blocks
        std::fprintf(stderr, "attention: each query attends %d blocks of %d tokens\n", config.top_k,
                     config.block_size);
    }
    const TokenText text(folder);
    PromptSource source = read_prompt(o.prompt);
    source.seed = o.seed;
    const bool new_document =
        source.text.empty() && source.ids.empty() && !text.task && folder.begin_token >= 0;
    if (new_document) { source.ids = {folder.begin_token}; }
    std::vector<int> end_tokens = folder.end_tokens;
    if (o.chat) {
        if (text.task) { throw Error("--chat: the model was trained on a task, not on text"); }
        if (source.text.empty()) {
            throw Error("--chat: there is no message: use --prompt or --prompt-file");
        }
        const Chat chat(o.chat_template, folder.chat_template, folder.path);
        source.ids = text.parse_chat(chat.prompt(o.system, source.text));
        if (text.id_of(chat.end()) < 0) {
            throw Error("--chat: the model has no token " + chat.end() + ", so this is not its template");
        }
        end_tokens.push_back(text.id_of(chat.end()));
    }
    Prompt prompt = make_prompt(source, folder, text);
    std::vector<int>& tokens = prompt.tokens;
    const int given = (int)tokens.size();
    const int count = o.max_new_tokens         ? o.max_new_tokens
                      : !prompt.answer.empty() ? (int)prompt.answer.size()
                      : o.chat                 ? 256
                                               : 32;
    const int longest = given + count;
    const bool asked_only = !o.no_cache && o.logits.empty();
    Model<E> model(config,
                   {.max_tokens = o.no_cache ? longest : given,
                    .max_seqs = 1,
                    .max_position = longest,
                    .cache_tokens = o.no_cache ? 0 : longest,
                    .asked_only = asked_only},
                   parse_device(o.device));
    model.allocate();
    load_weights(folder, model);
    if (!o.decode_attention.empty()) {
        model.set_decode_attention(o.decode_attention == "moba" ? AttentionKind::moba : AttentionKind::full);
    }
    TokenStream words(text);
    const bool folded = prompt.source >= 0 && !o.whole_prompt;
    std::string shown =
        folded ? folded_test(prompt, text) : words.write({tokens.begin() + new_document, tokens.end()});
    if (!folded && !o.whole_prompt) { shown = end_of_text(shown); }
    if (!o.chat) { print(shown + (text.task ? "\n-> " : "")); }
    if (text.task) { words = TokenStream(text); }
    std::fflush(stdout);
    Rng rng(o.seed, Purpose::sampling, 0);
    const Sampling how{o.temperature, o.sample_top_k, o.top_p, o.repetition_penalty};
    std::vector<float> logits;
    double begin = now_ms(), prefill = 0;
    for (int i = 0; i < count; i++) {
        if (i == 0 || o.no_cache) {
            model.set_batch(tokens.data(), nullptr, {0, (int)tokens.size()}, {});
            model.forward();
            if (i == 0 && !o.logits.empty()) { write_logits(o.logits, model, given); }
            model.read_logits(asked_only ? 0 : (int)tokens.size() - 1, 1, logits);
        } else {
            model.decode(tokens.back());
            model.read_logits(0, 1, logits);
        }
        for (float x : logits) {
            if (std::isfinite(x)) { continue; }
            std::printf("\n");
            throw Error(not_finite("a logit", model));
        }
        if (i == 0) {
            prefill = now_ms() - begin;
            begin = now_ms();
        }
        tokens.push_back(choose_token(logits, tokens, how, rng));
        if (std::count(end_tokens.begin(), end_tokens.end(), tokens.back())) { break; }
        print(words.write(tokens.back()));
        std::fflush(stdout);
    }
    const double ms = now_ms() - begin;
    if (!prompt.answer.empty()) {
        const size_t said = std::min(prompt.answer.size(), tokens.size() - given);
        const bool right =
            std::equal(prompt.answer.begin(), prompt.answer.begin() + said, tokens.begin() + given);
        std::printf("   (%s: the answer is %s)", right ? "right" : "wrong",
                    text.write(prompt.answer).c_str());
    }
    std::printf("\n");
    std::fflush(stdout);
    print_speed("prompt:", given, prefill, "; memory " + readable_bytes(model.bytes()));
    print_speed("generated:", (int)tokens.size() - given - 1, ms);
    return 0;
}

}  // namespace

int run_sample(const SampleOptions& o) {
    return with_precision(o.precision, [&](auto e) { return sample<decltype(e)>(o); });
}

}  // namespace moba

#include "train/sample.h"
#include "train/checkpoint.h"
#include "train/precision.h"
#include "train/progress.h"
#include "train/safetensors.h"
#include "train/task.h"
#include "train/tokenizer.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

using nlohmann::json;

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
    size_t room = s.top_k > 0 ? std::min<size_t>(s.top_k, order.size()) : order.size();
    std::vector<double> weight;
    double total = 0;
    for (size_t i = 0; i < room; i++) {
        weight.push_back(std::exp((logits[order[i]] - logits[order[0]]) / s.temperature));
        total += weight.back();
    }
    double held = 0;
    for (size_t i = 0; i < room; i++) {
        held += weight[i];
        if (held >= s.top_p * total) {
            room = i + 1;
            break;
        }
    }
    double at = rng.uniform() * std::accumulate(weight.begin(), weight.begin() + room, 0.0);
    for (size_t i = 0; i < room; i++) {
        at -= weight[i];
        if (at <= 0) { return order[i]; }
    }
    return order[room - 1];
}

namespace {

/* How a model's tokens are read and written: names of its task, text of its tokenizer, or plain ids. */
class Speech {
  public:
    explicit Speech(const ModelFolder& folder) {
        if (!folder.task.empty()) {
            task =
                make_task(task_from_json(json::parse(folder.task), folder.path + ": "), folder.path + ": ");
        } else if (!folder.tokenizer.empty()) {
            tokenizer_ = std::make_unique<Tokenizer>(folder.tokenizer);
        }
    }
    std::vector<int> parse(const std::string& text) const {
        if (tokenizer_ && tokenizer_->can_encode()) { return tokenizer_->encode(text); }
        if (tokenizer_) {
            throw Error(
                "--prompt: this program does not encode with a tokenizer.json; use --prompt-ids, which "
                "data/prepare_text.py --encode prints");
        }
        if (!task) {
            throw Error("--prompt: nothing tells what the model's tokens are called; use --prompt-ids");
        }
        std::vector<int> ids;
        std::stringstream in(text);
        for (std::string word; in >> word;) { ids.push_back(task->token_id(word)); }
        return ids;
    }
    // A token as it comes, behind others or as the first.
    std::string write(int id, bool first) const {
        if (tokenizer_) { return tokenizer_->text(id); }
        const bool named = task && id < task->vocab_size();
        return (first ? "" : " ") + (named ? task->token_name(id) : std::to_string(id));
    }
    std::string write(const std::vector<int>& ids) const {
        std::string out;
        for (int id : ids) { out += write(id, out.empty()); }
        return out;
    }
    std::unique_ptr<Task> task;

  private:
    std::unique_ptr<Tokenizer> tokenizer_;
};

// What the model is to go on with, and what a test wants to hear.
struct Prompt {
    std::vector<int> tokens, answer;
    int shown = 0;  // tokens before this one are not printed
};

Prompt make_prompt(const SampleOptions& o, const ModelFolder& folder, const Speech& speech) {
    Prompt p;
    p.tokens = o.prompt_ids;
    if (p.tokens.empty() && !o.prompt.empty()) { p.tokens = speech.parse(o.prompt); }
    if (p.tokens.empty() && speech.task) {
        Sample test;
        Rng rng(o.seed, Purpose::eval_data, 0);
        const double depth = rng.uniform();
        const int T = std::min(folder.config.max_position_embeddings, 1 << 20);
        const int shortest = speech.task->shortest(speech.task->settings().pairs);
        if (T < shortest) {
            throw Error(folder.path + "/config.json: max_position_embeddings = " + std::to_string(T) +
                        ": a test of its task needs " + std::to_string(shortest) + " tokens");
        }
        speech.task->draw_test(rng, T, depth, test);
        size_t asked = 0;
        while (test.targets[asked] == ignored) { asked++; }
        p.tokens.assign(test.tokens.begin(), test.tokens.begin() + asked + 1);
        for (; test.targets[asked] != ignored; asked++) { p.answer.push_back(test.targets[asked]); }
    } else if (p.tokens.empty() && folder.begin_token >= 0) {
        p.tokens = {folder.begin_token};  // a new document
        p.shown = 1;
    }
    if (p.tokens.empty()) { throw Error("sample: no prompt; use --prompt or --prompt-ids"); }
    for (int id : p.tokens) {
        if (id < 0 || id >= folder.config.vocab_size) {
            throw Error("prompt: token id " + std::to_string(id) + ": must be between 0 and " +
                        std::to_string(folder.config.vocab_size - 1));
        }
    }
    return p;
}

template <class E>
void write_logits(const std::string& path, Model<E>& model, int tokens) {
    const int V = model.config().vocab_size;
    write_safetensors(path, {{"logits", {tokens, V}}}, {},
                      [&](size_t, std::vector<float>& out) { model.read_logits(0, tokens, out); });
}

void print_speed(const char* what, int tokens, double ms) {
    if (tokens > 0) {
        std::fprintf(stderr, "%s %d tokens in %.2f s, %.0f tokens/s\n", what, tokens, ms / 1000,
                     tokens / ms * 1000);
    }
}

template <class E>
int sample(const SampleOptions& o) {
    const ModelFolder folder = open_model(o.model);
    Config config = folder.config;
    if (o.decode_attention == "moba") {  // checks the block size and K, which one model has for both
        swap_attention(config, "moba", o.block_size, o.moba_top_k);
        config.layers = folder.config.layers;
        swap_attention(config, o.attention, o.attention == "moba" ? config.block_size : 0,
                       o.attention == "moba" ? config.top_k : 0);
    } else {
        swap_attention(config, o.attention, o.block_size, o.moba_top_k);
    }
    const Speech speech(folder);
    Prompt prompt = make_prompt(o, folder, speech);
    std::vector<int>& tokens = prompt.tokens;
    const int given = (int)tokens.size();
    const int count = o.max_new_tokens         ? o.max_new_tokens
                      : !prompt.answer.empty() ? (int)prompt.answer.size()
                                               : 32;
    const int longest = given + count;
    Model<E> model(config,
                   {.max_tokens = o.no_cache ? longest : given,
                    .max_seqs = 1,
                    .max_position = longest,
                    .cache_tokens = o.no_cache ? 0 : longest},
                   parse_device(o.device));
    model.allocate();
    load_weights(folder, model);
    if (!o.decode_attention.empty()) {
        model.decode_attention(o.decode_attention == "moba" ? AttentionKind::moba : AttentionKind::full);
    }
    std::printf("%s%s", speech.write({tokens.begin() + prompt.shown, tokens.end()}).c_str(),
                speech.task ? "\n-> " : "");
    std::fflush(stdout);
    Rng rng(o.seed, Purpose::sampling, 0);
    const Sampling how{o.temperature, o.top_k, o.top_p, o.repetition_penalty};
    std::vector<float> logits;
    double begin = now_ms(), prefill = 0;
    for (int i = 0; i < count; i++) {
        if (i == 0 || o.no_cache) {
            model.set_batch(tokens.data(), nullptr, {0, (int)tokens.size()}, {});
            model.forward();
            if (i == 0 && !o.logits.empty()) { write_logits(o.logits, model, given); }
            model.read_logits((int)tokens.size() - 1, 1, logits);
        } else {
            model.decode(tokens.back());
            model.read_logits(0, 1, logits);
        }
        if (i == 0) {
            prefill = now_ms() - begin;
            begin = now_ms();
        }
        tokens.push_back(choose_token(logits, tokens, how, rng));
        if (std::count(folder.end_tokens.begin(), folder.end_tokens.end(), tokens.back())) { break; }
        std::printf("%s", speech.write(tokens.back(), i == 0 && speech.task).c_str());
        std::fflush(stdout);
    }
    const double ms = now_ms() - begin;
    if (!prompt.answer.empty()) {
        const size_t said = std::min(prompt.answer.size(), tokens.size() - given);
        const bool right =
            std::equal(prompt.answer.begin(), prompt.answer.begin() + said, tokens.begin() + given);
        std::printf("   (the answer is %s: %s)", speech.write(prompt.answer).c_str(),
                    right ? "right" : "wrong");
    }
    std::printf("\n");
    std::fflush(stdout);
    print_speed("prompt:", given, prefill);
    print_speed("generated:", (int)tokens.size() - given - 1, ms);
    return 0;
}

}  // namespace

int run_sample(const SampleOptions& o) {
    return with_precision(o.precision, [&](auto e) { return sample<decltype(e)>(o); });
}

#include "train/sample.h"
#include "train/checkpoint.h"
#include "train/task.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

using nlohmann::json;

int choose_token(std::vector<float> logits, const std::vector<int>& tokens, const Sampling& s, Rng& rng) {
    for (int id : std::set<int>(tokens.begin(), tokens.end())) {
        logits[id] =
            (float)(logits[id] > 0 ? logits[id] / s.repetition_penalty : logits[id] * s.repetition_penalty);
    }
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
    if (s.temperature == 0) { return order[0]; }
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

static std::vector<int> parse_prompt(const std::string& text, const Task* task) {
    if (!task) { throw Error("--prompt: the model has no task whose tokens have names; use --prompt-ids"); }
    std::vector<int> ids;
    std::stringstream in(text);
    std::string word;
    while (in >> word) { ids.push_back(task->token_id(word)); }
    return ids;
}

int run_sample(const SampleOptions& o) {
    const ModelFolder folder = open_model(o.model);
    Config config = folder.config;
    swap_attention(config, o.attention, o.block_size, o.moba_top_k);
    const std::unique_ptr<Task> task =
        folder.task.empty() ? nullptr : make_task(json::parse(folder.task), folder.path + ": ");
    std::vector<int> tokens = o.prompt_ids, answer;
    if (tokens.empty() && !o.prompt.empty()) { tokens = parse_prompt(o.prompt, task.get()); }
    if (tokens.empty()) {
        if (!task) { throw Error("sample: no prompt; use --prompt-ids"); }
        Sample test;
        Rng rng(o.seed, Purpose::eval_data, 0);
        const double depth = rng.uniform();
        task->draw_test(rng, config.max_position_embeddings, depth, test);
        const size_t asked =
            std::find_if(test.targets.begin(), test.targets.end(), [](int t) { return t != ignored; }) -
            test.targets.begin();
        tokens.assign(test.tokens.begin(), test.tokens.begin() + asked + 1);
        answer.assign(test.tokens.begin() + asked + 1, test.tokens.end());
    }
    for (int id : tokens) {
        if (id < 0 || id >= config.vocab_size) {
            throw Error("prompt: token id " + std::to_string(id) + ": must be between 0 and " +
                        std::to_string(config.vocab_size - 1));
        }
    }
    const int count = o.max_new_tokens ? o.max_new_tokens : !answer.empty() ? (int)answer.size() : 32;
    const int longest = (int)tokens.size() + count;
    Model<float> model(config, {longest, 1, longest, false, 0, 0}, parse_device(o.device));
    model.allocate();
    load_weights(folder, model);
    const auto name = [&](int id) { return task ? task->token_name(id) : std::to_string(id); };
    if (!answer.empty()) { std::printf("%s\n-> ", token_text(*task, tokens.data(), tokens.size()).c_str()); }
    Rng rng(o.seed, Purpose::sampling, 0);
    const Sampling how{o.temperature, o.top_k, o.top_p, o.repetition_penalty};
    bool right = true;
    std::vector<float> logits;
    for (int i = 0; i < count; i++) {
        model.set_batch(tokens.data(), nullptr, {0, (int)tokens.size()}, {});
        model.forward();
        model.read_logits((int)tokens.size() - 1, 1, logits);
        const int next = choose_token(logits, tokens, how, rng);
        right &= i < (int)answer.size() && next == answer[i];
        tokens.push_back(next);
        std::printf("%s%s", i ? " " : "", name(next).c_str());
        std::fflush(stdout);
    }
    if (!answer.empty()) {
        std::printf("   (the answer is %s: %s)", token_text(*task, answer.data(), answer.size()).c_str(),
                    right ? "right" : "wrong");
    }
    std::printf("\n");
    return 0;
}

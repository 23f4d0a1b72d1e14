/* What a model in training writes: how it goes on with a piece of the validation text. */
#pragma once
#include "moba/model.h"
#include "train/data/data.h"
#include "train/run/sample.h"
#include "train/run/stop_signal.h"
#include <optional>

namespace moba {

struct TextSample {
    std::string prompt, text;
};

/* Nothing where the data's tokens have no text, or the model's results are not finite. T: the longest
   sequence that the model is planned for. Needs no cache: every token takes a forward pass of all tokens
   before it. */
template <class E>
std::optional<TextSample> text_sample(Model<E>& model, const Data& data, int T, Rng rng) {
    const Tokenizer* tokenizer = data.text_tokenizer();
    if (!tokenizer) { return {}; }
    const bool bytes = tokenizer->is_bytes();
    Batch window;
    data.add_validation(0, T, window);
    const int given = std::min({bytes ? 32 : 8, window.cu_seqlens[1], T - 1});
    const int longest = std::min(given + (bytes ? 64 : 24), T);
    if (given < 1) { return {}; }
    std::vector<int> tokens(window.tokens.begin(), window.tokens.begin() + given);
    TextStream stream(*tokenizer);
    TextSample out;
    for (int id : tokens) { out.prompt += stream.add(id); }
    std::vector<acc_t<E>> logits;
    while ((int)tokens.size() < longest && !stop_asked()) {
        model.set_batch(tokens.data(), nullptr, {0, (int)tokens.size()}, {});
        model.forward();
        model.read_logits((int)tokens.size() - 1, 1, logits);
        for (float x : logits) {
            if (!std::isfinite(x)) { return {}; }
        }
        tokens.push_back(choose_token(logits, tokens, {.temperature = 0.8}, rng));
        out.text += stream.add(tokens.back());
    }
    return out;
}

}  // namespace moba

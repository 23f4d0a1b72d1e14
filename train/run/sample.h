/* moba sample: a model continues a prompt, token by token. */
#pragma once
#include "moba/core/philox.h"
#include "train/run/sample_options.h"
#include <vector>

namespace moba {

struct Sampling {
    double temperature = 0;  // 0 = always the most likely token
    int top_k = 0;           // the most likely tokens to choose from; 0 = all
    double top_p = 1;        // choose from the most likely tokens that together have this probability
    // Logits of tokens that have occurred are divided by it if they are positive, and multiplied if negative.
    double repetition_penalty = 1;
};

/* Chooses the next token by the logits after `tokens`. */
int choose_token(std::vector<float> logits, const std::vector<int>& tokens, const Sampling&, Rng&);

int run_sample(const SampleOptions&);

}  // namespace moba

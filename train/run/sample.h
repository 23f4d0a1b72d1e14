/* Sampling: a model goes on with a prompt, token by token. */
#pragma once
#include "moba/core/philox.h"
#include "train/run/sample_options.h"
#include <vector>

namespace moba {

struct Sampling {
    double temperature = 0;  // 0: the likeliest token
    int top_k = 0;           // 0: all
    double top_p = 1;
    double repetition_penalty =
        1;  // logits of tokens already there: divided by it if positive, multiplied if negative
};

/* The next token, from the logits behind `tokens`. */
int choose_token(std::vector<float> logits, const std::vector<int>& tokens, const Sampling&, Rng&);

int run_sample(const SampleOptions&);

}  // namespace moba

/* The options of `moba sample`. */
#pragma once
#include "train/options/prompt_options.h"
#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct SampleOptions {
    std::string model, system, chat_template, rope_scaling, attention, decode_attention, logits,
        device = "auto", precision = "fp32";
    bool no_cache = false, whole_prompt = false, chat = false;
    PromptOptions prompt;
    int max_new_tokens = 0, sample_top_k = 0, block_size = 0, top_k = 0;
    double temperature = 0, top_p = 1, repetition_penalty = 1;
    uint64_t seed = 1;
};
void add_sample_options(CLI::App&, SampleOptions&);

}  // namespace moba

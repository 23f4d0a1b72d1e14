/* The options of `moba inspect`. */
#pragma once
#include "train/options/prompt_options.h"
#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct InspectOptions {
    std::string model, task, attention, out = "inspect.html", json, device = "auto", precision = "fp32";
    PromptOptions prompt;
    std::vector<int> layers, heads;
    int seq_len = 0, block_size = 0, top_k = 0;
    double depth = -1;  // drawn
    uint64_t seed = 1;
};
void add_inspect_options(CLI::App&, InspectOptions&);

}  // namespace moba

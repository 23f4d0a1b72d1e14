/* The options of `moba eval`. */
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct EvalOptions {
    std::string model, task, json, attention, rope_scaling, device = "auto", precision = "fp32";
    std::vector<std::string> data;
    std::vector<int> seq_len;
    int pairs = 0, pair_every = 0;
    std::vector<int> samples{1000};
    int depths = 10, windows = 0, repeats = 0, block_size = 0, top_k = 0, batch_tokens = 16384;
    uint64_t seed = 1;
    double timeout = 300;
    bool router = false;
    std::vector<std::string> given;  // names of the options on the command line
};
void add_eval_options(CLI::App&, EvalOptions&);

}  // namespace moba

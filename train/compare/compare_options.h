/* The options of `moba compare`. */
#pragma once
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct CompareOptions {
    std::string config = "train/configs/compare.json", out = "out/compare", switch_to, device = "auto",
                precision = "fp32";
    int seeds = 0;
    bool dry_run = false;
};
void add_compare_options(CLI::App&, CompareOptions&);

}  // namespace moba

/* moba swap: what a trained model loses when its full attention becomes MoBA, without training: the loss of a
   text under each variant, as a table and a page.

   Variant   "full", or S:K or S:K:N: blocks of S tokens, K blocks for a query, the last N layers full
   Folder    results.json has every finished variant, page.html draws them; a second call with the same model,
             text and length computes only the variants that are not there yet */
#pragma once
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct SwapOptions {
    std::string model, rope_scaling, out = "out/swap", device = "auto", precision = "fp32";
    std::vector<std::string> data;
    std::string variants = "full,16:32,64:8,64:8:3";
    int seq_len = 4096, windows = 16;
};
void add_swap_options(CLI::App&, SwapOptions&);

int run_swap(const SwapOptions&);

}  // namespace moba

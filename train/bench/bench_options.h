/* The options of `moba bench`. */
#pragma once
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct BenchOptions {
    std::string what = "attention", attention_impl = "fast", json, op = "all", device = "auto",
                precision = "fp32";
    std::string kernel_version = "0";  // 0 = the best, or all
    std::string attention;             // time this kind alone; "" = moba and full
    int batch = 1, seq_len = 4096, heads = 4, kv_heads = 0, head_dim = 64, block_size = 128, top_k = 4,
        window = 0, repeats = 7;
    bool profile = false, no_graph = false;
    int hidden = 256, layers = 4, intermediate = 0, vocab = 257;
    std::vector<std::string> given;  // names of the options on the command line
};
inline bool times(const BenchOptions& o, const std::string& kind) {
    return o.attention.empty() || o.attention == kind;
}
constexpr int max_kernel_version = 9;
inline int kv_heads(const BenchOptions& o) { return o.kv_heads ? o.kv_heads : o.heads; }
inline int intermediate_size(const BenchOptions& o) {
    return o.intermediate ? o.intermediate : o.hidden * 11 / 4;
}

void add_bench_options(CLI::App&, BenchOptions&);

/* Throws Error unless the query heads share the key/value heads evenly. */
void check_heads(const BenchOptions&);

}  // namespace moba

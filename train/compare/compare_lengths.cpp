#include "train/compare/compare_lengths.h"
#include "train/core/file.h"
#include "train/core/shell_text.h"
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

namespace moba {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

struct PassTimes {
    double forward_ms = 0, backward_ms = 0;
};

// By kind of attention: "moba", "full", and "window" if `window` is not 0. Timed once for each set of sizes.
std::map<std::string, PassTimes> time_attention(const TrainOptions& o, const Config& c, int window, int T,
                                                const std::string& dir, const RunBench& bench) {
    std::vector<std::string> words = {"bench", "attention", "--repeats=5", "--device=" + o.device,
                                      "--precision=" + o.precision};
    std::string name = o.device + "-" + o.precision;
    const auto add = [&](const char* option, const char* letter, int value) {
        words.push_back(std::string("--") + option + "=" + std::to_string(value));
        name += letter + std::to_string(value);
    };
    add("seq-len", "-T", T);
    add("num-heads", "-H", c.num_heads);
    add("num-kv-heads", "-G", c.num_kv_heads);
    add("head-dim", "-D", c.head_dim);
    add("block-size", "-S", c.block_size);
    add("top-k", "-K", c.top_k);
    if (window) { add("window", "-W", window); }
    const std::string file = dir + "/" + name + ".json";
    if (!fs::exists(file)) {
        if (!bench) { return {}; }
        words.push_back("--json=" + file + ".part");
        const ChildResult r = bench(words, dir + "/" + name + ".txt", T);
        if (r.status != 0) { throw Error("moba " + shell_text(words) + ": " + r.last_line); }
        fs::rename(file + ".part", file);
    }
    const json result = read_json(file);
    std::map<std::string, PassTimes> out;
    for (const json& row : result.at("rows")) {  // gate_forward, gate_lists, attention_backward_full, ...
        const std::string op = row.at("name");
        PassTimes& kind = out[op.rfind("gate", 0) == 0 ? "moba" : op.substr(op.rfind('_') + 1)];
        (op.find("backward") == std::string::npos ? kind.forward_ms : kind.backward_ms) +=
            row.at("ms").get<double>();
    }
    return out;
}

}  // namespace

json attention_by_length(const TrainOptions& options, const Config& c, const std::vector<int>& lengths,
                         const std::string& dir, const RunBench& bench, std::string& problem) {
    std::error_code error;
    fs::create_directories(dir, error);
    json rows = json::array();
    for (int T : lengths) {
        TrainOptions o = options;
        o.seq_len = T;
        o.batch_size = 1;
        o.curriculum.clear();
        json row = {{"seq_len", T}};
        try {
            row["memory_bytes"] = plan_training(o).memory_bytes;
        } catch (const Error&) { continue; }  // too short or too long for this task
        PassTimes sum;
        size_t timed = 0;
        try {
            const bool timed_so = c.num_block_sizes == 1 && c.gate == Gate::topk && !c.shared_gate;
            for (size_t l = 0; l < c.layers.size() && timed_so; l++) {
                const std::string name = layer_name(c.layers[l]);  // "moba:rope", "window:64:rope"
                const auto times = time_attention(o, c, c.layers[l].window, T, dir, bench);
                const auto at = times.find(name.substr(0, name.find(':')));
                if (at == times.end()) { break; }
                sum.forward_ms += at->second.forward_ms;
                sum.backward_ms += at->second.backward_ms;
                timed++;
            }
        } catch (const Error& e) { problem = e.what(); }
        if (timed == c.layers.size()) {
            row["forward_ms"] = sum.forward_ms;
            row["attention_ms"] = sum.forward_ms + sum.backward_ms;
        }
        rows.push_back(row);
    }
    return rows;
}

}  // namespace moba

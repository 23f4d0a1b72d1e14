/* The options of every command: names, defaults, units, help. CLI11's list of options is the only one: --help, --config,
   the settings a checkpoint remembers, and --resume's check all walk it. */
#pragma once
#include "moba/config.h"
#include "train/options/schedule.h"
#include "train/tasks/task.h"
#include <algorithm>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct ModelOptions {
    std::string attention = "moba", layers, gate = "topk";
    int full_layers = 0;
    Config config;
    std::string rope_scaling;
    int num_kv_heads = 0;       // 0 = num_heads
    int head_dim = 0;           // 0 = hidden_size / num_heads
    int intermediate_size = 0;  // 0 = 2 * hidden_size
};

struct TrainOptions {
    TaskSettings task{.name = ""};  // "": needle, or none with data
    std::vector<std::string> data, val_data;
    double val_share = 0.1, epochs = 0;
    ModelOptions model;
    int seq_len = 256, batch_size = 32, grad_accum = 1, steps = 450;
    std::string curriculum, switch_to;
    double stage_accuracy = 0.985;
    double dropout = 0, weight_decay = 0, grad_clip = 1, beta1 = 0.9, beta2 = 0.95, embedding_lr_factor = 1;
    std::string lr_schedule = "wsd";
    LrSettings lr;
    uint64_t seed = 1;
    int eval_every = 100, eval_samples = 256, save_every = 500, log_every = 10;
    std::string out = "out", init_from, device = "auto", precision = "fp32", attention_impl = "fast";
    bool resume = false, recompute = false, no_graph = false;
    std::vector<std::string> given;  // names of the options that were given, by the command line or --config

    bool has(const std::string& name) const {
        return std::find(given.begin(), given.end(), name) != given.end();
    }
};

struct EvalOptions {
    std::string model, task, json, attention, device = "auto", precision = "fp32";
    std::vector<std::string> data;
    std::vector<int> seq_len;
    int depths = 10, samples = 1000, windows = 0, block_size = 0, top_k = 0, batch_tokens = 16384;
    uint64_t seed = 1;
    bool router = false;
};

struct SampleOptions {
    std::string model, prompt, attention, decode_attention, logits, device = "auto", precision = "fp32";
    bool no_cache = false;
    std::vector<int> prompt_ids;
    int max_new_tokens = 0, top_k = 0, block_size = 0, moba_top_k = 0;
    double temperature = 0, top_p = 1, repetition_penalty = 1;
    uint64_t seed = 1;
};

struct BenchOptions {
    std::string what = "attention", attention_impl = "fast", json, op = "all", device = "auto",
                precision = "fp32";
    std::string kernel_version = "0";  // 0 = the best, or all
    int batch = 1, seq_len = 4096, heads = 4, kv_heads = 0, head_dim = 64, block_size = 128, top_k = 4,
        window = 0, repeats = 7;
    bool profile = false, no_graph = false;
    int hidden = 256, layers = 4, intermediate = 0, vocab = 257;
};

struct CompareOptions {
    std::string config = "train/configs/compare.json", out = "out/compare", switch_to, device = "auto",
                precision = "fp32";
    int seeds = 0;
    bool dry_run = false;
};

struct InfoOptions {
    std::string model;
};

struct InspectOptions {
    std::string model, prompt, task, attention, out = "inspect.html", json, device = "auto",
                                                precision = "fp32";
    std::vector<int> prompt_ids, layers, heads;
    int seq_len = 0, block_size = 0, top_k = 0;
    double depth = -1;  // drawn
    uint64_t seed = 1;
};

constexpr int max_kernel_version = 9;
inline int kv_heads(const BenchOptions& o) { return o.kv_heads ? o.kv_heads : o.heads; }
inline int intermediate_size(const BenchOptions& o) {
    return o.intermediate ? o.intermediate : o.hidden * 11 / 4;
}

void add_train_options(CLI::App&, TrainOptions&);
void add_eval_options(CLI::App&, EvalOptions&);
void add_sample_options(CLI::App&, SampleOptions&);
void add_bench_options(CLI::App&, BenchOptions&);
void add_compare_options(CLI::App&, CompareOptions&);
void add_info_options(CLI::App&, InfoOptions&);
void add_inspect_options(CLI::App&, InspectOptions&);

/* A value as one word of a command line: true, 256, the shortest text that reads back as the same double, a,b,c. */
std::string option_text(bool);
std::string option_text(int);
std::string option_text(uint64_t);
std::string option_text(double);
std::string option_text(const std::string&);
std::string option_text(const std::vector<int>&);
std::string option_text(const std::vector<std::string>&);

/* All options of a command with the values of their variables now, by name: {"seq-len": 256, ...}. */
nlohmann::json option_values(CLI::App&);
/* Words for a command line that would give these values. */
std::vector<std::string> option_words(const nlohmann::json& values);
/* Options of --config FILE.json as words, but for those that the command line gave. Throws Error on unknown ones. */
std::vector<std::string> config_words(const CLI::App&, const std::string& file);
/* Names of the options that stood on the command line. */
std::vector<std::string> options_given(const CLI::App&);

/* The model that these options describe. Throws Error. */
Config make_config(const TrainOptions&, int vocab_size);
/* --switch "full@0.9": the attention after this share of all tokens. Throws Error. "": no switch. */
struct Switch {
    std::string attention;
    double share = 0;
};
Switch parse_switch(const std::string&);
Config switched(Config, const Switch&);
bool is_switched(const Config&, const Switch&);  // also where there is nothing to switch
/* --attention full|moba on a trained model: swaps its moba and full layers. Empty: as it is. */
void swap_attention(Config&, const std::string& attention, int block_size, int top_k);
Device parse_device(const std::string&);

}  // namespace moba

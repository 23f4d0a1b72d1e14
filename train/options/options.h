/* The options of `moba train`, and what all commands do with options. CLI11's list of options is the only
   one: --help, --config, the settings stored in a checkpoint, and the check of --resume all use it. The
   options of the other commands are declared beside their commands. */
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
    std::string tokenizer;
    double val_share = 0.1, epochs = 0;
    ModelOptions model;
    std::string size;  // a name of presets.h, or ""
    int seq_len = 256, batch_size = 32, grad_accum = 1, steps = 450, context_parallel = 1;
    std::string curriculum, switch_to;
    int full_every = 0;
    double stage_accuracy = 0.985;
    double dropout = 0, weight_decay = 0, grad_clip = 1, beta1 = 0.9, beta2 = 0.95, embedding_lr_factor = 1;
    std::string lr_schedule = "wsd";
    LrSettings lr;
    uint64_t seed = 1;
    int eval_every = 100, eval_samples = 256, save_every = 500, log_every = 10;
    double timeout = 300;
    std::string out = "out", init_from, device = "auto", precision = "fp32", attention_impl = "fast";
    bool resume = false, overwrite = false, verbose = false, recompute = false, no_graph = false;
    std::vector<std::string> given;  // names of the options that were given, by the command line or --config

    bool has(const std::string& name) const {
        return std::find(given.begin(), given.end(), name) != given.end();
    }
};

void add_train_options(CLI::App&, TrainOptions&);

/* A value as one word of a command line: true, 256, the shortest text that reads back as the same double,
   a,b,c. */
std::string option_text(bool);
std::string option_text(int);
std::string option_text(uint64_t);
std::string option_text(double);
std::string option_text(const std::string&);
std::string option_text(const std::vector<int>&);
/* Names of files in one word, separated by commas. A comma in a name is written \,; and a word that names an
   existing file is that file. files_text writes the word that split_files reads. */
std::vector<std::string> split_files(const std::string&);
std::string files_text(const std::vector<std::string>&);

/* All options of a command with the values of their variables now, by name: {"seq-len": 256, ...}. */
nlohmann::json option_values(CLI::App&);
/* The same for a `moba train` without options. */
nlohmann::json default_train_options();
/* Options of `moba train` as "lr=0.003", by group of the help: those whose values are not the defaults, or
   all. */
struct OptionGroup {
    std::string title;
    std::vector<std::string> options;
};
enum class Shown { changed, all };
std::vector<OptionGroup> option_groups(const nlohmann::json& values, Shown);
/* Words for a command line that would give these values. */
std::vector<std::string> option_words(const nlohmann::json& values);
/* Options of --config FILE.json as words, without those in `given`. Throws Error on unknown ones. */
std::vector<std::string> config_words(const CLI::App&, const std::string& file,
                                      const std::vector<std::string>& given);
/* Names of the options that stood on the command line. */
std::vector<std::string> options_given(const CLI::App&);

/* Throws Error when one of these options was given: "--NAME REASON". */
void refuse_given(const std::vector<std::string>& given, const std::vector<const char*>& names,
                  const std::string& reason);
/* idle_options: options that were given but have no effect here. refuse_idle_options: throws Error if there
   is one. Not for a resumed run, which has a value for every option. */
struct IdleOption {
    std::string name, reason;
};
std::vector<IdleOption> idle_options(const TrainOptions&);
void refuse_idle_options(const TrainOptions&);

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
/* --rope-scaling on a trained model. Empty: as it is. */
void rescale(Config&, const std::string& rope_scaling);

}  // namespace moba

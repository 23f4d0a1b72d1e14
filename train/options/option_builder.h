/* Adds options to a command: name, unit, help, limits. The help is printed for 80 columns: a sentence for
   each option, and its default. Included by the files that define a command's options, and by no others:
   CLI11's headers are large. */
#pragma once
#include "train/options/options.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <climits>

namespace moba {

/* Replace a word by its number in plain decimal, or refuse it. CLI11 would read 010 as octal and cut off what
   is too large. */
CLI::Validator whole_number(int64_t lo, uint64_t hi);
CLI::Validator real_number();

/* For every command, before its options. An option that is given twice has the last value. */
void start_options(CLI::App&);
/* Two columns of the help: `left`, and `text` beside it, wrapped. */
std::string help_columns(std::string left, const std::string& text);
/* Options that follow stand under this title in the help. */
void group(CLI::App&, const char* title);

/* unit: what the value is, e.g. TOKENS. A unit that begins with FILE or DIR marks a path. */
template <class X>
CLI::Option* add(CLI::App& app, const char* name, X& value, const char* unit, const std::string& help) {
    CLI::Option* o = app.add_option(name, value, help)->type_name(unit);
    o->group(app.option_defaults()->get_group());
    // Our own text of the value: CLI11's versions print an empty list as [] or {}, and checkpoints store this
    // text.
    o->default_function([&value] { return option_text(value); });
    if constexpr (std::is_same_v<X, uint64_t>) { o->transform(whole_number(0, UINT64_MAX)); }
    if constexpr (std::is_same_v<X, int> || std::is_same_v<X, std::vector<int>>) {
        o->transform(whole_number(INT_MIN, INT_MAX));
    }
    if constexpr (std::is_same_v<X, double>) { o->transform(real_number()); }
    return o->capture_default_str();
}
CLI::Option* add_flag(CLI::App&, const char* name, bool& value, const std::string& help);
/* A list: words separated by commas, or the option several times. */
template <class X>
CLI::Option* add_list(CLI::App& app, const char* name, X& value, const char* unit, const std::string& help) {
    return add(app, name, value, unit, help)->delimiter(',')->take_all();
}

/* Names of files, several words or separated by commas (split_files in train/options/options.h). */
CLI::Option* add_files(CLI::App&, const char* name, std::vector<std::string>& value, const std::string& help);

/* Limits of a value. They are named when a value is refused, and not in the help. */
CLI::Validator between(double lo, double hi);  // NaN is refused
CLI::Validator whole(int lo, int hi);
CLI::Validator one_of(std::vector<std::string> words);
CLI::Validator task_or_empty();
constexpr int most_steps = 1 << 30, most_tokens = 1 << 24;

/* Options that several commands have. */
void add_device(CLI::App&, std::string& device, std::string& precision);
void add_no_graph(CLI::App&, bool&);
void add_timeout(CLI::App&, double& seconds);
void add_attention_impl(CLI::App&, std::string&);
void add_model_path(CLI::App&, std::string&);
void add_attention_swap(CLI::App&, std::string& attention, int& block_size, int& top_k);
void add_rope_scaling(CLI::App&, std::string&);  // of a trained model; rescale() uses it

}  // namespace moba

/* Adds options to a command: name, unit, help, limits. The help is printed for 80 columns: a sentence for
   each option, and its default. Included by the files that define a command's options, and by no others:
   CLI11's headers are large. */
#pragma once
#include "train/options/options.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>

namespace moba {

/* For every command, before its options. An option that is given twice has the last value. */
void start_options(CLI::App&);
/* Options that follow stand under this title in the help. */
void group(CLI::App&, const char* title);

/* unit: what the value is, e.g. TOKENS; its beginning FILE or DIR marks a path. */
template <class X>
CLI::Option* add(CLI::App& app, const char* name, X& value, const char* unit, const std::string& help) {
    CLI::Option* o = app.add_option(name, value, help)->type_name(unit);
    o->group(app.option_defaults()->get_group());
    // Our own text of the value: CLI11's versions print an empty list as [] or {}, and checkpoints store this
    // text.
    o->default_function([&value] { return option_text(value); });
    return o->capture_default_str();
}
CLI::Option* add_flag(CLI::App&, const char* name, bool& value, const std::string& help);
/* A list: words separated by commas, or the option several times. */
template <class X>
CLI::Option* add_list(CLI::App& app, const char* name, X& value, const char* unit, const std::string& help) {
    return add(app, name, value, unit, help)->delimiter(',')->take_all();
}

/* Limits of a value. They are named when a value is refused, and not in the help. */
CLI::Validator between(double lo, double hi);  // NaN is refused
CLI::Validator whole(int lo, int hi);
CLI::Validator one_of(std::vector<std::string> words);
CLI::Validator task_or_empty();
constexpr int most_steps = 1 << 30, most_tokens = 1 << 24;

/* Options that several commands have. */
void add_device(CLI::App&, std::string& device, std::string& precision);
void add_no_graph(CLI::App&, bool&);
void add_attention_impl(CLI::App&, std::string&);
void add_model_path(CLI::App&, std::string&);
void add_attention_swap(CLI::App&, std::string& attention, int& block_size, int& top_k);

}  // namespace moba

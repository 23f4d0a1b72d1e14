// Options as values: what a run remembers, what --config holds, and words for a command line again.
#include "train/core/file.h"
#include "train/options/options.h"
#include "train/options/suggest.h"
#include <CLI/App.hpp>
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

// The other options (--help, --resume, ...) are neither saved nor read from a file.
static bool is_setting(const std::string& name) {
    return name != "help" && name != "config" && name != "resume" && name != "overwrite" && name != "verbose";
}

// "256" -> 256, "0.1" -> 0.1, "true" -> true. Anything else, and every path, is a string.
static json typed(const CLI::Option& o, const std::string& text) {
    const std::string unit = o.get_type_name().substr(0, 4);
    if (unit == "FILE" || unit == "DIR") { return text; }
    const json j = json::parse(text, nullptr, false);
    return j.is_number() || j.is_boolean() ? j : json(text);
}

template <class X>
static std::string number_text(X x) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, x).ptr};
}
std::string option_text(bool x) { return x ? "true" : "false"; }
std::string option_text(int x) { return number_text(x); }
std::string option_text(uint64_t x) { return number_text(x); }
std::string option_text(double x) { return number_text(x); }
std::string option_text(const std::string& x) { return x; }
std::string option_text(const std::vector<int>& list) {
    std::string text;
    for (int x : list) { text += (text.empty() ? "" : ",") + option_text(x); }
    return text;
}

std::vector<std::string> split_files(const std::string& word) {
    std::error_code none;
    if (std::filesystem::exists(word, none)) { return {word}; }
    std::vector<std::string> files(1);
    for (size_t i = 0; i < word.size(); i++) {
        if (word[i] == ',') {
            files.emplace_back();
        } else {
            i += word.compare(i, 2, "\\,") == 0;
            files.back() += word[i];
        }
    }
    return files;
}
std::string files_text(const std::vector<std::string>& files) {
    std::string text;
    for (const std::string& file : files) {
        if (!text.empty()) { text += ','; }
        for (char c : file) { text += c == ',' ? "\\," : std::string(1, c); }
    }
    return text;
}

json option_values(CLI::App& app) {
    json out = json::object();
    for (CLI::Option* o : app.get_options()) {
        const std::string name = o->get_lnames().empty() ? "" : o->get_lnames()[0];
        if (name.empty() || !is_setting(name)) { continue; }
        o->capture_default_str();  // the text of the variable, as it is now
        out[name] = typed(*o, o->get_default_str());
    }
    return out;
}

nlohmann::json default_train_options() {
    TrainOptions options;
    CLI::App app;
    add_train_options(app, options);
    return option_values(app);
}

std::vector<OptionGroup> option_groups(const json& values, Shown shown) {
    TrainOptions options;
    CLI::App app;
    add_train_options(app, options);
    const json defaults = option_values(app);
    std::vector<OptionGroup> out;
    for (const CLI::Option* o : app.get_options()) {
        const std::string name = o->get_lnames().empty() ? "" : o->get_lnames()[0];
        if (!values.contains(name) || !defaults.contains(name)) { continue; }
        const json& value = values[name];
        if (shown == Shown::changed && value == defaults[name]) { continue; }
        if (out.empty() || out.back().title != o->get_group()) { out.push_back({o->get_group(), {}}); }
        out.back().options.push_back(name + "=" +
                                     (value.is_string() ? value.get<std::string>() : value.dump()));
    }
    return out;
}

std::vector<std::string> option_words(const json& values) {
    std::vector<std::string> words;
    for (const auto& [key, v] : values.items()) {
        std::string name = key;
        std::replace(name.begin(), name.end(), '_', '-');
        std::string text = v.is_string() ? v.get<std::string>() : v.dump();
        // Empty is the default. It is a word only where it must replace the value of a file of options.
        const bool replaces = values.contains("config") && v.is_string();
        if ((text.empty() && !replaces) || (v.is_array() && v.empty())) { continue; }
        if (v.is_array()) {
            std::vector<std::string> parts;
            for (const json& x : v) { parts.push_back(x.is_string() ? x.get<std::string>() : x.dump()); }
            const bool files = name == "data" || name == "val-data";
            text.clear();
            for (const std::string& p : parts) { text += (text.empty() ? "" : ",") + p; }
            if (files) { text = files_text(parts); }
        }
        words.push_back("--" + name + "=" + text);
    }
    return words;
}

std::vector<std::string> config_words(const CLI::App& app, const std::string& file,
                                      const std::vector<std::string>& given) {
    const json j = read_json_of_user(file);
    if (!j.is_object()) { throw Error(file + ": must be a JSON object of options"); }
    json used = json::object();
    std::vector<std::string> known;
    for (const CLI::Option* o : app.get_options()) {
        for (const std::string& name : o->get_lnames()) {
            if (is_setting(name)) { known.push_back(name); }
        }
    }
    for (const auto& [key, v] : j.items()) {
        std::string name = key;
        std::replace(name.begin(), name.end(), '_', '-');
        if (!is_setting(name) || !app.get_option_no_throw("--" + name)) {
            throw Error(file + ": '" + key + "' is not an option of train" + did_you_mean(name, known));
        }
        const auto unusable = [](const json& x) { return x.is_object() || x.is_null(); };
        const auto nested = [&](const json& x) { return x.is_array() || unusable(x); };
        if (unusable(v) || (v.is_array() && std::any_of(v.begin(), v.end(), nested))) {
            throw Error(file + ": '" + key + "' has no usable value");
        }
        const auto is_given = [&](const std::string& n) {
            return std::find(given.begin(), given.end(), n) != given.end();
        };
        // These two replace each other.
        const std::string other = name == "steps" ? "epochs" : name == "epochs" ? "steps" : name;
        if (!is_given(name) && !is_given(other)) { used[name] = v; }
    }
    return option_words(used);
}

std::vector<std::string> options_given(const CLI::App& app) {
    std::vector<std::string> out;
    for (const CLI::Option* o : app.get_options()) {
        if (o->count() > 0 && !o->get_lnames().empty() && is_setting(o->get_lnames()[0])) {
            out.push_back(o->get_lnames()[0]);
        }
    }
    return out;
}

}  // namespace moba

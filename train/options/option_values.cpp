// Options as values: what a run remembers, what --config holds, and words for a command line again.
#include "train/core/file.h"
#include "train/options/options.h"
#include <CLI/App.hpp>
#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

// The others say what to do, and are neither saved nor read from a file.
static bool is_setting(const std::string& name) {
    return name != "help" && name != "config" && name != "resume" && name != "overwrite";
}

// "256" -> 256, "0.1" -> 0.1, "true" -> true, anything else a string, and so is a path whatever it looks like
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
template <class X>
static std::string list_text(const std::vector<X>& list) {
    std::string text;
    for (const X& x : list) { text += (text.empty() ? "" : ",") + option_text(x); }
    return text;
}
std::string option_text(bool x) { return x ? "true" : "false"; }
std::string option_text(int x) { return number_text(x); }
std::string option_text(uint64_t x) { return number_text(x); }
std::string option_text(double x) { return number_text(x); }
std::string option_text(const std::string& x) { return x; }
std::string option_text(const std::vector<int>& x) { return list_text(x); }
std::string option_text(const std::vector<std::string>& x) { return list_text(x); }

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

std::vector<std::string> option_words(const json& values) {
    std::vector<std::string> words;
    for (const auto& [key, v] : values.items()) {
        std::string name = key;
        std::replace(name.begin(), name.end(), '_', '-');
        std::string text = v.is_string() ? v.get<std::string>() : v.dump();
        if (text.empty()) { continue; }  // nothing given, as the default
        if (v.is_array()) {
            text.clear();
            for (const json& x : v) {
                text += (text.empty() ? "" : ",") + (x.is_string() ? x.get<std::string>() : x.dump());
            }
        }
        words.push_back("--" + name + "=" + text);
    }
    return words;
}

std::vector<std::string> config_words(const CLI::App& app, const std::string& file) {
    const json j = read_json(file);
    if (!j.is_object()) { throw Error(file + ": must be a JSON object of options"); }
    const std::vector<std::string> given = options_given(app);
    json used = json::object();
    for (const auto& [key, v] : j.items()) {
        std::string name = key;
        std::replace(name.begin(), name.end(), '_', '-');
        if (!is_setting(name) || !app.get_option_no_throw("--" + name)) {
            throw Error(file + ": '" + key + "' is not an option of train");
        }
        if (v.is_object() || v.is_null()) { throw Error(file + ": '" + key + "' has no usable value"); }
        if (std::find(given.begin(), given.end(), name) == given.end()) { used[name] = v; }
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

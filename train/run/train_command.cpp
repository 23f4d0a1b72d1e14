#include "train/run/train_command.h"
#include "train/options/presets.h"
#include "train/options/suggest.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <filesystem>

namespace moba {

using nlohmann::json;

// CLI11 would take the next word, another option, for the value that is missing after "--out=".
static void split_empty_values(std::vector<std::string>& words) {
    for (size_t i = 0; i < words.size(); i++) {
        if (words[i].rfind("--", 0) == 0 && words[i].find('=') == words[i].size() - 1) {
            words[i].pop_back();
            words.insert(words.begin() + (long)++i, "");
        }
    }
}

// The first option among the words that were not expected, or else the first word; without "=value".
static std::string unknown_word(const std::vector<std::string>& words) {
    for (const std::string& w : words) {
        if (w.starts_with("-")) { return w.substr(0, w.find('=')); }
    }
    return words.empty() ? "" : words[0];
}
static std::vector<std::string> option_names(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::Option* o : app.get_options()) {
        for (const std::string& name : o->get_lnames()) { names.push_back("--" + name); }
    }
    return names;
}

void parse_words(CLI::App& app, std::vector<std::string> words) {
    split_empty_values(words);
    std::reverse(words.begin(), words.end());  // CLI11 reads them from the back
    try {
        app.parse(std::move(words));
    } catch (const CLI::CallForHelp&) {
        std::printf("%s", app.help().c_str());
        throw;
    } catch (const CLI::ExtrasError& e) {
        const std::string word = unknown_word(app.remaining());
        throw CLI::ParseError(word + ": there is no such option" + did_you_mean(word, option_names(app)),
                              e.get_exit_code());
    }
}

std::string locked_folder(const std::string& out) {
    return "--out " + out + ": another process trains in this folder";
}

/* --resume: the settings are those of the run. An option given now must have the same value, except for some
   that do not change what has been learnt. */
static std::vector<std::string> resume_words(json saved, const std::string& out, CLI::App& given) {
    // data and val-data: files may have moved; check_same_data() compares what is in them.
    // steps and epochs: a run may go on for longer.
    static const std::vector<std::string> free = {
        "out",      "device",  "save-every",       "eval-every", "eval-samples", "log-every", "recompute",
        "no-graph", "timeout", "context-parallel", "data",       "val-data",     "steps",     "epochs"};
    for (const char* files : {"data", "val-data"}) {  // older checkpoints have CLI11's text of an empty list
        if (saved.contains(files) && (saved[files] == "{}" || saved[files] == "[]")) { saved[files] = ""; }
    }
    const json now = option_values(given);
    json merged = saved;
    for (const std::string& name : options_given(given)) {
        const bool changed = !saved.contains(name) || saved[name] != now[name];
        if (changed && std::find(free.begin(), free.end(), name) == free.end()) {
            throw Error("--" + name + " " + now[name].dump() + " contradicts the run in " + out + " (" +
                        (saved.contains(name) ? saved[name].dump() : "not set") +
                        "); --resume keeps its settings");
        }
        merged[name] = now[name];
    }
    const std::vector<std::string> names = options_given(given);
    const auto is_given = [&](const char* n) {
        return std::find(names.begin(), names.end(), n) != names.end();
    };
    if (is_given("steps") && !is_given("epochs")) { merged["epochs"] = 0; }  // epochs would win
    std::vector<std::string> words = option_words(merged);
    words.push_back("--resume");
    if (given.count("--verbose")) { words.push_back("--verbose"); }
    return words;
}

namespace {

struct ParsedTrain {
    TrainOptions options;
    CLI::App app{"moba train: train a model, or continue with the weights of another one", "moba train"};

    explicit ParsedTrain(const std::vector<std::string>& words) {
        add_train_options(app, options);
        parse_words(app, words);
        options.given = options_given(app);
    }
};

// A new run: the options that were not given get the defaults for what it trains.
TrainCommand with_presets(std::vector<std::string> words, const TrainOptions& given) {
    std::optional<Config> init;
    if (!given.init_from.empty()) { init = open_model(given.init_from).config; }
    const std::vector<std::string> presets = preset_words(given, init ? &*init : nullptr);
    words.insert(words.begin(), presets.begin(), presets.end());
    ParsedTrain all(words);
    all.options.given = given.given;
    return {all.options, option_values(all.app), {}};
}

}  // namespace

TrainCommand parse_train(const std::vector<std::string>& words, bool take_lock) {
    const ParsedTrain line(words);
    std::vector<std::string> all = words;
    if (line.app.count("--config")) {
        std::vector<std::string> given = line.options.given;
        if (!line.options.size.empty()) {  // --size on the command line also comes before the file
            const std::vector<std::string> set = size_options(line.options.size);
            given.insert(given.end(), set.begin(), set.end());
        }
        const std::vector<std::string> file =
            config_words(line.app, line.app.get_option("--config")->as<std::string>(), given);
        all.insert(all.begin(), file.begin(), file.end());
    }
    ParsedTrain merged(all);
    const std::string& out = merged.options.out;
    if (!merged.options.resume) { return with_presets(all, merged.options); }
    if (merged.options.overwrite) { throw Error("--resume and --overwrite cannot be used together"); }
    if (!std::filesystem::is_directory(out)) { throw Error("--out " + out + ": there is no such folder"); }
    FolderLock lock;
    if (take_lock && !lock.take(out)) { throw Error(locked_folder(out)); }
    const std::string latest = latest_checkpoint(out);
    if (latest.empty()) {
        throw Error("--out " + out + ": holds no checkpoint to go on from; start it without --resume");
    }
    const ModelFolder folder = open_model(latest);
    const RunState state = read_state(folder);
    ParsedTrain resumed(resume_words(state.options, out, merged.app));
    return {resumed.options, option_values(resumed.app), Checkpoint{folder, state, lock}};
}

}  // namespace moba

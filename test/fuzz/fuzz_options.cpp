// --config FILE.json, including the model and the task that it describes.
#include "test/fuzz/fuzz.h"
#include "train/options/options.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>

using namespace moba;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string path = fuzz_file("options.json", data, size);
    static TrainOptions none;
    // made only once: most inputs are refused by config_words(), and making the options is slow
    static CLI::App& names = *[] {
        auto* app = new CLI::App;
        add_train_options(*app, none);
        return app;
    }();
    return refuses_or_reads([&] {
        std::vector<std::string> words = config_words(names, path, {});
        TrainOptions o;
        CLI::App app;
        add_train_options(app, o);
        std::reverse(words.begin(), words.end());
        try {
            app.parse(words);
        } catch (const CLI::ParseError&) { return; }
        o.given = options_given(app);
        idle_options(o);
        make_config(o, 100);
        parse_curriculum(o.curriculum);
        if (!o.task.name.empty()) { make_task(o.task, ""); }
    });
}

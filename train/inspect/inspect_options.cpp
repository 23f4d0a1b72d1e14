#include "train/inspect/inspect_options.h"
#include "train/options/option_builder.h"

namespace moba {

void add_inspect_options(CLI::App& app, InspectOptions& o) {
    start_options(app);
    add_model_path(app, o.model);
    const std::vector<CLI::Option*> prompts = add_prompt_options(app, o.prompt, "a test of the task.");
    auto* task =
        add(app, "--task", o.task, "NAME", "Task of the test. Empty: the task that the model was trained on.")
            ->check(task_or_empty());
    auto* length = add(app, "--seq-len", o.seq_len, "TOKENS",
                       "Length T of the test, with its answer. 0: the length of the training.")
                       ->check(whole(0, 1 << 20));
    auto* depth = add(app, "--depth", o.depth, "SHARE",
                      "Place of the answer in the test: 0 at its start, 1 at its end.")
                      ->check(between(0.0, 1.0))
                      ->default_str("drawn");
    auto* seed = add(app, "--seed", o.seed, "NUMBER", "Random seed of the test.");
    for (auto* of_test : {task, length, depth, seed}) {
        for (CLI::Option* prompt : prompts) { of_test->excludes(prompt); }
    }
    add_list(app, "--layer", o.layers, "NUMBER,...", "Layers to show, counted from 0. Empty: all.")
        ->check(whole(0, 1 << 16));
    add_list(app, "--head", o.heads, "NUMBER,...", "Query heads to show, counted from 0. Empty: all.")
        ->check(whole(0, 1 << 16));
    add_attention_swap(app, o.attention, o.block_size, o.top_k);
    add(app, "--out", o.out, "FILE", "The page: one HTML file that needs no network.");
    add(app, "--json", o.json, "FILE",
        "Write each query's choice, scores and weights to this file, as JSON.");
    add_device(app, o.device, o.precision);
}

}  // namespace moba

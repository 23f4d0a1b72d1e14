#include "train/eval/eval_options.h"
#include "train/options/option_builder.h"

namespace moba {

void add_eval_options(CLI::App& app, EvalOptions& o) {
    start_options(app);
    add_model_path(app, o.model);
    add(app, "--task", o.task, "NAME", "Task to test. Empty: the task that the model was trained on.")
        ->check(task_or_empty());
    add(app, "--pairs", o.pairs, "PAIRS", "Pairs in a test. 0: as in training.")->check(whole(0, 1 << 24));
    add(app, "--pair-every", o.pair_every, "TOKENS",
        "In a test at least one pair for every so many tokens (needle, mqar). 0: as in training.")
        ->check(whole(0, 1 << 30));
    add_files(app, "--data", o.data,
              "Compute the loss on this text. Empty: the model's validation text, or its task.");
    add_list(app, "--seq-len", o.seq_len, "TOKENS,...",
             "Lengths T to test. Empty: the length of the training.")
        ->check(whole(1, most_tokens));
    add(app, "--depths", o.depths, "DEPTHS",
        "Number of equal parts of a sample; each test places its answer in one of them.")
        ->check(whole(1, 1000));
    add_list(app, "--samples", o.samples, "SAMPLES,...",
             "Samples for each length and depth; a list has one number for each length.")
        ->check(whole(1, most_tokens));
    add(app, "--windows", o.windows, "WINDOWS", "Windows of a text, spread evenly over it. 0: all.")
        ->check(whole(0, most_steps));
    add(app, "--repeats", o.repeats, "TOKENS",
        "Of a text, also print the loss by how many tokens ago the same last TOKENS tokens stood before. 0: "
        "do not.")
        ->check(whole(0, 1 << 20));
    add(app, "--seed", o.seed, "NUMBER",
        "Random seed of the samples. They differ from those of the training.");
    add_attention_swap(app, o.attention, o.block_size, o.top_k);
    add_rope_scaling(app, o.rope_scaling);
    add_flag(
        app, "--router", o.router,
        "Also print router recall by layer and head: how often a question chose the block of its answer, "
        "measured and predicted. Needs memory for all layers, if one below the last chooses blocks.");
    add(app, "--batch-tokens", o.batch_tokens, "TOKENS", "Tokens computed together. Fewer need less memory.")
        ->check(whole(1, 1 << 28));
    add(app, "--json", o.json, "FILE", "Write all figures to this file, as JSON.");
    add_device(app, o.device, o.precision);
    add_timeout(app, o.timeout);
}

}  // namespace moba

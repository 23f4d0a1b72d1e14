// The options of `moba train`.
#include "train/options/option_builder.h"
#include "train/options/presets.h"

namespace moba {

static void add_common_options(CLI::App& app, TrainOptions& o) {
    group(app, "Common");
    add(app, "--task", o.task.name, "NAME",
        "What to learn: needle, mqar, induction, copying or tracking. Empty: needle, or the text of --data.")
        ->check(task_or_empty());
    add_files(app, "--data", o.data,
              "Learn from text instead: plain files, .jsonl files, or .bin shards (data/README.md).");
    add(app, "--size", o.size, "NAME",
        "Sets width, depth, learning rate and batch: tiny (1.6M weights without the embedding), small (11M) "
        "or 124m (85M). An option that you give is used instead. Empty: tiny for a text; for a task, the "
        "defaults under Model.")
        ->check(one_of(size_names()));
    add(app, "--attention", o.model.attention, "KIND", "moba or full, in every layer.")
        ->check(one_of({"moba", "full"}));
    add(app, "--seq-len", o.seq_len, "TOKENS", "Length T of a sample.")->check(whole(1, most_tokens));
    add(app, "--steps", o.steps, "STEPS", "Optimizer steps; with a curriculum, those of its last stage.")
        ->check(whole(1, most_steps));
    add(app, "--lr", o.lr.peak, "RATE", "Peak learning rate.")->check(between(0.0, 1e30));
    add(app, "--out", o.out, "DIR", "Folder of the run: checkpoints and log.jsonl.");
    add_flag(app, "--resume", o.resume,
             "Continue the run in --out, with its settings. --steps or --epochs let it go on for longer; "
             "--data names files that have moved.");
    app.add_option("--config",
                   "Options from a JSON file, e.g. {\"seq-len\": 256}. The command line overrides it.")
        ->type_name("FILE")
        ->group("Common");
    add_device(app, o.device, o.precision);
}

static void add_task_options(CLI::App& app, TrainOptions& o) {
    group(app, "Task or text");
    add(app, "--tokenizer", o.tokenizer, "DIR",
        "Encode --data with this tokenizer: a model folder, a tokenizer.json or a .gguf file. Empty: that of "
        "--init-from; else the bytes of the text are its tokens.");
    add_files(app, "--val-data", o.val_data, "Text to validate with. Empty: the end of --data.");
    add(app, "--val-share", o.val_share, "SHARE", "Share of --data used for validation, taken from its end.")
        ->check(between(0.0, 0.9));
    add(app, "--pairs", o.task.pairs, "PAIRS",
        "Number of things to remember in a sample: key-value pairs (needle, mqar), tokens to copy, chains. "
        "0: the task's default (docs/usage.md).");
    add(app, "--questions", o.task.questions, "QUESTIONS",
        "Questions in a training sample of needle and tracking. 0: as many as pairs in needle, one in "
        "tracking.");
    add(app, "--pair-every", o.task.pair_every, "TOKENS",
        "At least one pair for every so many tokens of a sample, so that decoys grow with its length "
        "(needle, "
        "mqar). 0: do not.");
    add(app, "--key-tokens", o.task.key_tokens, "TOKENS", "Tokens per key (needle). 0: the task's default.");
    add(app, "--value-tokens", o.task.value_tokens, "TOKENS",
        "Tokens per answer (needle). 0: the task's default.");
    add(app, "--needles", o.task.needles, "KEYS",
        "Keys that a question names; the answer is the largest of their values (needle). 0: one key.");
    add(app, "--synonyms", o.task.synonyms, "0|1",
        "1: a question names keys by other tokens than the text, whose meaning must be learnt (needle).");
    add(app, "--spread", o.task.spread, "0|1",
        "1: pairs and questions anywhere in the sample, not the pairs first (mqar).");
    add(app, "--hops", o.task.hops, "HOPS",
        "Assignments after the first one of a chain (tracking). 0: the task's default.");
    add(app, "--num-keys", o.task.num_keys, "TOKENS", "Number of different keys. 0: the task's default.");
    add(app, "--num-values", o.task.num_values, "TOKENS",
        "Number of different values. 0: the task's default.");
    add(app, "--num-noise", o.task.num_noise, "TOKENS",
        "Number of different noise tokens. 0: the task's default.");
}

static void add_batch_options(CLI::App& app, TrainOptions& o) {
    group(app, "Batch and length");
    add(app, "--batch-size", o.batch_size, "SAMPLES", "Samples B of a micro-batch.")
        ->check(whole(1, 1 << 20));
    add(app, "--grad-accum", o.grad_accum, "BATCHES", "Micro-batches of one optimizer step.")
        ->check(whole(1, 1 << 16));
    add(app, "--context-parallel", o.context_parallel, "RANKS",
        "With mpirun or srun: so many processes share each sample, by its blocks.")
        ->check(whole(1, 1 << 16));
    add(app, "--epochs", o.epochs, "EPOCHS", "Passes over --data, instead of --steps. 0: use --steps.")
        ->check(between(0.0, 1e6));
    add(app, "--curriculum", o.curriculum, "STAGES",
        "Shorter stages first, each T:pairs:batch:steps, e.g. \"32:8:128:300,64:4:64:150\".");
    add(app, "--stage-accuracy", o.stage_accuracy, "SHARE",
        "A stage ends early when its running accuracy reaches this. 0: never.")
        ->check(between(0.0, 1.0));
    add_flag(app, "--recompute", o.recompute,
             "Save memory: store only each layer's input, and compute the rest of the layer again in the "
             "backward pass.");
}

static void add_attention_options(CLI::App& app, TrainOptions& o) {
    ModelOptions& m = o.model;
    Config& c = m.config;
    group(app, "Attention");
    add(app, "--block-size", c.block_size, "TOKENS", "Block size S, a multiple of 4.");
    add(app, "--top-k", c.top_k, "BLOCKS", "Blocks K that a query attends, its own block included.");
    add(app, "--layers", m.layers, "PATTERN",
        "Kind of each layer, repeated over the layers: full, moba or window:W, then :rope or :none, e.g. "
        "\"window:64:rope,moba:none\".");
    add(app, "--full-layers", m.full_layers, "LAYERS", "The last n layers use full attention.")
        ->check(whole(0, 1024));
    add(app, "--gate", m.gate, "GATE",
        "How moba layers choose blocks: topk (by their mean key), max (by the largest value of each "
        "channel), "
        "lse (by the means of their quarters), recent (the last ones) or sink (the first and the last ones).")
        ->check(one_of({"topk", "max", "lse", "recent", "sink"}));
    add_flag(app, "--shared-gate", c.shared_gate,
             "Query heads that share keys choose together, by the sum of their queries.");
    add(app, "--key-conv", c.key_conv, "TAPS", "Taps of the key convolution: 0 (none), 3 or 5.")
        ->check(CLI::IsMember({0, 3, 5}));
    add(app, "--num-blocks", c.num_block_sizes, "SIZES",
        "Number n of different block sizes: head g has blocks of S >> (g % n) tokens and attends K << (g % "
        "n) "
        "of them.");
    add(app, "--full-every", o.full_every, "STEPS",
        "Each time after so many steps, moba layers compute full attention for one step of the training. 0: "
        "never.")
        ->check(whole(0, 1000000));
    add(app, "--switch", o.switch_to, "KIND@SHARE",
        "After this share of all tokens, moba and full layers become this kind, e.g. full@0.9. The "
        "optimizer's "
        "state is kept.");
}

static void add_model_options(CLI::App& app, TrainOptions& o) {
    ModelOptions& m = o.model;
    Config& c = m.config;
    group(app, "Model");
    add(app, "--hidden-size", c.hidden_size, "CHANNELS", "Model width C.");
    add(app, "--num-layers", c.num_layers, "LAYERS", "Number of layers L.");
    add(app, "--num-heads", c.num_heads, "HEADS", "Number of query heads H.");
    add(app, "--num-kv-heads", m.num_kv_heads, "HEADS",
        "Number of key/value heads G. 0: one for each query head.");
    add(app, "--head-dim", m.head_dim, "CHANNELS", "Width D of a head. 0: hidden-size / num-heads.");
    add(app, "--intermediate-size", m.intermediate_size, "CHANNELS",
        "Width F of the MLP. 0: 2 x hidden-size.");
    add(app, "--rope-theta", c.rope_theta, "BASE", "Base of the RoPE frequencies.");
    add(app, "--rope-scaling", m.rope_scaling, "SCALING",
        "linear:F (positions are divided by F), yarn:F:ORIGINAL (ORIGINAL: the length it was trained for) or "
        "llama3:F:LOW:HIGH:ORIGINAL. Empty: none, or that of --init-from.");
    add_flag(app, "--tie-word-embeddings", c.tie_word_embeddings,
             "The output layer uses the embedding's weights.");
    add(app, "--embedding-std", c.embedding_std, "STD",
        "Standard deviation of the embedding's initial values.");
    add(app, "--dropout", o.dropout, "SHARE",
        "Dropout probability on the embedding and on each residual branch.")
        ->check(between(0.0, 0.99));
    add(app, "--init-from", o.init_from, "DIR",
        "Start from the weights of this model: a folder, or a .gguf file. The model's own sizes are used; "
        "size "
        "options are refused.");
}

static void add_optimizer_options(CLI::App& app, TrainOptions& o) {
    group(app, "Optimizer");
    add(app, "--warmup", o.lr.warmup, "STEPS", "Steps in which the rate rises linearly from 0 to the peak.")
        ->check(whole(0, most_steps));
    add(app, "--lr-schedule", o.lr_schedule, "NAME",
        "After the warm-up: cosine, wsd (constant, then linearly down) or constant.")
        ->check(one_of({"cosine", "wsd", "constant"}));
    add(app, "--lr-decay-steps", o.lr.decay_steps, "STEPS",
        "wsd: steps in which the rate falls. 0: a fifth of all steps.")
        ->check(whole(0, most_steps));
    add(app, "--min-lr-ratio", o.lr.min_ratio, "SHARE",
        "Final learning rate of cosine and wsd, as a share of the peak.")
        ->check(between(0.0, 1.0));
    add(app, "--embedding-lr-factor", o.embedding_lr_factor, "FACTOR",
        "Learning rate of the embedding, as a multiple of --lr.")
        ->check(between(0.0, 1000.0));
    add(app, "--weight-decay", o.weight_decay, "RATE",
        "Weight decay of matrices; it is multiplied by the learning rate.")
        ->check(between(0.0, 100.0));
    add(app, "--grad-clip", o.grad_clip, "NORM",
        "Largest norm of the whole gradient; larger ones are scaled down. 0: no limit.")
        ->check(between(0.0, 1e9));
    add(app, "--beta1", o.beta1, "RATE", "AdamW: decay of the first moment.")->check(between(0.0, 0.999999));
    add(app, "--beta2", o.beta2, "RATE", "AdamW: decay of the second moment.")->check(between(0.0, 0.999999));
}

static void add_run_options(CLI::App& app, TrainOptions& o) {
    group(app, "Run");
    add_flag(app, "--overwrite", o.overwrite, "Delete the run in --out and start a new one.");
    add(app, "--seed", o.seed, "NUMBER", "Random seed of weights, data and dropout.");
    add(app, "--eval-every", o.eval_every, "STEPS", "Steps between validations. 0: none.")
        ->check(whole(0, most_steps));
    add(app, "--eval-samples", o.eval_samples, "SAMPLES",
        "Samples of a validation (text: windows). 0: 1000, or the whole text.")
        ->check(whole(0, most_tokens));
    add(app, "--save-every", o.save_every, "STEPS", "Steps between checkpoints. 0: only one at the end.")
        ->check(whole(0, most_steps));
    add(app, "--log-every", o.log_every, "STEPS",
        "Steps between printed lines when the output is not a terminal. log.jsonl has every step.")
        ->check(whole(1, most_steps));
    add_timeout(app, o.timeout);
    add_flag(app, "--verbose", o.verbose,
             "Print every setting, not only those that differ from the defaults.");
    add_attention_impl(app, o.attention_impl);
    add_no_graph(app, o.no_graph);
}

void add_train_options(CLI::App& app, TrainOptions& o) {
    start_options(app);
    add_common_options(app, o);
    add_task_options(app, o);
    add_attention_options(app, o);
    add_model_options(app, o);
    add_batch_options(app, o);
    add_optimizer_options(app, o);
    add_run_options(app, o);
    std::string footer = "Defaults that differ from those above, where you give no value:\n";
    for (const PresetHelp& p : preset_help()) { footer += help_columns("  with " + p.with, p.values); }
    app.footer(footer);
}

}  // namespace moba

#include "train/options/options.h"
#include "train/tasks/task.h"
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <tuple>

namespace moba {

using CLI::IsMember;
using CLI::Range;

static void start(CLI::App& app) {
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.get_formatter()->column_width(38);
}

/* An option with its unit in place of CLI11's type name, and with our own text of its value: CLI11's versions print an
   empty list as [] or {}, and checkpoints keep what is printed. */
template <class X>
static CLI::Option* add(CLI::App& app, const char* name, X& value, const char* unit,
                        const std::string& help) {
    CLI::Option* o = app.add_option(name, value, help)->type_name(unit);
    o->default_function([&value] { return option_text(value); });
    return o->capture_default_str();
}

static CLI::Option* add_flag(CLI::App& app, const char* name, bool& value, const std::string& help) {
    CLI::Option* o = app.add_flag(name, value, help);
    o->default_function([&value] { return option_text(value); });
    return o;
}

static void add_device(CLI::App& app, std::string& device, std::string& precision) {
    add(app, "--device", device, "NAME", "cpu, gpu, or auto: a GPU where there is one")
        ->check(IsMember({"cpu", "gpu", "auto"}));
    add(app, "--precision", precision, "TYPE",
        "fp32, or bf16: activations and the weights that products read; master weights, sums and files stay "
        "fp32")
        ->check(IsMember({"fp32", "bf16"}));
}

static CLI::Option* add_no_graph(CLI::App& app, bool& value) {
    return add_flag(
        app, "--no-graph", value,
        "on a GPU, launch every operation of every step; else steps of one shape are recorded once and "
        "replayed, with the same bits");
}

// CLI11's Range lets NaN pass.
static CLI::Validator between(double lo, double hi) {
    char text[64];
    std::snprintf(text, sizeof text, "in [%g - %g]", lo, hi);
    const std::string range = text;
    return CLI::Validator(
        [=](const std::string& word) {
            char* end;
            const double x = std::strtod(word.c_str(), &end);
            return *end == 0 && x >= lo && x <= hi ? "" : "Value " + word + " not " + range;
        },
        range);
}

static CLI::Validator task_or_empty() { return IsMember(task_names()) | IsMember({""}); }

static CLI::Option* add_files(CLI::App& app, const char* name, std::vector<std::string>& files,
                              const std::string& help) {
    return add(app, name, files, "FILE,...", help)->delimiter(',')->take_all();
}

static void add_model_options(CLI::App& app, ModelOptions& m) {
    Config& c = m.config;
    const std::string attention = "Attention", model = "Model";
    auto* kind = add(app, "--attention", m.attention, "KIND", "moba or full, in every layer")
                     ->check(IsMember({"moba", "full"}));
    add(app, "--block-size", c.block_size, "TOKENS", "S, a multiple of 16")->group(attention);
    add(app, "--top-k", c.top_k, "BLOCKS", "K, blocks a query attends, its own included")->group(attention);
    auto* last = add(app, "--full-layers", m.full_layers, "LAYERS", "the last n layers use full attention")
                     ->check(Range(0, 1024));
    auto* layers = add(app, "--layers", m.layers, "PATTERN",
                       "kinds repeated over the layers: full | moba | window:W, then :rope or :none, "
                       "e.g. \"window:64:rope,moba:none\"");
    add(app, "--gate", m.gate, "GATE", "how moba layers choose: topk, recent or sink")
        ->check(IsMember({"topk", "recent", "sink"}));
    add(app, "--key-conv", c.key_conv, "TAPS", "key convolution: 0 (none), 3 or 5")
        ->check(IsMember({0, 3, 5}))
        ->group(attention);
    add(app, "--num-blocks", c.num_blocks, "SIZES",
        "mixed block sizes: head g uses block-size >> (g % m), top-k << the same")
        ->group(attention);
    for (auto* o : {kind, last, layers, app.get_option("--gate")}) { o->group(attention); }

    add(app, "--hidden-size", c.hidden_size, "CHANNELS", "C")->group(model);
    add(app, "--num-layers", c.num_layers, "LAYERS", "L")->group(model);
    add(app, "--num-heads", c.num_heads, "HEADS", "H, query heads")->group(model);
    add(app, "--head-dim", m.head_dim, "CHANNELS", "D, of a head; 0 = hidden-size / num-heads")->group(model);
    add(app, "--num-kv-heads", m.num_kv_heads, "HEADS", "G, key/value heads; 0 = num-heads")->group(model);
    add(app, "--intermediate-size", m.intermediate_size, "CHANNELS",
        "F, width of the MLP; 0 = 2 x hidden-size")
        ->group(model);
    add(app, "--rope-theta", c.rope_theta, "BASE", "base of the RoPE frequencies")->group(model);
    add(app, "--rope-scaling", m.rope_scaling, "TYPE:...",
        "linear:F (positions divided by F) or llama3:F:LOW:HIGH:ORIGINAL; empty = none")
        ->group(model);
    add_flag(app, "--tie-word-embeddings", c.tie_word_embeddings, "the output layer is the embedding")
        ->group(model);
    add(app, "--embedding-std", c.embedding_std, "STD",
        "of the normal distribution the embedding starts from")
        ->group(model);
}

void add_train_options(CLI::App& app, TrainOptions& o) {
    start(app);
    app.add_option("--config",
                   "options from a JSON file, e.g. {\"seq-len\": 256}; the command line overrides it")
        ->type_name("FILE");
    const std::string task = "Task or text", batch = "Batch and length", optimizer = "Optimizer", run = "Run";
    add(app, "--task", o.task.name, "NAME",
        "what to learn: needle, mqar, induction, copying, tracking; empty: needle, or the text of --data")
        ->check(task_or_empty())
        ->group(task);
    add(app, "--pairs", o.task.pairs, "PAIRS",
        "things to remember: pairs of needle (the target and its decoys) and mqar, tokens to copy, chains; "
        "0, here and below = the task's own (README)")
        ->group(task);
    add(app, "--questions", o.task.questions, "QUESTIONS",
        "asked in a training sample of needle and tracking, with replacement; 0 = as many as pairs in "
        "needle, one in tracking")
        ->group(task);
    add(app, "--value-tokens", o.task.value_tokens, "TOKENS", "of an answer (needle)")->group(task);
    add(app, "--hops", o.task.hops, "HOPS", "assignments behind the first of a chain (tracking)")
        ->group(task);
    add(app, "--num-keys", o.task.num_keys, "TOKENS", "alphabet of keys")->group(task);
    add(app, "--num-values", o.task.num_values, "TOKENS", "alphabet of values")->group(task);
    add(app, "--num-noise", o.task.num_noise, "TOKENS", "alphabet of noise")->group(task);
    add_files(app, "--data", o.data,
              "learn from text instead: plain files, read as bytes, or .bin shards (data/README.md)")
        ->group(task);
    add_files(app, "--val-data", o.val_data, "text to validate with; empty: the end of --data")->group(task);
    add(app, "--val-share", o.val_share, "SHARE", "of --data, from its end, to validate with")
        ->check(between(0.0, 0.9))
        ->group(task);

    add(app, "--seq-len", o.seq_len, "TOKENS", "T, length of a sample")
        ->check(Range(1, 1 << 24))
        ->group(batch);
    add(app, "--batch-size", o.batch_size, "SAMPLES", "B, in a micro-batch")
        ->check(Range(1, 1 << 20))
        ->group(batch);
    add(app, "--grad-accum", o.grad_accum, "BATCHES", "micro-batches of one optimizer step")
        ->check(Range(1, 1 << 16))
        ->group(batch);
    add_flag(app, "--recompute", o.recompute,
             "keep only each layer's input; the rest of a layer is computed again in the backward pass")
        ->group(batch);
    add(app, "--steps", o.steps, "STEPS", "optimizer steps (with a curriculum: of its last stage)")
        ->check(Range(1, 1 << 30))
        ->group(batch);
    add(app, "--epochs", o.epochs, "EPOCHS", "of --data, instead of --steps; 0 = --steps counts")
        ->check(between(0.0, 1e6))
        ->group(batch);
    add(app, "--curriculum", o.curriculum, "STAGES",
        "shorter stages first, T:pairs:batch:steps each, e.g. \"32:8:128:300,64:4:64:150\"")
        ->group(batch);
    add(app, "--stage-accuracy", o.stage_accuracy, "SHARE",
        "a stage ends early when the running accuracy passes this; 0 = never")
        ->check(between(0.0, 1.0))
        ->group(batch);

    add_model_options(app, o.model);
    add(app, "--switch", o.switch_to, "KIND@SHARE",
        "after this share of all tokens the moba and full layers become this kind, the optimizer's state "
        "kept, "
        "e.g. full@0.9")
        ->group("Attention");
    add(app, "--dropout", o.dropout, "SHARE", "of embedding and residual branches that is dropped")
        ->check(between(0.0, 0.99))
        ->group("Model");

    add(app, "--lr", o.lr.peak, "RATE", "peak learning rate")->check(between(0.0, 1e30))->group(optimizer);
    add(app, "--embedding-lr-factor", o.embedding_lr_factor, "FACTOR",
        "learning rate of the embedding, relative")
        ->check(between(0.0, 1000.0))
        ->group(optimizer);
    add(app, "--warmup", o.lr.warmup, "STEPS", "linear from 0 to the peak")
        ->check(Range(0, 1 << 30))
        ->group(optimizer);
    add(app, "--lr-schedule", o.lr_schedule, "NAME",
        "after the warm-up: cosine, wsd (constant, then linear down) or constant")
        ->check(IsMember({"cosine", "wsd", "constant"}))
        ->group(optimizer);
    add(app, "--lr-decay-steps", o.lr.decay_steps, "STEPS",
        "wsd: length of the way down; 0 = a fifth of all steps")
        ->check(Range(0, 1 << 30))
        ->group(optimizer);
    add(app, "--min-lr-ratio", o.lr.min_ratio, "SHARE", "of the peak, at the end of cosine and wsd")
        ->check(between(0.0, 1.0))
        ->group(optimizer);
    add(app, "--weight-decay", o.weight_decay, "RATE", "of matrices, scaled by the learning rate")
        ->check(between(0.0, 100.0))
        ->group(optimizer);
    add(app, "--grad-clip", o.grad_clip, "NORM", "global gradient norm is cut to this; 0 = never")
        ->check(between(0.0, 1e9))
        ->group(optimizer);
    add(app, "--beta1", o.beta1, "RATE", "AdamW")->check(between(0.0, 0.999999))->group(optimizer);
    add(app, "--beta2", o.beta2, "RATE", "AdamW")->check(between(0.0, 0.999999))->group(optimizer);

    add(app, "--seed", o.seed, "NUMBER", "of weights, data and dropout")->group(run);
    add(app, "--eval-every", o.eval_every, "STEPS", "validation; 0 = never")
        ->check(Range(0, 1 << 30))
        ->group(run);
    add(app, "--eval-samples", o.eval_samples, "SAMPLES",
        "of a validation (text: windows); 0 = 1000, or the whole text")
        ->check(Range(0, 1 << 24))
        ->group(run);
    add(app, "--save-every", o.save_every, "STEPS", "checkpoint; 0 = only at the end")
        ->check(Range(0, 1 << 30))
        ->group(run);
    add(app, "--log-every", o.log_every, "STEPS", "a line in a pipe; log.jsonl has every step")
        ->check(Range(1, 1 << 30))
        ->group(run);
    add(app, "--out", o.out, "DIR", "checkpoints and log.jsonl")->group(run);
    add_flag(app, "--resume", o.resume, "go on with the run in --out, with its settings")->group(run);
    add_no_graph(app, o.no_graph)->group(run);
    add(app, "--init-from", o.init_from, "DIR",
        "start from the weights of this model; its sizes are taken over")
        ->group(run);
    add(app, "--attention-impl", o.attention_impl, "NAME", "fast, or naive: the plain definition")
        ->check(IsMember({"fast", "naive"}))
        ->group(run);
    add_device(app, o.device, o.precision);
    for (const char* name : {"--device", "--precision"}) { app.get_option(name)->group(run); }
}

static CLI::Option* add_model_path(CLI::App& app, std::string& path) {
    return add(app, "--model", path, "DIR", "a run's folder (its latest checkpoint) or a checkpoint")
        ->required();
}

static void add_swap(CLI::App& app, std::string& attention, int& block_size, int& top_k) {
    add(app, "--attention", attention, "KIND",
        "swap the moba and full layers of the model to this kind; they share all weights")
        ->check(IsMember({"moba", "full"}));
    add(app, "--block-size", block_size, "TOKENS", "S for --attention moba; 0 = the model's")
        ->check(Range(0, 1 << 16));
    add(app, "--top-k", top_k, "BLOCKS", "K for --attention moba; 0 = the model's")
        ->check(Range(0, max_top_k));
}

void add_eval_options(CLI::App& app, EvalOptions& o) {
    start(app);
    add_model_path(app, o.model);
    add(app, "--task", o.task, "NAME", "empty: the task the model was trained on")->check(task_or_empty());
    add_files(app, "--data", o.data,
              "loss on this text; empty: what the model was validated with, or its task");
    add(app, "--seq-len", o.seq_len, "TOKENS,...", "lengths to test; empty: the length trained")
        ->delimiter(',')
        ->check(Range(1, 1 << 24))
        ->take_all();
    add(app, "--depths", o.depths, "DEPTHS",
        "parts of the sample, from its start to its end; a test places its target anywhere in one")
        ->check(Range(1, 1000));
    add(app, "--samples", o.samples, "SAMPLES", "for each length and depth")->check(Range(1, 1 << 24));
    add(app, "--windows", o.windows, "WINDOWS", "of a text, evenly over it; 0 = all")
        ->check(Range(0, 1 << 30));
    add(app, "--seed", o.seed, "NUMBER", "of the samples; its stream is not the training's");
    add_swap(app, o.attention, o.block_size, o.top_k);
    add(app, "--batch-tokens", o.batch_tokens, "TOKENS", "worked on at once (memory)")
        ->check(Range(1, 1 << 28));
    add_flag(app, "--router", o.router,
             "also the share of queries that chose their answer's block, by layer and head, beside what the "
             "gate's signal-to-noise ratio predicts (keeps all layers in memory)");
    add(app, "--json", o.json, "FILE", "all figures as JSON");
    add_device(app, o.device, o.precision);
}

void add_sample_options(CLI::App& app, SampleOptions& o) {
    start(app);
    add_model_path(app, o.model);
    auto* text =
        add(app, "--prompt", o.prompt, "TEXT",
            "text, or token names of the task, e.g. \"k3 v5 n1 k3\"; empty: a new document, or a test of the "
            "task, drawn by --seed");
    add(app, "--prompt-ids", o.prompt_ids, "ID,...", "the prompt as token ids")
        ->delimiter(',')
        ->take_all()
        ->excludes(text);
    add(app, "--max-new-tokens", o.max_new_tokens, "TOKENS", "0: as many as the task's answer has, else 32")
        ->check(Range(0, 1 << 24));
    add(app, "--temperature", o.temperature, "T", "0: greedy")->check(between(0.0, 1000.0));
    add(app, "--sample-top-k", o.top_k, "TOKENS", "draw among the k likeliest; 0 = all")
        ->check(Range(0, 1 << 24));
    add(app, "--sample-top-p", o.top_p, "SHARE", "draw among the fewest tokens that hold this probability")
        ->check(between(0.0, 1.0));
    add(app, "--repetition-penalty", o.repetition_penalty, "FACTOR",
        "on the logits of tokens already there; 1 = none")
        ->check(between(0.01, 100.0));
    add(app, "--seed", o.seed, "NUMBER", "of the draws");
    add_swap(app, o.attention, o.block_size, o.moba_top_k);
    auto* decode = add(app, "--decode-attention", o.decode_attention, "KIND",
                       "how new tokens attend, the prompt as --attention says; empty: as the prompt")
                       ->check(IsMember({"moba", "full"}));
    add_flag(app, "--no-cache", o.no_cache,
             "compute the whole context for every token (the same tokens, slowly)")
        ->excludes(decode);
    add(app, "--logits", o.logits, "FILE", "the prompt's logits, (tokens, vocabulary), as safetensors");
    add_device(app, o.device, o.precision);
}

void add_bench_options(CLI::App& app, BenchOptions& o) {
    start(app);
    add(app, "what", o.what, "WHAT",
        "attention: MoBA against full; step: a training step; decode: a token behind --seq-len others; op: "
        "every operation")
        ->check(IsMember({"attention", "step", "decode", "op"}));
    add(app, "op,--op", o.op, "NAME",
        "only operations whose names hold this (op); linear: every version of it on a GPU");
    add(app, "--kernel-version", o.kernel_version, "N",
        "of the numbered kernels; 0: the best, all: a row for each that fits (attention, op)")
        ->check(Range(0, max_kernel_version) | IsMember({"all"}));
    add(app, "--seq-len", o.seq_len, "TOKENS", "T")->check(Range(1, 1 << 24));
    add(app, "--batch-size", o.batch, "SEQUENCES", "B")->check(Range(1, 1 << 16));
    add(app, "--num-heads", o.heads, "HEADS", "H")->check(Range(1, 1024));
    add(app, "--num-kv-heads", o.kv_heads, "HEADS", "G; 0 = num-heads")->check(Range(0, 1024));
    add(app, "--head-dim", o.head_dim, "CHANNELS", "D (attention, op)")->check(Range(2, 1024));
    add(app, "--block-size", o.block_size, "TOKENS", "S")->check(Range(1, 1 << 16));
    add(app, "--top-k", o.top_k, "BLOCKS", "K")->check(Range(1, max_top_k));
    add(app, "--window", o.window, "TOKENS", "also attention within a window; 0 = not (attention, op)")
        ->check(Range(0, 1 << 24));
    add(app, "--hidden-size", o.hidden, "CHANNELS", "C (step, decode, op)")->check(Range(1, 1 << 16));
    add(app, "--intermediate-size", o.intermediate, "CHANNELS",
        "F (step, decode, op); 0 = 11/4 x hidden-size")
        ->check(Range(0, 1 << 18));
    add(app, "--num-layers", o.layers, "LAYERS", "L (step, decode)")->check(Range(1, 1024));
    add(app, "--vocab-size", o.vocab, "TOKENS", "V (step, decode, op)")->check(Range(1, 1 << 24));
    add(app, "--attention-impl", o.attention_impl, "NAME", "fast, or naive: the plain definition")
        ->check(IsMember({"fast", "naive"}));
    add(app, "--repeats", o.repeats, "RUNS", "timed, after one that is not; the median counts")
        ->check(Range(1, 100000));
    add_flag(app, "--profile", o.profile,
             "also the time of each operation within the step, one at a time, and launches (step)");
    add_no_graph(app, o.no_graph);
    add(app, "--json", o.json, "FILE", "all figures as JSON");
    add_device(app, o.device, o.precision);
}

void add_compare_options(CLI::App& app, CompareOptions& o) {
    start(app);
    add(app, "--config", o.config, "FILE",
        "variants, tasks, seeds, lengths: compare_plan.h tells what it may hold");
    add(app, "--out", o.out, "DIR",
        "runs, results.jsonl and report.html; what is done there already is not done again");
    add(app, "--seeds", o.seeds, "SEEDS", "runs of each variant, with seeds 1, 2, ...; 0 = as the file says")
        ->check(Range(0, 1000));
    add(app, "--switch", o.switch_to, "KIND@SHARE",
        "one more variant: the first with moba layers, which become this kind after this share of the "
        "tokens, "
        "e.g. full@0.9");
    add_flag(app, "--dry-run", o.dry_run, "only check everything, and print the commands");
    add_device(app, o.device, o.precision);
}

void add_info_options(CLI::App& app, InfoOptions& o) {
    start(app);
    add_model_path(app, o.model);
}

void add_inspect_options(CLI::App& app, InspectOptions& o) {
    start(app);
    add_model_path(app, o.model);
    auto* text = add(app, "--prompt", o.prompt, "TEXT",
                     "text, or token names of the task, e.g. \"k3 v5 n1 k3\"; empty: a test of the task");
    auto* ids = add(app, "--prompt-ids", o.prompt_ids, "ID,...", "the prompt as token ids")
                    ->delimiter(',')
                    ->take_all()
                    ->excludes(text);
    auto* task = add(app, "--task", o.task, "NAME", "of the test; empty: the task the model was trained on")
                     ->check(task_or_empty());
    auto* length = add(app, "--seq-len", o.seq_len, "TOKENS",
                       "T of the test, its answer included; 0 = the length trained")
                       ->check(Range(0, 1 << 20));
    auto* depth = add(app, "--depth", o.depth, "SHARE",
                      "where the test tells its answer, 0 = at the start, 1 = at the end")
                      ->check(between(0.0, 1.0))
                      ->default_str("drawn");
    for (auto* of_test : {task, length, depth}) { of_test->excludes(text)->excludes(ids); }
    add(app, "--seed", o.seed, "NUMBER", "of the test");
    for (auto [name, list, help] :
         {std::tuple{"--layer", &o.layers, "layers to show, from 0; empty: all"},
          std::tuple{"--head", &o.heads, "query heads to show, from 0; empty: all"}}) {
        add(app, name, *list, "NUMBER,...", help)->delimiter(',')->check(Range(0, 1 << 16))->take_all();
    }
    add_swap(app, o.attention, o.block_size, o.top_k);
    add(app, "--out", o.out, "FILE", "the page, HTML that needs no network");
    add(app, "--json", o.json, "FILE", "every query's choice, scores and weights");
    add_device(app, o.device, o.precision);
}

}  // namespace moba

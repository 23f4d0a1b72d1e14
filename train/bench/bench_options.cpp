#include "train/bench/bench_options.h"
#include "train/options/option_builder.h"

namespace moba {

void add_bench_options(CLI::App& app, BenchOptions& o) {
    start_options(app);
    add(app, "what", o.what, "WHAT",
        "attention: MoBA against full attention. step: a training step. decode: one more token, with "
        "--seq-len "
        "tokens in the cache. op: every operation.")
        ->check(one_of({"attention", "step", "decode", "op"}));
    add(app, "op,--op", o.op, "NAME",
        "With op: only operations whose names contain this. linear: every version of it on a GPU.");
    add(app, "--kernel-version", o.kernel_version, "N",
        "Version of the numbered kernels (attention, op). 0: the best. all: a row for each that fits.")
        ->check(whole(0, max_kernel_version) | one_of({"all"}));
    add(app, "--seq-len", o.seq_len, "TOKENS", "Length T of a sequence.")->check(whole(1, most_tokens));
    add(app, "--batch-size", o.batch, "SEQUENCES", "Sequences B (attention, step, op).")
        ->check(whole(1, 1 << 16));
    add(app, "--num-heads", o.heads, "HEADS", "Query heads H.")->check(whole(1, 1024));
    add(app, "--num-kv-heads", o.kv_heads, "HEADS", "Key/value heads G. 0: num-heads.")
        ->check(whole(0, 1024));
    add(app, "--head-dim", o.head_dim, "CHANNELS", "Width D of a head (attention, op).")
        ->check(whole(2, 1024));
    add(app, "--block-size", o.block_size, "TOKENS", "Block size S.")->check(whole(1, 1 << 16));
    add(app, "--top-k", o.top_k, "BLOCKS", "Blocks K that a query attends.")->check(whole(1, max_top_k));
    add(app, "--attention", o.attention, "KIND",
        "moba or full: time this kind alone (attention, step, decode). Empty: both.")
        ->check(one_of({"", "moba", "full"}));
    add(app, "--window", o.window, "TOKENS",
        "Also time attention within a window of this length (attention, op). 0: do not.")
        ->check(whole(0, most_tokens));
    add(app, "--hidden-size", o.hidden, "CHANNELS", "Model width C (step, decode, op).")
        ->check(whole(1, 1 << 16));
    add(app, "--intermediate-size", o.intermediate, "CHANNELS",
        "MLP width F (step, decode, op). 0: 11/4 x hidden-size.")
        ->check(whole(0, 1 << 18));
    add(app, "--num-layers", o.layers, "LAYERS", "Layers L (step, decode).")->check(whole(1, 1024));
    add(app, "--vocab-size", o.vocab, "TOKENS", "Vocabulary size V (step, decode, op).")
        ->check(whole(1, most_tokens));
    add(app, "--repeats", o.repeats, "RUNS",
        "Timed runs, after one that is not timed. The median is printed.")
        ->check(whole(1, 100000));
    add_flag(app, "--profile", o.profile,
             "step: also the time of each operation, run one at a time, and the number of launches.");
    add_attention_impl(app, o.attention_impl);
    add_no_graph(app, o.no_graph);
    add(app, "--json", o.json, "FILE", "Write all figures to this file, as JSON.");
    add_device(app, o.device, o.precision);
}

void check_heads(const BenchOptions& o) {
    if (o.heads % kv_heads(o)) {
        throw Error("--num-heads " + std::to_string(o.heads) + ": must be a multiple of --num-kv-heads " +
                    std::to_string(kv_heads(o)));
    }
}

}  // namespace moba

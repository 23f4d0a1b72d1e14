#include "train/lab/cards.h"
#include "train/lab/lab.h"
#include "train/options/option_builder.h"

namespace moba {

void add_lab_options(CLI::App& app, LabOptions& o) {
    BenchOptions& b = o.bench;
    b.op = "norm", b.precision = "bf16", b.device = "gpu";
    b.seq_len = 1024, b.heads = 2;
    start_options(app);
    add(app, "op,--op", b.op, "NAME", "Operations whose names contain this; all: every operation.");
    add(app, "--kernel-version", b.kernel_version, "N",
        "Version of the numbered kernels. 0: the best. all: each that fits.")
        ->check(whole(0, max_kernel_version) | one_of({"all"}));
    add(app, "--card", o.card, "NAME", "The GPU for occupancy, caches and times: " + lab_card_names() + ".")
        ->check(one_of(lab_card_ids()));
    add(app, "--blocks", o.blocks, "BLOCKS",
        "Count only so many thread blocks of each launch, from its middle, and scale. 0: all.")
        ->check(whole(0, 1 << 30));
    add(app, "--lines", o.lines, "LINES",
        "Lines of source to print for each kernel, the most expensive first.")
        ->check(whole(0, 10000));
    add(app, "--html", o.html, "FILE", "Write a page with the annotated source.");
    add(app, "--json", o.json, "FILE", "Write all counts to this file, as JSON.");
    add_flag(app, "--table", o.table, "Print one line for each kernel, exact counts only.");
    add(app, "--precision", b.precision, "TYPE", "fp32 or bf16.")->check(one_of({"fp32", "bf16"}));
    group(app, "Sizes");
    add(app, "--seq-len", b.seq_len, "TOKENS", "Length T of a sequence.")->check(whole(1, most_tokens));
    add(app, "--batch-size", b.batch, "SEQUENCES", "Sequences B.")->check(whole(1, 1 << 16));
    add(app, "--num-heads", b.heads, "HEADS", "Query heads H.")->check(whole(1, 1024));
    add(app, "--num-kv-heads", b.kv_heads, "HEADS", "Key/value heads G. 0: num-heads.")
        ->check(whole(0, 1024));
    add(app, "--head-dim", b.head_dim, "CHANNELS", "Width D of a head.")->check(whole(2, 1024));
    add(app, "--block-size", b.block_size, "TOKENS", "Block size S.")->check(whole(1, 1 << 16));
    add(app, "--top-k", b.top_k, "BLOCKS", "Blocks K that a query attends.")->check(whole(1, max_top_k));
    add(app, "--window", b.window, "TOKENS", "Also attention within a window of this length. 0: not.")
        ->check(whole(0, most_tokens));
    add(app, "--hidden-size", b.hidden, "CHANNELS", "Model width C.")->check(whole(1, 1 << 16));
    add(app, "--intermediate-size", b.intermediate, "CHANNELS", "MLP width F. 0: 11/4 x hidden-size.")
        ->check(whole(0, 1 << 18));
    add(app, "--vocab-size", b.vocab, "TOKENS", "Vocabulary size V.")->check(whole(1, most_tokens));
}

}  // namespace moba

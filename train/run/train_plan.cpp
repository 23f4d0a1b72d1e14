#include "train/run/train_plan.h"
#include "train/run/share.h"
#include <algorithm>

namespace moba {

namespace {

/* The model of --init-from: its sizes, and its attention where no option changes it. */
Config config_from_model(const TrainOptions& o, const Data& data, const ModelFolder& model) {
    const Config& loaded = model.config;
    for (const char* size :
         {"size", "hidden-size", "num-layers", "num-heads", "num-kv-heads", "head-dim", "intermediate-size",
          "tie-word-embeddings", "key-conv", "rope-theta", "embedding-std"}) {
        if (o.has(size)) {
            throw Error(std::string("--") + size + " cannot go with --init-from: the model there decides it");
        }
    }
    data.check_model_tokenizer(model.tokenizer);
    if (loaded.vocab_size < data.vocab_size()) {
        throw Error("--init-from " + o.init_from + ": its vocabulary has " +
                    std::to_string(loaded.vocab_size) + " tokens, the data needs " +
                    std::to_string(data.vocab_size()));
    }
    TrainOptions own = o;
    Config& c = own.model.config;
    const Config options = c;
    c = loaded;
    c.block_size = options.block_size, c.top_k = options.top_k;  // by default the model's, see presets.h
    if (o.has("num-blocks")) { c.num_block_sizes = options.num_block_sizes; }
    own.model.num_kv_heads = loaded.num_kv_heads;
    own.model.head_dim = loaded.head_dim;
    own.model.intermediate_size = loaded.intermediate_size;
    if (o.has("shared-gate")) { c.shared_gate = options.shared_gate; }
    if (!o.has("gate")) { own.model.gate = gate_name(loaded.gate); }
    if (!o.has("attention") && !o.has("layers") && !o.has("full-layers")) {
        own.model.layers = layer_names(loaded, ",");
    }
    Config made = make_config(own, loaded.vocab_size);
    made.max_position_embeddings = std::max(made.max_position_embeddings, loaded.max_position_embeddings);
    return made;
}

// Optimizer steps for --epochs passes over the data.
int steps_for(const TrainOptions& o, const Data& data) {
    const double samples = o.epochs * (double)data.samples_per_epoch(o.seq_len);
    const double steps = std::ceil(samples / ((double)o.batch_size * o.grad_accum));
    if (steps > 1 << 30) { throw Error("--epochs: more than 2^30 steps"); }
    return (int)std::max(1.0, steps);
}

}  // namespace

Config training_config(const TrainCommand& c, const Data& data, const std::optional<ModelFolder>& init) {
    if (c.resumed) { return c.resumed->folder.config; }
    return init ? config_from_model(c.options, data, *init) : make_config(c.options, data.vocab_size());
}

std::vector<Stage> training_stages(const TrainOptions& o, const Data& data) {
    std::vector<Stage> stages = parse_curriculum(o.curriculum);
    stages.push_back({o.seq_len, o.task.pairs, o.batch_size, o.steps});
    for (const Stage& s : stages) {
        data.check(s);
        if ((double)s.T * s.batch > 1 << 30) {
            throw Error("a micro-batch of more than 2^30 tokens: use --grad-accum");
        }
    }
    if (o.epochs > 0) { stages.back().steps = steps_for(o, data); }
    long steps = 0;
    for (const Stage& s : stages) { steps += s.steps; }
    if (steps > 1 << 30) { throw Error("more than 2^30 steps in all"); }
    return stages;
}

ModelSizes training_sizes(const TrainOptions& o, const Data& data, const std::vector<Stage>& stages,
                          int groups) {
    ModelSizes sizes{.training = true,
                     .recompute = o.recompute,
                     .dropout = (float)o.dropout,
                     .attention_kernel_version = o.attention_impl == "naive" ? 1 : 0,
                     .full_too = o.full_every > 0,
                     .context = o.context_parallel};
    for (Stage s : stages) {
        s.batch = most_samples(s.batch, groups);
        sizes.max_tokens = std::max(sizes.max_tokens, s.T * s.batch);
        sizes.max_seqs = std::max(sizes.max_seqs, data.max_sequences(s));
        sizes.max_position = std::max(sizes.max_position, s.T);
    }
    return sizes;
}

}  // namespace moba

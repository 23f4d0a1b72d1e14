// The model that options describe, and how its attention is swapped.
#include "moba/core/decimal.h"
#include "train/options/options.h"
#include <algorithm>

namespace moba {

Config make_config(const TrainOptions& o, int vocab_size) {
    Config c = o.model.config;
    c.vocab_size = vocab_size;
    if (c.num_layers < 1 || c.num_layers > 1024 || c.hidden_size < 1 || c.hidden_size > 1 << 20) {
        validate(c);
    }
    c.num_kv_heads = o.model.num_kv_heads ? o.model.num_kv_heads : c.num_heads;
    c.intermediate_size = o.model.intermediate_size ? o.model.intermediate_size : 2 * c.hidden_size;
    if (o.model.head_dim == 0 && (c.num_heads < 1 || c.hidden_size % c.num_heads != 0)) {
        throw Error("hidden-size = " + std::to_string(c.hidden_size) +
                    ": must be a multiple of num-heads = " + std::to_string(c.num_heads));
    }
    c.head_dim = o.model.head_dim ? o.model.head_dim : c.hidden_size / c.num_heads;
    c.max_position_embeddings = o.seq_len;
    c.gate = parse_gate(o.model.gate);
    if (!o.model.rope_scaling.empty()) { c.rope_scaling = parse_rope_scaling(o.model.rope_scaling); }
    if (!o.model.layers.empty() && (o.model.attention != "moba" || o.model.full_layers)) {
        throw Error(
            "--layers names the kind of every layer; --attention and --full-layers cannot go with it");
    }
    c.layers = parse_layers(o.model.layers.empty() ? o.model.attention : o.model.layers, c.num_layers);
    if (o.model.full_layers > c.num_layers) {
        throw Error("full-layers = " + std::to_string(o.model.full_layers) + ": the model has " +
                    std::to_string(c.num_layers) + " layers");
    }
    for (int i = 0; i < o.model.full_layers; i++) {
        c.layers[c.num_layers - 1 - i].attention = AttentionKind::full;
    }
    validate(c);
    return c;
}

Switch parse_switch(const std::string& text) {
    if (text.empty()) { return {}; }
    const size_t at = text.find('@');
    Switch s{text.substr(0, at), -1};
    const std::string share = at == std::string::npos ? "" : text.substr(at + 1);
    s.share = parse_decimal(share).value_or(-1);
    if ((s.attention != "moba" && s.attention != "full") || !(s.share > 0 && s.share < 1)) {
        throw Error("--switch " + text + ": must be full@SHARE or moba@SHARE, a share between 0 and 1");
    }
    return s;
}

Config switched(Config c, const Switch& s) {
    const bool moba = s.attention == "moba";
    swap_attention(c, s.attention, moba ? c.block_size : 0, moba ? c.top_k : 0);
    return c;
}

bool is_switched(const Config& c, const Switch& s) {
    return !c.has(s.attention == "full" ? AttentionKind::moba : AttentionKind::full);
}

void swap_attention(Config& c, const std::string& attention, int block_size, int top_k) {
    if ((block_size || top_k) && attention != "moba") {
        throw Error("--block-size and --top-k go with --attention moba");
    }
    if (attention.empty()) { return; }
    const bool moba = attention == "moba";
    bool trained = false;
    for (LayerKind& k : c.layers) {
        trained |= k.attention == AttentionKind::moba;
        if (k.attention != AttentionKind::window) {
            k.attention = moba ? AttentionKind::moba : AttentionKind::full;
        }
    }
    if (moba && !trained && (!block_size || !top_k)) {
        throw Error("--attention moba: the model was trained with full attention only, so --block-size and "
                    "--top-k must be given");
    }
    if (block_size) { c.block_size = block_size; }
    if (top_k) { c.top_k = top_k; }
    validate(c);
}

void rescale(Config& c, const std::string& rope_scaling) {
    if (rope_scaling.empty()) { return; }
    c.rope_scaling = parse_rope_scaling(rope_scaling);
    validate(c);
}

}  // namespace moba

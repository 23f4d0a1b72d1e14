#include "moba/params.h"

namespace moba {

namespace {

template <class X, class F>
void each_param(const Config& c, Params<X>& p, F f) {
    const int C = c.hidden_size, HD = c.num_heads * c.head_dim, GD = c.num_kv_heads * c.head_dim,
              F_ = c.intermediate_size;
    p.layers.resize(c.num_layers);
    f(p.embed, "model.embed_tokens.weight", {c.vocab_size, C}, Init::embedding);
    for (int l = 0; l < c.num_layers; l++) {
        const std::string at = "model.layers." + std::to_string(l) + ".";
        LayerParams<X>& w = p.layers[l];
        f(w.norm1, at + "input_layernorm.weight", {C}, Init::ones);
        f(w.q, at + "self_attn.q_proj.weight", {HD, C}, Init::uniform);
        f(w.k, at + "self_attn.k_proj.weight", {GD, C}, Init::uniform);
        f(w.v, at + "self_attn.v_proj.weight", {GD, C}, Init::uniform);
        f(w.o, at + "self_attn.o_proj.weight", {C, HD}, Init::uniform);
        if (c.has_key_conv(l)) {
            f(w.k_conv, at + "self_attn.k_conv.weight", {GD, c.key_conv}, Init::uniform);
        }
        f(w.norm2, at + "post_attention_layernorm.weight", {C}, Init::ones);
        f(w.gate, at + "mlp.gate_proj.weight", {F_, C}, Init::uniform);
        f(w.up, at + "mlp.up_proj.weight", {F_, C}, Init::uniform);
        f(w.down, at + "mlp.down_proj.weight", {C, F_}, Init::uniform);
    }
    f(p.norm, "model.norm.weight", {C}, Init::ones);
    if (c.tie_word_embeddings) {
        p.head = p.embed;
    } else {
        f(p.head, "lm_head.weight", {c.vocab_size, C}, Init::uniform);
    }
}

// Whether a weight is read together with the one before it, as one matrix.
bool joins_previous(const std::string& name) {
    for (const char* end : {"k_proj.weight", "v_proj.weight", "up_proj.weight"}) {
        if (name.ends_with(end)) { return true; }
    }
    return false;
}

bool begins_bucket(const std::string& name) {
    return name.ends_with("input_layernorm.weight") || name == "model.norm.weight";
}

}  // namespace

ParamList list_params(const Config& config, int ranks) {
    constexpr size_t aligned = 64;  // elements
    ParamList list{};
    std::vector<size_t> begins = {0};  // of the buckets
    Params<float> unused;
    each_param(
        config, unused, [&](float*&, const std::string& name, const std::vector<int>& shape, Init init) {
            const bool decay = init != Init::ones;  // not for the scales of the norms
            size_t count = 1;
            for (int n : shape) { count *= n; }
            if (!joins_previous(name)) { list.elements = round_up(list.elements, aligned); }
            if (ranks > 1 && begins_bucket(name)) {
                list.elements = round_up(list.elements, aligned * ranks);
                begins.push_back(list.elements);
            }
            list.params.push_back({name, shape, init, decay, init == Init::embedding, list.elements, count});
            list.elements += count;
        });
    list.elements = round_up(list.elements, aligned * ranks);
    begins.push_back(list.elements);
    for (size_t b = 0; b + 1 < begins.size(); b++) {
        const size_t slice = (begins[b + 1] - begins[b]) / ranks;
        list.buckets.push_back({begins[b], slice, list.owned});
        list.owned += slice;
    }
    return list;
}

template <class X>
void point_params(const Config& config, const std::vector<ParamInfo>& params, Params<X>& p, X* base) {
    size_t i = 0;
    each_param(config, p, [&](X*& pointer, const std::string&, const std::vector<int>&, Init) {
        pointer = base ? base + params[i].begin : nullptr;
        i++;
    });
}

INSTANTIATE_AND_DOUBLE(point_params)

}  // namespace moba

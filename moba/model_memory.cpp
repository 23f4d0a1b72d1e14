/* What a model takes of memory: the plan of every tensor, the workspace, and what is said when it does not
   fit. */
#include "moba/model.h"
#include <algorithm>

namespace moba {

template <class E>
size_t Model<E>::workspace_needed() const {
    const Config& c = config_;
    const int M = sizes_.max_tokens, C = c.hidden_size, HD = width_q(), GD = width_kv();
    size_t most = 0;
    const auto need = [&](size_t bytes) { most = std::max(most, bytes); };
    for (const LinearShape& s : {LinearShape{M, C, HD + 2 * GD},
                                 {M, HD, C},
                                 {M, C, 2 * c.intermediate_size},
                                 {M, c.intermediate_size, C},
                                 {chunk_tokens_, C, c.vocab_size}}) {
        need(workspaces_->linear(s));
    }
    if (sizes_.training) {
        need(workspaces_->embedding({M, C, c.vocab_size}));
        need(workspaces_->norm({M, C, 0}));
        need(c.key_conv ? workspaces_->key_conv({M, GD, c.key_conv}) : 0);
    }
    if (context_) {
        need(context_->workspace_bytes(*workspaces_));
        return most;
    }
    for (int l = 0; l < c.num_layers; l++) {
        const AttentionShape s = c.attention_shape(l);
        if (is_short(l)) { need(workspaces_->decode(cache_shape(), s)); }
        if (s.kind == AttentionKind::moba && !is_short(l)) {
            need(workspaces_->gate(M, sizes_.max_seqs, c.block_sizes(), s.gate));
            need(workspaces_->gate_lists(M, sizes_.max_seqs, c.block_sizes(), s.gate));
        }
        for (AttentionKind kind : {s.kind, AttentionKind::full, AttentionKind::moba}) {
            AttentionShape decoding = s;
            decoding.kind = kind;
            need(sizes_.cache_tokens ? workspaces_->decode(cache_shape(), decoding) : 0);
        }
        if (is_short(l)) { continue; }
        std::vector<AttentionShape> kinds = {s};
        if (sizes_.full_too && s.kind == AttentionKind::moba) {
            kinds.push_back(s), kinds.back().kind = AttentionKind::full;
        }
        for (const AttentionShape& kind : kinds) {
            need(ctx_.device == Device::cpu && sizes_.attention_kernel_version == 1
                     ? naive_attention_workspace_bytes<E>(M, kind)
                     : workspaces_->attention(M, sizes_.max_seqs, c.block_sizes(), kind,
                                              sizes_.training ? Direction::backward : Direction::forward));
        }
    }
    return most;
}

template <class E>
void Model<E>::plan() {
    probes_.clear();
    plan_weights();
    plan_activations();
    plan_cache();
    if (sizes_.training) { plan_gradients(); }
    plan_tables();
    ctx_.workspace = workspace_.template take<char>("workspace", workspace_bytes_);
    ctx_.workspace_bytes = workspace_bytes_;
}

template <class E>
void Model<E>::plan_weights() {
    const bool rounded = !std::is_same_v<A, E>;
    w_ = weights_.template take<A>("weights", rounded ? owned_elements_ : param_elements_);
    if (rounded) {
        w_compute_ = weights_.template take<E>("weights as the kernels read them", param_elements_);
    }
    point_params(config_, params_, weight_, w_compute_ ? w_compute_ : (E*)w_);
    if (!sizes_.training) { return; }
    g_ = gradients_.template take<A>("gradients", param_elements_);
    if (ranks_ > 1 && !comm_->reduces_in_place()) {
        size_t largest = 0;
        for (const Bucket& b : buckets_) { largest = std::max(largest, b.slice); }
        received_ = gradients_.template take<A>("gradients of other ranks", ranks_ * largest);
    }
    square_sums_ = gradients_.template take<double>("sums of squares", ranks_ * bucket_sums_);
    m_ = moments_.template take<A>("first moment", owned_elements_);
    v_ = moments_.template take<A>("second moment", owned_elements_);
    point_params(config_, params_, gradient_, g_);
}

template <class E>
E* Model<E>::activation(const std::string& name, size_t width) {
    const size_t count = sizes_.max_tokens * width;
    E* p = activations_.template take<E>(name, count);
    probes_.push_back({name, p, count, false});
    return p;
}
template <class E>
acc_t<E>* Model<E>::statistic(const std::string& name, size_t width) {
    const size_t count = sizes_.max_tokens * width;
    A* p = activations_.template take<A>(name, count);
    probes_.push_back({name, p, count, true});
    return p;
}

template <class E>
void Model<E>::plan_activations() {
    const Config& c = config_;
    const size_t M = sizes_.max_tokens, C = c.hidden_size;
    state_.resize(c.num_layers);
    E* x = activation("embedding", C);
    for (int l = 0; l < c.num_layers; l++) {
        plan_layer(l, x);
        plan_routing(l);
        if (sizes_.training) { x = activation("layers." + std::to_string(l) + ".out", C); }
    }
    if (context_) { context_->plan(activations_); }
    final_x_ = x;
    final_norm_ = activation("final norm", C);
    final_rstd_ = statistic("final norm.rstd", 1);
    residual_branch_ = activation("branch", C);
    qkv_ = activations_.template take<E>("q, k and v of one product", M * (width_q() + 2 * width_kv()));
    logits_ = activations_.template take<A>("logits of a chunk", (size_t)chunk_tokens_ * c.vocab_size);
    losses_ = statistic("losses", 1);
    const bool chooses = c.layers.back().attention == AttentionKind::moba && has_scores(c.gate);
    if (sizes_.asked_only && !sizes_.cache_tokens && chooses) {
        means_ = activations_.template take<A>("block means", cache_shape().first_mean(c.num_kv_heads));
    }
}

/* In inference, and with recompute, all layers share one set of tensors. */
template <class E>
void Model<E>::plan_layer(int l, E* x) {
    const Config& c = config_;
    const bool shared = !sizes_.training || sizes_.recompute;
    LayerState& s = state_[l];
    if (shared && l > 0) {
        const Routing routing = s.routing;
        s = state_[0];
        s.routing = routing;
        s.x = x;
        return;
    }
    bool conv = c.has_key_conv(l);
    for (int i = 0; shared && i < c.num_layers; i++) { conv |= c.has_key_conv(i); }
    const std::string at = shared ? "" : "layers." + std::to_string(l) + ".";
    const size_t C = c.hidden_size, F = c.intermediate_size, probes = probes_.size();
    s.x = x;
    s.norm1 = activation(at + "norm1", C);
    s.rstd1 = statistic(at + "norm1.rstd", 1);
    s.q = activation(at + "q", width_q());
    s.k_raw = activation(at + "k", width_kv());
    s.k = conv ? activation(at + "k_conv", width_kv()) : s.k_raw;
    s.v = activation(at + "v", width_kv());
    s.attn = activation(at + "attention", width_q());
    s.lse = statistic(at + "attention.lse", c.num_heads);
    s.after_attention = sizes_.training ? activation(at + "after attention", C) : x;
    s.norm2 = activation(at + "norm2", C);
    s.rstd2 = statistic(at + "norm2.rstd", 1);
    s.gate_up = activation(at + "mlp.gate and up", 2 * F);
    s.act = activation(at + "mlp.act", F);
    // With recompute they belong to no single layer, so first_not_finite() could not name one.
    if (sizes_.recompute) { probes_.resize(probes); }
}

/* The block choice: of each layer in training, also with recompute; in inference all layers share the first
   one's. */
template <class E>
void Model<E>::plan_routing(int l) {
    const Config& c = config_;
    const bool train = sizes_.training;
    Routing& r = state_[l].routing;
    if (!train && l > 0) {
        r = state_[0].routing;
        return;
    }
    r = {};
    bool needed = false;
    if (context_) { return; }
    for (int i = train ? l : 0; i < (train ? l + 1 : c.num_layers); i++) {
        needed |= c.layers[i].attention == AttentionKind::moba && !is_short(i);
    }
    if (!needed) { return; }
    const std::string layer = train ? "layers." + std::to_string(l) + "." : "";
    const GateShape gate = c.attention_shape(l).gate;
    const size_t slots = routing_slots(sizes_.max_tokens, c.block_sizes(), gate);
    r.chosen = activations_.template take<int>(layer + "chosen blocks", slots);
    r.list = activations_.template take<int>(layer + "query lists", slots);
    r.list_start = activations_.template take<int>(
        layer + "list starts", routing_starts(sizes_.max_tokens, sizes_.max_seqs, c.block_sizes(), gate));
}

template <class E>
void Model<E>::plan_cache() {
    cache_.assign(sizes_.cache_tokens ? config_.num_layers : 0, {});
    for (int l = 0; l < (int)cache_.size(); l++) {
        const std::string at = "layers." + std::to_string(l) + ".";
        const size_t elements = (size_t)sizes_.cache_tokens * width_kv();
        Cache& c = cache_[l];
        c.k = kv_cache_.template take<E>(at + "keys", elements);
        c.v = kv_cache_.template take<E>(at + "values", elements);
        if (config_.has_key_conv(l)) {
            c.k_raw = kv_cache_.template take<E>(at + "keys before convolution", elements);
        }
        c.means =
            kv_cache_.template take<A>(at + "block means", cache_shape().first_mean(config_.num_kv_heads));
    }
}

template <class E>
void Model<E>::plan_gradients() {
    const Config& c = config_;
    const size_t C = c.hidden_size;
    const auto gradient = [&](const char* name, size_t width) {
        return backward_.template take<E>(name, sizes_.max_tokens * width);
    };
    dx_ = gradient("d residual", C);
    dbranch_ = sizes_.dropout > 0 ? gradient("d branch", C) : dx_;
    dnorm_ = gradient("d norm", C);
    dattn_ = gradient("d attention", width_q());
    delta_ = backward_.template take<A>("d attention.delta", sizes_.max_tokens * (size_t)c.num_heads);
    dq_ = gradient("dq", width_q());
    dk_ = gradient("dk", width_kv());
    dk_raw_ = c.key_conv ? gradient("dk before convolution", width_kv()) : dk_;
    dv_ = gradient("dv", width_kv());
    dact_ = gradient("d mlp", c.intermediate_size);
    dlogits_ = std::is_same_v<A, E>
                   ? (E*)logits_
                   : backward_.template take<E>("d logits", (size_t)chunk_tokens_ * c.vocab_size);
    sums_ = backward_.template take<double>("sums of losses, gradient norm", 3);
    norm_ = sums_ ? (A*)(sums_ + 2) : nullptr;
}

template <class E>
void Model<E>::plan_tables() {
    const size_t M = sizes_.max_tokens;
    tokens_ = tables_.template take<int>("tokens", M);
    if (ranks_ > 1 && sizes_.dropout > 0) {
        token_numbers_ = tables_.template take<int>("numbers of tokens", M);
    }
    counted_rows_ = tables_.template take<int>("counted tokens", M);
    targets_ = tables_.template take<int>("targets", M);
    correct_ = tables_.template take<int>("correct", M);
    seq_table_ = tables_.template take<int>("sequences and blocks", seq_capacity_);
    rope_table_ =
        tables_.template take<A>("rope angles", rope_table_size(sizes_.max_position, config_.head_dim));
    step_ = tables_.template take<StepState>("step", 1);
    ranges_ = tables_.template take<ParamRange>("weight ranges", params_.size());
}

template <class E>
std::vector<const Arena*> Model<E>::arenas() const {
    return {&weights_, &gradients_, &moments_, &activations_, &backward_, &kv_cache_, &tables_, &workspace_};
}

template <class E>
std::vector<typename Model<E>::List> Model<E>::lists() const {
    std::vector<List> out;
    for (const Arena* a : arenas()) {
        if (a->bytes()) { out.push_back({a->list(), a->bytes()}); }
    }
    return out;
}

template <class E>
size_t Model<E>::bytes() const {
    size_t sum = 0;
    for (const List& l : lists()) { sum += l.bytes; }
    return sum;
}

template <class E>
std::string Model<E>::shortage(size_t available) const {
    std::string text = std::string(device_->name()) + ": out of memory: " + readable_bytes(available) +
                       " free (" + readable_bytes(device_->reserve()) + " reserved), " +
                       readable_bytes(bytes()) + " needed (";
    for (const List& l : lists()) {
        text += (text.back() == '(' ? "" : ", ") + l.name + " " + readable_bytes(l.bytes);
    }
    text += ")";
    if (context_) { return text; }  // sizes_ is of one rank
    const auto fits = [&](ModelSizes s) {
        return Model(config_, s, ctx_.device, *comm_).bytes() <= available;
    };
    ModelSizes smaller = sizes_;
    while (smaller.max_tokens > 1 && !fits(smaller)) {
        smaller.max_tokens = std::max(1, smaller.max_tokens / 2);
        smaller.max_seqs = std::max(1, smaller.max_seqs / 2);
    }
    if (fits(smaller)) {
        text += "; " + std::to_string(smaller.max_tokens) + " tokens at a time would fit, of " +
                std::to_string(sizes_.max_tokens);
    }
    ModelSizes again = sizes_;
    again.recompute = true;
    if (sizes_.training && !sizes_.recompute && fits(again)) { text += "; or --recompute"; }
    return text;
}

template <class E>
void Model<E>::allocate() {
    const size_t free = device_->available(), reserve = device_->reserve();
    const size_t available = free > reserve ? free - reserve : 0;
    if (bytes() > available) { throw Error(shortage(available)); }
    for (const Arena* a : arenas()) { const_cast<Arena*>(a)->allocate(); }
    plan();
    std::vector<A> rope(rope_table_size(sizes_.max_position, config_.head_dim));
    rope_fill_table(rope.data(), config_.rope_frequencies(), sizes_.max_position, config_.rope_length());
    device_->to_device(ctx_, rope_table_, rope.data(), rope.size() * sizeof(A));
    set_optimizer({});
}

template <class E>
bool Model<E>::guards_intact(std::string* broken) const {
    for (const Arena* a : arenas()) {
        if (!a->guards_intact(broken)) { return false; }
    }
    return true;
}

template class Model<double>;
template class Model<float>;
template class Model<bf16>;

}  // namespace moba

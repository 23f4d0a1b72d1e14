/* The model's lists: weights, memory, and what goes in and out. The passes are in model_pass.cpp. */
#include "moba/model.h"
#include "moba/core/philox.h"
#include <algorithm>

namespace moba {

/* Of one chunk of tokens. Each chunk reads and writes the whole gradient of the head, and reads its
   weights twice: 12 V C bytes, where the logits of a token move 14 V. So a GPU gets thousands of rows;
   the 200 rows of V = 50304 that stay in 50 MB of L2 would move 46 V bytes a token at C = 768. */
static size_t logits_budget_bytes(Device d) { return d == Device::cpu ? 64 << 20 : 1 << 30; }

/* The only list of weights: pointer, name, shape, start, decay. Allocation, gradients, AdamW, checkpoints and tests
   walk it. Names and shapes are Hugging Face's; the key convolution is ours. */
template <class X, class F>
static void each_param(const Config& c, Params<X>& p, F f) {
    const int C = c.hidden_size, q = c.num_heads * c.head_dim, kv = c.num_kv_heads * c.head_dim,
              F_ = c.intermediate_size;
    p.layers.resize(c.num_layers);
    f(p.embed, "model.embed_tokens.weight", {c.vocab_size, C}, Init::embedding, true);
    for (int l = 0; l < c.num_layers; l++) {
        const std::string at = "model.layers." + std::to_string(l) + ".";
        LayerParams<X>& w = p.layers[l];
        f(w.norm1, at + "input_layernorm.weight", {C}, Init::ones, false);
        f(w.q, at + "self_attn.q_proj.weight", {q, C}, Init::uniform, true);
        f(w.k, at + "self_attn.k_proj.weight", {kv, C}, Init::uniform, true);
        f(w.v, at + "self_attn.v_proj.weight", {kv, C}, Init::uniform, true);
        f(w.o, at + "self_attn.o_proj.weight", {C, q}, Init::uniform, true);
        if (c.has_key_conv(l)) {
            f(w.k_conv, at + "self_attn.k_conv.weight", {kv, c.key_conv}, Init::uniform, true);
        }
        f(w.norm2, at + "post_attention_layernorm.weight", {C}, Init::ones, false);
        f(w.gate, at + "mlp.gate_proj.weight", {F_, C}, Init::uniform, true);
        f(w.up, at + "mlp.up_proj.weight", {F_, C}, Init::uniform, true);
        f(w.down, at + "mlp.down_proj.weight", {C, F_}, Init::uniform, true);
    }
    f(p.norm, "model.norm.weight", {C}, Init::ones, false);
    if (c.tie_word_embeddings) {
        p.head = p.embed;
    } else {
        f(p.head, "lm_head.weight", {c.vocab_size, C}, Init::uniform, true);
    }
}

// Weights that are read with the one before, as one matrix.
static bool joins_previous(const std::string& name) {
    for (const char* end : {"k_proj.weight", "v_proj.weight", "up_proj.weight"}) {
        if (name.ends_with(end)) { return true; }
    }
    return false;
}

template <class E>
Model<E>::Model(Config config, ModelSizes sizes, Device device)
    : config_(std::move(config)), sizes_(sizes), op_(find_profiled_ops<E>(device, nullptr)),
      workspaces_(find_workspaces<E>(device)), device_(find_device(device)), weights_("weights", device_),
      gradients_("gradients", device_), moments_("AdamW moments", device_),
      activations_("activations", device_), backward_("activation gradients", device_),
      kept_("key and value cache", device_), tables_("index tables", device_),
      workspace_("workspace", device_), training_passes_(nullptr), decode_pass_(nullptr) {
    REQUIRE(op_ && device_, "device %d in this build", (int)device);
    REQUIRE(sizes.max_tokens >= 1 && sizes.max_seqs >= 1 && sizes.max_position >= 1, "max_tokens = %d",
            sizes.max_tokens);
    REQUIRE(!sizes.recompute || (sizes.training && !sizes.cache_tokens),
            "recompute where there is a backward pass, without a cache of %d", sizes.cache_tokens);
    validate(config_);
    if (device == Device::gpu && config_.head_dim > max_head_dim_gpu) {
        throw Error("head_dim = " + std::to_string(config_.head_dim) + ": the GPU's kernels take at most " +
                    std::to_string(max_head_dim_gpu) + "; --device cpu takes more");
    }
    ctx_.device = device;
    ctx_.stream = device_->stream();
    set_graph(true);
    decode_layers_ = config_.layers;
    Params<E> none;
    each_param(
        config_, none, [&](E*&, const std::string& name, std::vector<int> shape, Init init, bool decay) {
            size_t count = 1;
            for (int n : shape) { count *= n; }
            if (!joins_previous(name)) { param_elements_ = round_up(param_elements_, (size_t)64); }
            params_.push_back({name, shape, init, decay, init == Init::embedding, param_elements_, count});
            param_elements_ += count;
        });
    param_elements_ = round_up(param_elements_, (size_t)64);
    const size_t row = (size_t)config_.vocab_size * sizeof(A);
    chunk_tokens_ = (int)std::clamp<size_t>(round_up(logits_budget_bytes(device) / row, (size_t)64), 64,
                                            sizes.max_tokens + 63);
    chunk_tokens_ = std::min(chunk_tokens_, sizes.max_tokens);
    seq_capacity_ = std::max<size_t>(
        1, sequences_capacity(sizes_.max_tokens, sizes.max_seqs, config_.block_size, config_.num_blocks));
    workspace_bytes_ = workspace_needed();
    plan_or_point();
}

template <class E>
template <class X>
void Model<E>::point(Params<X>& p, X* base) const {
    size_t i = 0;
    each_param(config_, p, [&](X*& pointer, const std::string&, std::vector<int>, Init, bool) {
        pointer = base ? base + params_[i].begin : nullptr;
        i++;
    });
}

template <class E>
size_t Model<E>::workspace_needed() const {
    const Config& c = config_;
    const int M = sizes_.max_tokens, C = c.hidden_size, q = c.num_heads * c.head_dim,
              kv = c.num_kv_heads * c.head_dim;
    size_t most = 0;
    const auto need = [&](size_t bytes) { most = std::max(most, bytes); };
    for (const LinearShape& s : {LinearShape{M, C, q + 2 * kv},
                                 {M, q, C},
                                 {M, C, 2 * c.intermediate_size},
                                 {M, c.intermediate_size, C},
                                 {chunk_tokens_, C, c.vocab_size}}) {
        need(workspaces_->linear(s));
    }
    if (sizes_.training) {
        need(workspaces_->embedding({M, C, c.vocab_size}));
        need(workspaces_->norm({M, C, 0}));
        need(workspaces_->grad_norm(param_elements_));
        need(c.key_conv ? workspaces_->key_conv({M, kv, c.key_conv}) : 0);
    }
    for (int l = 0; l < c.num_layers; l++) {
        const AttentionShape s = c.attention_shape(l);
        if (s.kind == AttentionKind::moba) {
            need(workspaces_->gate(M, sizes_.max_seqs, c.block_size, c.num_blocks, s.gate));
            need(workspaces_->gate_lists(M, sizes_.max_seqs, c.block_size, c.num_blocks, s.gate));
        }
        for (AttentionKind kind : {s.kind, AttentionKind::full, AttentionKind::moba}) {
            AttentionShape decoding = s;
            decoding.kind = kind;
            need(sizes_.cache_tokens ? workspaces_->decode(cache_shape(), decoding) : 0);
        }
        need(
            ctx_.device == Device::cpu && sizes_.attention_version == 1
                ? naive_attention_workspace_bytes<E>(M, s)
                : workspaces_->attention(M, sizes_.max_seqs, c.block_size, c.num_blocks, s, sizes_.training));
    }
    return most;
}

template <class E>
void Model<E>::plan_or_point() {
    const Config& c = config_;
    const size_t M = sizes_.max_tokens, C = c.hidden_size, F = c.intermediate_size;
    const size_t q = (size_t)c.num_heads * c.head_dim, kv = (size_t)c.num_kv_heads * c.head_dim;
    const bool train = sizes_.training;
    probes_.clear();

    w_ = weights_.template take<A>("weights", param_elements_);
    w_low_ = std::is_same_v<A, E>
                 ? nullptr
                 : weights_.template take<E>("weights as the kernels read them", param_elements_);
    point(weight_, w_low_ ? w_low_ : (E*)w_);
    if (train) {
        g_ = gradients_.template take<A>("gradients", param_elements_);
        m_ = moments_.template take<A>("first moment", param_elements_);
        v_ = moments_.template take<A>("second moment", param_elements_);
        point(gradient_, g_);
    }

    const auto activation = [&](const std::string& name, size_t width) {
        E* p = activations_.template take<E>(name, M * width);
        probes_.push_back({name, p, M * width, false});
        return p;
    };
    const auto statistic = [&](const std::string& name, size_t width) {
        A* p = activations_.template take<A>(name, M * width);
        probes_.push_back({name, p, M * width, true});
        return p;
    };
    const Sequences none{.num_tokens = 0,
                         .num_seqs = 0,
                         .longest = 0,
                         .num_levels = c.num_blocks,
                         .cu_seqlens = nullptr,
                         .position = nullptr,
                         .level = {}};
    // All layers have one set of tensors in inference; with recompute too, but for what backward() begins a layer with.
    const bool recompute = sizes_.recompute, shared = !train || recompute;
    state_.resize(c.num_layers);
    E* x = activation("embedding", C);
    for (int l = 0; l < c.num_layers; l++) {
        LayerState& s = state_[l];
        const std::string layer = train ? "layers." + std::to_string(l) + "." : "", at = shared ? "" : layer;
        const auto any = [&](bool own, auto has) {  // of the layers that use a tensor of this one
            for (int i = l; i < (own ? l + 1 : c.num_layers); i++) {
                if (has(i)) { return true; }
            }
            return false;
        };
        const size_t probes = probes_.size();
        if (shared && l > 0) {
            s = state_[0];
        } else {
            s.norm1 = activation(at + "norm1", C);
            s.rstd1 = statistic(at + "norm1.rstd", 1);
            s.q = activation(at + "q", q);
            s.k_raw = activation(at + "k", kv);
            const bool conv = any(!shared, [&](int i) { return c.has_key_conv(i); });
            s.k = conv ? activation(at + "k_conv", kv) : s.k_raw;
            s.v = activation(at + "v", kv);
            s.attn = activation(at + "attention", q);
            s.lse = statistic(at + "attention.lse", c.num_heads);
            s.mid = train ? activation(at + "after attention", C) : x;
            s.norm2 = activation(at + "norm2", C);
            s.rstd2 = statistic(at + "norm2.rstd", 1);
            s.gate_up = activation(at + "mlp.gate and up", 2 * F);
            s.act = activation(at + "mlp.act", F);
        }
        if (recompute) { probes_.erase(probes_.begin() + probes, probes_.end()); }  // of no one layer
        if (train || l == 0) {
            s.routing = {};
            if (any(train, [&](int i) { return c.layers[i].attention == AttentionKind::moba; })) {
                const GateShape gate = c.attention_shape(l).gate;
                const size_t slots = routing_slots((int)M, none.num_levels, gate);
                s.routing.chosen = activations_.template take<int>(layer + "chosen blocks", slots);
                s.routing.list = activations_.template take<int>(layer + "query lists", slots);
                s.routing.list_start = activations_.template take<int>(
                    layer + "list starts",
                    routing_starts((int)M, sizes_.max_seqs, c.block_size, c.num_blocks, gate));
            }
        }
        s.x = x;
        x = train ? activation(layer + "out", C) : x;
    }
    final_x_ = x;
    final_norm_ = activation("final norm", C);
    final_rstd_ = statistic("final norm.rstd", 1);
    branch_ = activation("branch", C);
    qkv_ = activations_.template take<E>("q, k and v of one product", M * (q + 2 * kv));
    logits_ = activations_.template take<A>("logits of a chunk", (size_t)chunk_tokens_ * c.vocab_size);
    losses_ = statistic("losses", 1);

    cache_.assign(sizes_.cache_tokens ? c.num_layers : 0, {});
    for (int l = 0; l < (int)cache_.size(); l++) {
        const std::string at = "layers." + std::to_string(l) + ".";
        const size_t rows = (size_t)sizes_.cache_tokens * kv;
        cache_[l].k = kept_.template take<E>(at + "keys", rows);
        cache_[l].v = kept_.template take<E>(at + "values", rows);
        cache_[l].k_raw =
            c.has_key_conv(l) ? kept_.template take<E>(at + "keys before convolution", rows) : nullptr;
        cache_[l].means =
            kept_.template take<A>(at + "block means", cache_shape().first_mean(c.num_kv_heads));
    }
    if (train) {
        const auto scratch = [&](const char* name, size_t width) {
            return backward_.template take<E>(name, M * width);
        };
        dx_ = scratch("d residual", C);
        dbranch_ = sizes_.dropout > 0 ? scratch("d branch", C) : dx_;
        dnorm_ = scratch("d norm", C);
        dattn_ = scratch("d attention", q);
        dq_ = scratch("dq", q);
        dk_ = scratch("dk", kv);
        dk_raw_ = c.key_conv ? scratch("dk before convolution", kv) : dk_;
        dv_ = scratch("dv", kv);
        dact_ = scratch("d mlp", F);
        dlogits_ = std::is_same_v<A, E>
                       ? (E*)logits_
                       : backward_.template take<E>("d logits", (size_t)chunk_tokens_ * c.vocab_size);
        sums_ = backward_.template take<double>("sums of losses, gradient norm", 3);
        norm_ = sums_ ? (A*)(sums_ + 2) : nullptr;
    }

    tokens_ = tables_.template take<int>("tokens", M);
    counted_rows_ = tables_.template take<int>("counted tokens", M);
    targets_ = tables_.template take<int>("targets", M);
    correct_ = tables_.template take<int>("correct", M);
    seq_table_ = tables_.template take<int>("sequences and blocks", seq_capacity_);
    rope_table_ = tables_.template take<A>("rope angles", rope_table_size(sizes_.max_position, c.head_dim));
    step_ = tables_.template take<StepState>("step", 1);
    ranges_ = tables_.template take<ParamRange>("weight ranges", params_.size());
    ctx_.workspace = workspace_.template take<char>("workspace", workspace_bytes_);
    ctx_.workspace_bytes = workspace_bytes_;
}

template <class E>
std::vector<typename Model<E>::List> Model<E>::lists() const {
    std::vector<List> out;
    for (const Arena* a :
         {&weights_, &gradients_, &moments_, &activations_, &backward_, &kept_, &tables_, &workspace_}) {
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
size_t Model<E>::num_parameters() const {
    size_t sum = 0;
    for (const ParamInfo& p : params_) { sum += p.count; }
    return sum;
}

template <class E>
std::string Model<E>::no_room(size_t available) const {
    std::string text = std::string(device_->name()) + ": out of memory: " + readable_bytes(available) +
                       " free (" + readable_bytes(device_->reserve()) + " reserved), " +
                       readable_bytes(bytes()) + " needed (";
    for (const List& l : lists()) {
        text += (text.back() == '(' ? "" : ", ") + l.name + " " + readable_bytes(l.bytes);
    }
    text += ")";
    const auto fits = [&](ModelSizes s) { return Model(config_, s, ctx_.device).bytes() <= available; };
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
    if (bytes() > available) { throw Error(no_room(available)); }
    for (Arena* a :
         {&weights_, &gradients_, &moments_, &activations_, &backward_, &kept_, &tables_, &workspace_}) {
        a->allocate();
    }
    plan_or_point();
    std::vector<A> rope(rope_table_size(sizes_.max_position, config_.head_dim));
    rope_fill_table(rope.data(), config_.rope_frequencies(), sizes_.max_position);
    device_->to_device(ctx_, rope_table_, rope.data(), rope.size() * sizeof(A));
    set_optimizer({});
}

template <class E>
void Model<E>::set_optimizer(const OptimizerSettings& o) {
    optimizer_ = o;
    host_ranges_.clear();
    for (const ParamInfo& p : params_) {
        host_ranges_.push_back({p.begin, p.count, p.embedding ? (float)o.embedding_lr_factor : 1.f,
                                p.decay ? (float)o.weight_decay : 0.f});
    }
    device_->to_device(ctx_, ranges_, host_ranges_.data(), host_ranges_.size() * sizeof(ParamRange));
}

template <class E>
void Model<E>::set_graph(bool allowed) {
    const GraphOps* graphs = allowed ? device_->graphs : nullptr;
    training_passes_ = Recording(graphs);
    decode_pass_ = Recording(graphs);
}

template <class E>
void Model<E>::set_profile(Profile* profile) {
    ctx_.profile = profile;
    op_ = find_profiled_ops<E>(ctx_.device, profile);
}

template <class E>
void Model<E>::init_weights(uint64_t seed) {
    std::vector<A> values;
    for (size_t i = 0; i < params_.size(); i++) {
        const ParamInfo& p = params_[i];
        Rng rng(seed, Purpose::weights, i);
        values.assign(p.count, A(1));
        const double bound = 1 / std::sqrt((double)p.shape.back());
        if (p.init == Init::embedding) {
            for (A& x : values) { x = A(float(config_.embedding_std * rng.normal())); }
        } else if (p.init == Init::uniform) {
            for (A& x : values) { x = A(float(bound * (2 * rng.uniform() - 1))); }
        }
        write_param(Kind::weight, p, values);
    }
    weights_changed();
}

template <class E>
void Model<E>::read_param(Kind kind, const ParamInfo& p, std::vector<A>& out) const {
    A* const base[] = {w_, g_, m_, v_};
    out.resize(p.count);
    device_->to_host(ctx_, out.data(), base[(int)kind] + p.begin, p.count * sizeof(A));
}

template <class E>
void Model<E>::write_param(Kind kind, const ParamInfo& p, const std::vector<A>& in) {
    REQUIRE(in.size() == p.count, "%zu values for %s", in.size(), p.name.c_str());
    A* const base[] = {w_, g_, m_, v_};
    device_->to_device(ctx_, base[(int)kind] + p.begin, in.data(), p.count * sizeof(A));
}

template <class E>
void Model<E>::weights_changed() {
    if (!w_low_) { return; }
    std::vector<A> wide(param_elements_);
    device_->to_host(ctx_, wide.data(), w_, wide.size() * sizeof(A));
    std::vector<E> low(wide.begin(), wide.end());
    device_->to_device(ctx_, w_low_, low.data(), low.size() * sizeof(E));
}

template <class X>
static bool all_finite(const std::vector<X>& values) {
    return std::all_of(values.begin(), values.end(), [](X x) { return std::isfinite((double)x); });
}

template <class E>
std::string Model<E>::first_not_finite() const {
    std::vector<A> wide;
    std::vector<E> low;
    for (const Kind kind : {Kind::weight, Kind::gradient}) {
        for (const ParamInfo& p : params_) {
            if (kind == Kind::gradient && !g_) { continue; }
            read_param(kind, p, wide);
            if (!all_finite(wide)) { return (kind == Kind::weight ? "weight " : "gradient of ") + p.name; }
        }
        if (kind == Kind::gradient) { continue; }
        for (const Probe& p : probes_) {
            wide.resize(p.wide ? p.count : 0);
            low.resize(p.wide ? 0 : p.count);
            if (p.wide) {
                device_->to_host(ctx_, wide.data(), p.data, p.count * sizeof(A));
            } else {
                device_->to_host(ctx_, low.data(), p.data, p.count * sizeof(E));
            }
            if (!all_finite(wide) || !all_finite(low)) { return "activation " + p.name; }
        }
    }
    return "";
}

template <class E>
bool Model<E>::guards_intact(std::string* broken) const {
    for (const Arena* a :
         {&weights_, &gradients_, &moments_, &activations_, &backward_, &kept_, &tables_, &workspace_}) {
        if (!a->guards_intact(broken)) { return false; }
    }
    return true;
}

template class Model<double>;
template class Model<float>;
template class Model<bf16>;

}  // namespace moba

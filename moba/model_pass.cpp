/* The model's passes: forward, loss, backward. Written once for every device. */
#include "moba/model.h"
#include <algorithm>
#include <numeric>

namespace moba {

template <class E>
Ctx Model<E>::attention_ctx() const {
    Ctx c = ctx_;
    c.kernel_version = sizes_.attention_kernel_version;
    return c;
}

template <class E>
DropoutShape Model<E>::dropout(int layer, DropoutSite site) const {
    return {(size_t)seqs_.num_tokens * config_.hidden_size,
            dropout_,
            layer,
            site,
            token_numbers_,
            config_.hidden_size};
}

template <class E>
CacheShape Model<E>::cache_shape() const {
    const int capacity = sizes_.cache_tokens ? sizes_.cache_tokens : sizes_.max_tokens;
    return {capacity, config_.num_kv_heads, config_.head_dim, config_.block_sizes(), config_.gate};
}

template <class E>
QkvShape Model<E>::qkv_shape(int l) const {
    const bool rope = config_.layers[l].position == Position::rope;
    return {.M = seqs_.num_tokens,
            .H = config_.num_heads,
            .G = config_.num_kv_heads,
            .D = config_.head_dim,
            .rotate_q = rope,
            .rotate_k = rope && !config_.has_key_conv(l)};
}

template <class E>
SwigluShape Model<E>::swiglu_shape() const {
    const int F = config_.intermediate_size;
    return {seqs_.num_tokens, F, 2 * (size_t)F};
}

template <class E>
NormShape Model<E>::norm_shape() const {
    return {seqs_.num_tokens, config_.hidden_size, (float)config_.rms_norm_eps};
}

template <class E>
void Model<E>::set_batch(const int* tokens, const int* targets, const std::vector<int>& cu_seqlens,
                         const StepState& step, int first) {
    std::vector<int> own;  // the tokens of this rank, where several ranks share the batch
    std::vector<int> own_tokens, own_targets;
    if (context_) {
        own = take_own_tokens(cu_seqlens);
        for (int m : own) {
            own_tokens.push_back(tokens[m]);
            if (targets) { own_targets.push_back(targets[m]); }
        }
        tokens = own_tokens.data(), targets = targets ? own_targets.data() : nullptr;
    }
    const int M = context_ ? (int)own.size() : cu_seqlens.back(), num_seqs = (int)cu_seqlens.size() - 1;
    REQUIRE(M <= sizes_.max_tokens && num_seqs <= sizes_.max_seqs,
            "%d tokens in %d sequences, planned for %d in %d", M, num_seqs, sizes_.max_tokens,
            sizes_.max_seqs);
    REQUIRE(!sizes_.cache_tokens || (num_seqs == 1 && M <= sizes_.cache_tokens),
            "%d tokens in %d sequences for a cache of %d", M, num_seqs, sizes_.cache_tokens);
    REQUIRE(!sizes_.asked_only || num_seqs == 1, "%d sequences with asked_only", num_seqs);
    if (!context_) { host_seqs_ = build_sequences(host_seq_table_, cu_seqlens, config_.block_sizes()); }
    REQUIRE(host_seqs_.longest <= sizes_.max_position, "a sequence of %d, planned for %d", host_seqs_.longest,
            sizes_.max_position);
    REQUIRE(host_seq_table_.size() <= seq_capacity_, "%zu ints of tables", host_seq_table_.size());
    seqs_ = rebase(host_seqs_, host_seq_table_.data(), seq_table_);
    device_->to_device(ctx_, seq_table_, host_seq_table_.data(), host_seq_table_.size() * sizeof(int));
    device_->to_device(ctx_, tokens_, tokens, M * sizeof(int));
    counted_.clear();
    std::vector<int> wanted;
    for (int m = 0; targets && m < M; m++) {
        if (targets[m] == ignored) { continue; }
        counted_.push_back(m);
        wanted.push_back(targets[m]);
    }
    REQUIRE(!sizes_.asked_only || !targets || !counted_.empty(), "no target among %d tokens", M);
    asked_ = sizes_.asked_only && !targets ? std::vector<int>{M - 1} : counted_;
    device_->to_device(ctx_, counted_rows_, asked_.data(), asked_.size() * sizeof(int));
    device_->to_device(ctx_, targets_, wanted.data(), wanted.size() * sizeof(int));
    device_->to_device(ctx_, step_, &step, sizeof step);
    if (token_numbers_) {
        const size_t end = (size_t)first + cu_seqlens.back();
        REQUIRE(end * config_.hidden_size / 4 <= 0xFFFFFFFFull, "dropout of token %zu", end);
        std::vector<int> numbers = own;
        if (!context_) { numbers.resize(M), std::iota(numbers.begin(), numbers.end(), 0); }
        for (int& m : numbers) { m += first; }
        device_->to_device(ctx_, token_numbers_, numbers.data(), numbers.size() * sizeof(int));
    }
}

/* Deals the blocks of a batch, and makes the sequences of the own tokens: these know only their positions. */
template <class E>
std::vector<int> Model<E>::take_own_tokens(const std::vector<int>& cu_seqlens) {
    const Sequences whole = build_sequences(whole_table_, cu_seqlens, config_.block_sizes());
    context_->set_batch(whole);
    const std::vector<int>& own = context_->dealt().tokens;
    host_seq_table_.clear();
    for (int m : own) { host_seq_table_.push_back(whole.position[m]); }
    host_seqs_ = {};
    host_seqs_.num_tokens = (int)own.size(), host_seqs_.longest = whole.longest, host_seqs_.sizes.levels = 0;
    host_seqs_.position = host_seq_table_.data();
    return own;
}

// The layer's queries, keys and values, after norm1.
template <class E>
void Model<E>::project_qkv(int l) {
    const Config& c = config_;
    LayerState& s = state_[l];
    op_->linear_forward(ctx_, qkv_, s.norm1, weight_.layers[l].q,
                        linear(c.hidden_size, width_q() + 2 * width_kv()));
    op_->qkv_split(ctx_, s.q, s.k_raw, s.v, qkv_, seqs_.position, rope_table_, qkv_shape(l));
    if (c.has_key_conv(l)) { convolve_keys(l); }
    if (!cache_.empty()) { cache_keys_and_values(l); }
}

/* s.k from s.k_raw. When decoding, the one new key needs the keys before it, which are in the cache. Keys are
   rotated after the convolution. */
template <class E>
void Model<E>::convolve_keys(int l) {
    const LayerState& s = state_[l];
    const int M = seqs_.num_tokens;
    if (!cache_.empty()) { op_->cache_rows(ctx_, cache_[l].k_raw, s.k_raw, seqs_.position, M, width_kv()); }
    op_->key_conv_forward(ctx_, s.k, decoding_ ? cache_[l].k_raw : s.k_raw, weight_.layers[l].k_conv,
                          seqs_.position, {M, width_kv(), config_.key_conv, decoding_});
    if (config_.layers[l].position == Position::rope) {
        op_->rope_forward(ctx_, s.k, s.k, seqs_.position, rope_table_,
                          {M, config_.num_kv_heads, config_.head_dim});
    }
}

template <class E>
void Model<E>::cache_keys_and_values(int l) {
    const int M = seqs_.num_tokens;
    op_->cache_rows(ctx_, cache_[l].k, keys(l), seqs_.position, M, width_kv());
    op_->cache_rows(ctx_, cache_[l].v, state_[l].v, seqs_.position, M, width_kv());
    op_->cache_means(ctx_, cache_[l].means, cache_[l].k, seqs_.position, M, cache_shape());
}

template <class E>
void Model<E>::set_full(bool full) {
    REQUIRE(!full || (sizes_.full_too && !sizes_.asked_only), "the model was not planned for full attention");
    full_ = full;
}

template <class E>
AttentionShape Model<E>::attention_shape(int l) const {
    AttentionShape s = config_.attention_shape(l);
    if (full_ && s.kind == AttentionKind::moba) { s.kind = AttentionKind::full; }
    return s;
}

template <class E>
void Model<E>::choose_blocks(int l) {
    if (context_) { return context_->choose(ctx_, *op_, l, state_[l].q, keys(l)); }
    const AttentionShape shape = attention_shape(l);
    if (shape.kind != AttentionKind::moba) { return; }
    op_->gate_forward(attention_ctx(), state_[l].routing, state_[l].q, keys(l), seqs_, shape.gate);
    op_->gate_lists(ctx_, state_[l].routing, seqs_, shape.gate);
}

template <class E>
void Model<E>::attend(int l) {
    LayerState& s = state_[l];
    AttentionShape shape = attention_shape(l);
    if (context_) {
        context_->forward(ctx_, *op_, l, s.attn, s.lse, s.q, keys(l), s.v);
    } else if (decoding_) {
        shape.kind = decode_layers_[l].attention;
        op_->decode_attention(ctx_, s.attn, s.q, cache_[l].k, cache_[l].v, cache_[l].means, seqs_.position,
                              decode_longest(), cache_shape(), shape);
    } else {
        op_->attention_forward(attention_ctx(), s.attn, s.lse, s.q, keys(l), s.v, s.routing, seqs_, shape);
    }
    attention_out(l, s.x);
}

// The output product of attention, added to x, and the norm of that.
template <class E>
void Model<E>::attention_out(int l, const E* x) {
    LayerState& s = state_[l];
    const LayerParams<E>& w = weight_.layers[l];
    op_->linear_forward(ctx_, residual_branch_, s.attn, w.o, linear(width_q(), config_.hidden_size));
    op_->residual_norm_forward(ctx_, s.after_attention, s.norm2, s.rstd2, x, residual_branch_, w.norm2, step_,
                               dropout(l, DropoutSite::attention), norm_shape());
}

/* The last layer up to its MLP with asked_only, from norm1 of all tokens. From here on the rows of every
   tensor but keys and values are the asked tokens. The gathered rows of norm1 are in final_norm_, those of x
   in norm1. */
template <class E>
void Model<E>::last_layer_of_asked() {
    const Config& c = config_;
    const int l = c.num_layers - 1, M = seqs_.num_tokens, C = c.hidden_size, R = (int)asked_.size();
    LayerState& s = state_[l];
    const LayerParams<E>& w = weight_.layers[l];
    QkvShape keys_and_values = qkv_shape(l);
    keys_and_values.H = 0;
    op_->linear_forward(ctx_, qkv_, s.norm1, w.k, linear(C, 2 * width_kv()));
    op_->qkv_split(ctx_, s.q, s.k_raw, s.v, qkv_, seqs_.position, rope_table_, keys_and_values);
    if (c.has_key_conv(l)) { convolve_keys(l); }
    if (!cache_.empty()) {
        cache_keys_and_values(l);
    } else if (means_) {
        op_->cache_means(ctx_, means_, keys(l), seqs_.position, M, cache_shape());
    }
    op_->gather_rows(ctx_, final_norm_, s.norm1, counted_rows_, {R, M, C});
    op_->gather_rows(ctx_, s.norm1, s.x, counted_rows_, {R, M, C});

    seqs_ = {};
    seqs_.num_tokens = R;
    seqs_.position = counted_rows_;  // there is one sequence, so a token's index is its position
    op_->linear_forward(ctx_, s.q, final_norm_, w.q, linear(C, width_q()));
    if (c.layers[l].position == Position::rope) {
        op_->rope_forward(ctx_, s.q, s.q, seqs_.position, rope_table_, {R, c.num_heads, c.head_dim});
    }
    const A* means = cache_.empty() ? means_ : cache_[l].means;
    for (int i = 0; i < R; i++) {
        const size_t row = (size_t)i * width_q();
        op_->decode_attention(ctx_, s.attn + row, s.q + row, keys(l), s.v, means, seqs_.position + i, M,
                              cache_shape(), c.attention_shape(l));
    }
    attention_out(l, s.norm1);
}

template <class E>
void Model<E>::mlp_forward(int l) {
    const int C = config_.hidden_size, F = config_.intermediate_size;
    LayerState& s = state_[l];
    const LayerParams<E>& w = weight_.layers[l];
    op_->linear_forward(ctx_, s.gate_up, s.norm2, w.gate, linear(C, 2 * F));
    op_->swiglu_forward(ctx_, s.act, s.gate_up, s.gate_up + F, swiglu_shape());
}

// The layer's output x = after_attention + dropout(down · act), and its norm: the next layer's norm1, or the
// final norm.
template <class E>
void Model<E>::mlp_out(int l, E* x, E* norm, A* rstd, const E* w_norm) {
    const int C = config_.hidden_size, F = config_.intermediate_size;
    const LayerState& s = state_[l];
    op_->linear_forward(ctx_, residual_branch_, s.act, weight_.layers[l].down, linear(F, C));
    op_->residual_norm_forward(ctx_, x, norm, rstd, s.after_attention, residual_branch_, w_norm, step_,
                               dropout(l, DropoutSite::mlp), norm_shape());
}

template <class E>
void Model<E>::forward(Pass pass) {
    dropout_ = pass == Pass::training ? sizes_.dropout : 0;
    cached_ = 0;
    decoding_ = false;
    seqs_ = rebase(host_seqs_, host_seq_table_.data(), seq_table_);
    layers_forward();
    cached_ = host_seqs_.num_tokens;
}

template <class E>
bool Model<E>::training_passes(bool last) {
    const auto passes = [&] {
        forward(Pass::training);
        loss(Pass::training);
        backward(last);
    };
    if (context_ || (last && ranks_ > 1)) {  // what ranks exchange is not recorded
        passes();
        return false;
    }
    training_passes_.run(ctx_, batch_shape(), passes);
    return training_passes_.replayed();
}

// A recording of decode() serves tokens up to this length.
template <class E>
int Model<E>::decode_longest() const {
    return std::min(sizes_.cache_tokens, round_up(cached_ + 1, 1024));
}

template <class E>
void Model<E>::decode(int token) {
    REQUIRE(cached_ > 0 && cached_ < sizes_.cache_tokens, "%d tokens in a cache of %d", cached_,
            sizes_.cache_tokens);
    REQUIRE(cached_ < sizes_.max_position, "token %d, planned for %d", cached_, sizes_.max_position);
    device_->to_device(ctx_, seq_table_, &cached_, sizeof cached_);
    device_->to_device(ctx_, tokens_, &token, sizeof token);
    seqs_ = {};
    seqs_.num_tokens = 1;
    seqs_.position = seq_table_;
    dropout_ = 0;
    std::vector<int> shape = {decode_longest()};
    for (const LayerKind& kind : decode_layers_) { shape.push_back((int)kind.attention); }
    decoding_ = true;
    decode_pass_.run(ctx_, std::move(shape), [this] { layers_forward(); });
    decoding_ = false;
    cached_++;
}

template <class E>
void Model<E>::set_decode_attention(AttentionKind kind) {
    for (LayerKind& k : decode_layers_) {
        if (k.attention != AttentionKind::window) { k.attention = kind; }
    }
}

template <class E>
void Model<E>::layers_forward() {
    const Config& c = config_;
    E* x = state_[0].x;
    op_->embedding_forward(ctx_, x, tokens_, weight_.embed, {seqs_.num_tokens, c.hidden_size, c.vocab_size});
    const DropoutShape d = dropout(0, DropoutSite::embedding);
    if (d.p > 0) { op_->residual_forward(ctx_, x, nullptr, x, step_, d); }
    for (int l = 0; l < c.num_layers; l++) {
        const LayerState& s = state_[l];
        const E* w_norm = weight_.layers[l].norm1;
        if (l == 0) {
            op_->norm_forward(ctx_, s.norm1, s.rstd1, s.x, w_norm, norm_shape());
        } else {
            mlp_out(l - 1, s.x, s.norm1, s.rstd1, w_norm);
        }
        if (is_short(l) && !decoding_) {
            last_layer_of_asked();
        } else {
            project_qkv(l);
            if (!decoding_) { choose_blocks(l); }
            attend(l);
        }
        mlp_forward(l);
    }
    mlp_out(c.num_layers - 1, final_x_, final_norm_, final_rstd_, weight_.norm);
}

/* Logits are computed only for tokens with a target, and for one chunk of them at a time: its logits, its
   loss, its share of the gradient. residual_branch_ and dx_ are not in use between the passes, so they hold
   the rows of these tokens. */
template <class E>
void Model<E>::loss(Pass pass) {
    const bool with_gradient = pass == Pass::training;
    REQUIRE(!with_gradient || sizes_.training, "a model planned for training");
    const int M = seqs_.num_tokens, R = (int)counted_.size(), C = config_.hidden_size, V = config_.vocab_size;
    const RowsShape rows_shape{R, M, C};
    const bool all = R == M;
    const E* hidden = all ? final_norm_ : residual_branch_;
    E* dhidden = all ? dnorm_ : dx_;
    if (!all) { op_->gather_rows(ctx_, residual_branch_, final_norm_, counted_rows_, rows_shape); }
    for (int m = 0; m < R; m += chunk_tokens_) {
        const int rows = std::min(chunk_tokens_, R - m);
        const E* x = hidden + (size_t)m * C;
        op_->linear_forward_wide(ctx_, logits_, x, weight_.head, {rows, C, V});
        op_->loss_forward_backward(ctx_, losses_ + m, correct_ + m, with_gradient ? dlogits_ : nullptr,
                                   logits_, targets_ + m, step_, {rows, V});
        if (with_gradient) {
            op_->linear_backward_weight(ctx_, gradient_.head, dlogits_, x, {rows, C, V});
            op_->linear_backward_input(ctx_, dhidden + (size_t)m * C, dlogits_, weight_.head, {rows, C, V});
        }
    }
    if (with_gradient) { op_->loss_sums(ctx_, sums_, losses_, correct_, R); }
    if (with_gradient && !all) { op_->scatter_rows(ctx_, dnorm_, dx_, counted_rows_, rows_shape); }
}

// The gradient of a residual branch: the gradient of the residual stream, with the branch's dropout applied.
template <class E>
E* Model<E>::branch_gradient(int layer, DropoutSite site) {
    const DropoutShape d = dropout(layer, site);
    if (d.p == 0) { return dx_; }
    op_->residual_backward(ctx_, dbranch_, dx_, step_, d);
    return dbranch_;
}

template <class E>
void Model<E>::mlp_backward(int l) {
    const int C = config_.hidden_size, F = config_.intermediate_size;
    LayerState& s = state_[l];
    const LayerParams<E>& w = weight_.layers[l];
    const LayerParams<A>& dw = gradient_.layers[l];
    const E* dbranch = branch_gradient(l, DropoutSite::mlp);
    op_->linear_backward_weight(ctx_, dw.down, dbranch, s.act, linear(F, C));
    op_->linear_backward_input(ctx_, dact_, dbranch, w.down, linear(F, C));
    E *gate = s.gate_up, *up = gate + F;
    op_->swiglu_backward(ctx_, gate, up, dact_, gate, up, swiglu_shape());  // in place
    op_->linear_backward_weight(ctx_, dw.gate, s.gate_up, s.norm2, linear(C, 2 * F));
    op_->linear_backward_input(ctx_, dnorm_, s.gate_up, w.gate, linear(C, 2 * F));
    op_->norm_backward(ctx_, dx_, dw.norm2, dnorm_, s.after_attention, w.norm2, s.rstd2, norm_shape());
}

template <class E>
void Model<E>::attention_backward(int l) {
    const Config& c = config_;
    LayerState& s = state_[l];
    const LayerParams<E>& w = weight_.layers[l];
    const LayerParams<A>& dw = gradient_.layers[l];
    const int M = seqs_.num_tokens, C = c.hidden_size, HD = width_q(), GD = width_kv();
    const E* dbranch = branch_gradient(l, DropoutSite::attention);
    op_->linear_backward_weight(ctx_, dw.o, dbranch, s.attn, linear(HD, C));
    op_->linear_backward_input(ctx_, dattn_, dbranch, w.o, linear(HD, C));
    op_->attention_delta(ctx_, delta_, dattn_, s.attn, {M, c.num_heads, c.head_dim});
    if (context_) {
        context_->backward(ctx_, *op_, l, dq_, dk_, dv_, dattn_, delta_, s.q, keys(l), s.v, s.lse);
    } else {
        op_->attention_backward(attention_ctx(), dq_, dk_, dv_, dattn_, delta_, s.q, keys(l), s.v, s.lse,
                                s.routing, seqs_, attention_shape(l));
    }
    E* dk = dk_;
    if (c.has_key_conv(l)) {
        if (c.layers[l].position == Position::rope) {
            op_->rope_backward(ctx_, dk_, dk_, seqs_.position, rope_table_, {M, c.num_kv_heads, c.head_dim});
        }
        dk = dk_raw_;
        op_->key_conv_backward(ctx_, dk, dw.k_conv, dk_, s.k_raw, w.k_conv, seqs_.position,
                               {M, GD, c.key_conv});
    }
    op_->qkv_join(ctx_, qkv_, dq_, dk, dv_, seqs_.position, rope_table_, qkv_shape(l));
    op_->linear_backward_weight(ctx_, dw.q, qkv_, s.norm1, linear(C, HD + 2 * GD));
    op_->linear_backward_input(ctx_, dnorm_, qkv_, w.q, linear(C, HD + 2 * GD));
    op_->norm_backward(ctx_, dx_, dw.norm1, dnorm_, s.x, w.norm1, s.rstd1, norm_shape());
}

// Computes a layer's activations again into the tensors that all layers share. Its input, block choice and
// output were stored.
template <class E>
void Model<E>::recompute_layer(int l) {
    const LayerState& s = state_[l];
    op_->norm_forward(ctx_, s.norm1, s.rstd1, s.x, weight_.layers[l].norm1, norm_shape());
    project_qkv(l);
    attend(l);
    mlp_forward(l);
}

template <class E>
void Model<E>::backward(bool last) {
    const Config& c = config_;
    const int M = seqs_.num_tokens;
    device_->zero(ctx_, dx_, (size_t)M * c.hidden_size * sizeof(E));
    op_->norm_backward(ctx_, dx_, gradient_.norm, dnorm_, final_x_, weight_.norm, final_rstd_, norm_shape());
    if (last) { add_ranks(c.num_layers + 1); }
    for (int l = c.num_layers - 1; l >= 0; l--) {
        if (sizes_.recompute && l + 1 < c.num_layers) {
            recompute_layer(l);
        }  // the last layer's are still there
        mlp_backward(l);
        attention_backward(l);
        if (last) { add_ranks(l + 1); }
    }
    op_->embedding_backward(ctx_, gradient_.embed, tokens_, branch_gradient(0, DropoutSite::embedding),
                            {M, c.hidden_size, c.vocab_size});
    if (last) { add_ranks(0); }
}

template <class E>
std::vector<int> Model<E>::batch_shape() const {
    std::vector<int> shape(host_seqs_.cu_seqlens, host_seqs_.cu_seqlens + host_seqs_.num_seqs + 1);
    shape.push_back((int)counted_.size());
    shape.push_back(full_);
    return shape;
}

template <class E>
void Model<E>::read_losses(std::vector<A>& losses, std::vector<int>& correct) {
    const size_t R = counted_.size();
    std::vector<A> loss(R);
    std::vector<int> right(R);
    device_->to_host(ctx_, loss.data(), losses_, R * sizeof(A));
    device_->to_host(ctx_, right.data(), correct_, R * sizeof(int));
    losses.assign(host_seqs_.num_tokens, A(0));
    correct.assign(host_seqs_.num_tokens, 0);
    for (size_t i = 0; i < R; i++) {
        losses[counted_[i]] = loss[i];
        correct[counted_[i]] = right[i];
    }
}

template <class E>
void Model<E>::read_logits(int first, int count, std::vector<A>& logits) {
    const int C = config_.hidden_size, V = config_.vocab_size;
    REQUIRE(first >= 0 && first + count <= seqs_.num_tokens, "tokens %d + %d of %d", first, count,
            seqs_.num_tokens);
    logits.resize((size_t)count * V);
    for (int m = 0; m < count; m += chunk_tokens_) {
        const int rows = std::min(chunk_tokens_, count - m);
        op_->linear_forward_wide(ctx_, logits_, final_norm_ + (size_t)(first + m) * C, weight_.head,
                                 {rows, C, V});
        device_->to_host(ctx_, logits.data() + (size_t)m * V, logits_, (size_t)rows * V * sizeof(A));
    }
}

template class Model<double>;
template class Model<float>;
template class Model<bf16>;

}  // namespace moba

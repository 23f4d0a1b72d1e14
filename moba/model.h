/* The model: a Llama whose layers attend in full, by MoBA or in a window. One forward pass and one backward pass for
   every device and element type, written against the ops table.

   Source   Touvron et al. 2023, arXiv:2302.13971; layer kinds: Lu et al. 2025, arXiv:2502.13189, 3.2
   Products q, k and v of a token come out of one product, gate and up of another: their weights lie one after the other
   Math     x = dropout(embed[token])
            each layer:  x += dropout(o · attention(rope(q · n), rope(conv(k · n)), v · n)),   n = norm(x)
                         x += dropout(down · swiglu(gate · n, up · n)),                        n = norm(x)
            logits = head · norm(x);  loss = mean over the counted targets of the whole optimizer step
   Decode   with cache_tokens: set_batch(one sequence), forward(), then decode(token) for each further token; read_logits
            after either
   Use      Model<float> model(config, sizes);        // plans: lists() tells every byte, nothing is allocated yet
            model.allocate(); model.init_weights(seed);
            step:  zero_gradients(); for each micro-batch: set_batch(...), forward(true), loss(true), backward(); update(...) */
#pragma once
#include "moba/config.h"
#include "moba/core/arena.h"
#include "moba/core/recording.h"
#include "moba/profile.h"

namespace moba {

struct ModelSizes {
    int max_tokens = 0;    // M: of a micro-batch, all sequences
    int max_seqs = 0;      // sequences in a micro-batch
    int max_position = 0;  // longest sequence
    bool training = false;
    bool recompute = false;  // a layer keeps its input and routing; backward() computes the rest again
    float dropout = 0;
    int attention_version = 0;  // 0 fast, 1 naive
    int cache_tokens = 0;       // kept for decode(): the longest a sequence may become
};

// Where a weight starts. uniform: between -1/sqrt(inputs) and 1/sqrt(inputs).
enum class Init { embedding, uniform, ones };

struct ParamInfo {
    std::string name;
    std::vector<int> shape;
    Init init;
    bool decay;           // weight decay applies
    bool embedding;       // takes the embedding's learning rate factor
    size_t begin, count;  // elements, within the one allocation
};

/* Pointers to all weights, or to their gradients, or moments. */
template <class X>
struct LayerParams {
    X *norm1 = nullptr, *q = nullptr, *k = nullptr, *v = nullptr, *o = nullptr, *k_conv = nullptr,
      *norm2 = nullptr, *gate = nullptr, *up = nullptr, *down = nullptr;
};
template <class X>
struct Params {
    X *embed = nullptr, *norm = nullptr, *head = nullptr;  // head == embed when tied
    std::vector<LayerParams<X>> layers;
};

struct OptimizerSettings {
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0, clip = 1;
    double embedding_lr_factor = 1;
};

template <class E>
class Model {
  public:
    using A = acc_t<E>;

    Model(Config config, ModelSizes sizes, Device device = Device::cpu);

    struct List {
        std::string name;
        size_t bytes;
    };
    std::vector<List> lists() const;  // memory by list, before or after allocate()
    size_t bytes() const;
    void allocate();  // throws Error, with the lists and what would fit, where the device has no room

    void init_weights(uint64_t seed);
    void set_optimizer(const OptimizerSettings&);
    void set_graph(bool);        // whether training_passes() and decode() may be recorded; first: they may
    void set_profile(Profile*);  // every operation from now on is timed into it; nullptr: none

    /* tokens and targets: cu_seqlens.back() of them, host memory. */
    void set_batch(const int* tokens, const int* targets, const std::vector<int>& cu_seqlens,
                   const StepState&);
    void forward(bool with_dropout = false);
    void loss(
        bool
            with_gradient);  // after forward(); leaves token losses and, if asked, the gradient of the hidden state
    void backward();         // after loss(true)
    /* forward(true), loss(true), backward(): recorded, and replayed for a batch of the same shape. Says whether it was. */
    bool training_passes();
    void decode(int token);  // one more token behind those of forward() and decode()
    void decode_attention(
        AttentionKind);  // of decode(), full or moba, in all layers but windows; first: the layers' own
    void zero_gradients();
    void update(const StepState&);
    void
    update();  // with set_batch()'s state: clips and steps AdamW; a norm that is not finite changes nothing
    double gradient_norm();  // of the last update(), before clipping

    struct StepResult {
        double loss, correct;  // sums over the counted targets of all micro-batches since zero_gradients()
        double norm;           // of the last update()
    };
    StepResult step_result();  // the one time in a step that the host waits

    /* What recorded launches depend on: lengths of the sequences, number of counted targets. */
    std::vector<int> batch_shape() const;

    void read_losses(std::vector<A>& losses,
                     std::vector<int>& correct);  // one for each token of the batch, 0 where no target counts
    void read_logits(int first, int count,
                     std::vector<A>& logits);  // (count, V) for tokens first..; after forward()

    /* For GraphOps: zero_gradients, forward, loss, backward and update() can be recorded together, and run again behind a
       set_batch() of sequences as long and of as many targets. Run them once before, so that all kernels are loaded. */
    const Ctx& ctx() const { return ctx_; }

    const Config& config() const { return config_; }
    const std::vector<ParamInfo>& params() const { return params_; }
    size_t num_parameters() const;
    /* One tensor between host and device: weights, gradients or moments. */
    enum class Kind { weight, gradient, moment1, moment2 };
    void read_param(Kind, const ParamInfo&, std::vector<A>&) const;
    void write_param(Kind, const ParamInfo&, const std::vector<A>&);
    void weights_changed();  // after write_param(weight): refreshes the copy that narrow kernels read

    /* The first tensor with a value that is not finite: weights, activations in forward order, gradients. "" if none. */
    std::string first_not_finite() const;
    bool guards_intact(std::string* broken) const;

    // For tests and pictures: what a layer computed in the last forward pass. Without training all tensors are the last
    // layer's; with recompute all but x and routing, until backward() fills them with the layers before.
    struct LayerState {
        E *x, *norm1, *q, *k_raw, *k, *v, *attn, *mid, *norm2, *gate_up, *act;  // gate_up (M, 2F)
        A *rstd1, *rstd2, *lse;
        Routing routing;
    };
    const LayerState& layer(int l) const { return state_[l]; }
    const Sequences& sequences() const { return host_seqs_; }

  private:
    void plan_or_point();  // walked twice: memory.h
    template <class X>
    void point(Params<X>& p, X* base) const;
    size_t workspace_needed() const;
    std::string no_room(size_t available) const;
    Ctx attention_ctx() const;
    void attention_forward(int l, bool again);
    E* convolve_keys(int l);
    void cache(int l, const E* k);
    void layers_forward();
    int decode_longest() const;
    CacheShape cache_shape() const {
        return {sizes_.cache_tokens, config_.num_kv_heads, config_.head_dim, config_.block_size,
                config_.num_blocks};
    }
    void attention_backward(int l);
    void mlp_forward(int l);
    void mlp_out(int l, E* x, E* norm, A* rstd, const E* w_norm);
    void mlp_backward(int l);
    void compute_again(int l);
    E* branch_gradient(int layer, DropoutSite);
    QkvShape qkv_shape(int l) const {
        const bool rope = config_.layers[l].position == Position::rope;
        return {seqs_.num_tokens,
                config_.num_heads,
                config_.num_kv_heads,
                config_.head_dim,
                rope,
                rope && !config_.has_key_conv(l)};
    }
    SwigluShape swiglu_shape() const {
        const int F = config_.intermediate_size;
        return {seqs_.num_tokens, F, 2 * (size_t)F};
    }
    LinearShape linear(int inputs, int outputs) const { return {seqs_.num_tokens, inputs, outputs}; }
    NormShape norm_shape() const {
        return {seqs_.num_tokens, config_.hidden_size, (float)config_.rms_norm_eps};
    }
    DropoutShape dropout(int layer, DropoutSite) const;

    Config config_;
    ModelSizes sizes_;
    Ctx ctx_;
    const Ops<E>* op_;
    const WorkspaceBytes<E>* workspaces_;
    const DeviceOps* device_;
    std::vector<ParamInfo> params_;
    size_t param_elements_ = 0;
    OptimizerSettings optimizer_;
    std::vector<ParamRange> host_ranges_;

    Arena weights_, gradients_, moments_, activations_, backward_, kept_, tables_, workspace_;
    A *w_ = nullptr, *g_ = nullptr, *m_ = nullptr, *v_ = nullptr;
    E* w_low_ = nullptr;
    Params<E> weight_;
    Params<A> gradient_;
    std::vector<LayerState> state_;
    struct Cache {  // of a layer: keys before and after convolution, values, means of blocks
        E *k_raw, *k, *v;
        A* means;
    };
    std::vector<Cache> cache_;
    std::vector<LayerKind> decode_layers_;
    Recording training_passes_, decode_pass_;
    int cached_ = 0;         // tokens in the cache
    bool decoding_ = false;  // the pass under way is decode()'s
    E *final_x_, *final_norm_, *branch_;
    E* qkv_;  // (M, H+2G, D) of one product: of this layer's forward pass, or the gradient
    A *final_rstd_, *logits_, *losses_;
    E *dlogits_, *dx_, *dbranch_, *dnorm_, *dattn_, *dq_, *dk_, *dk_raw_, *dv_, *dact_;
    double* sums_;  // of losses and right tokens
    A* norm_;       // after them, so that one copy reads all
    int *tokens_, *counted_rows_, *targets_, *correct_, *seq_table_;
    A* rope_table_;
    StepState* step_;
    ParamRange* ranges_;
    int chunk_tokens_;
    float dropout_ = 0;  // of the pass under way
    size_t seq_capacity_, workspace_bytes_;

    struct Probe {  // a tensor that first_not_finite() looks into
        std::string name;
        const void* data;
        size_t count;
        bool wide;  // acc_t<E>, not E
    };
    std::vector<Probe> probes_;
    std::vector<int> host_seq_table_, counted_;  // counted_: tokens of the batch that have a target
    Sequences host_seqs_{}, seqs_{};
};

}  // namespace moba

/* The model: a Llama whose layers attend in full, by MoBA or in a window. There is one forward pass and one
   backward pass for every device and element type, written against the table of operations (op_table.h).

   Source   Touvron et al. 2023, arXiv:2302.13971; layer kinds: Lu et al. 2025, arXiv:2502.13189, section 3.2
   Math     x = dropout(embed[token])
            each layer:  x += dropout(o · attention(rope(q · n), rope(conv(k · n)), v · n)),   n = norm(x)
                         x += dropout(down · swiglu(gate · n, up · n)),                        n = norm(x)
            logits = head · norm(x);  loss = mean over the counted targets of the whole optimizer step
   Decode   with cache_tokens: set_batch(one sequence), forward(), then decode(token) for each further token;
            after either, read_logits()
   Asked    no layer reads the outputs of the last one, so with asked_only these exist only where a result is
            wanted: each such query is computed as decode() would, against the keys of all tokens
   Use      Model<float> model(config, sizes);   // plans: lists() tells every byte, nothing is allocated yet
            model.allocate(); model.init_weights(seed);
            a step: zero_gradients(); for each micro-batch: set_batch(...), training_passes(); then
            update(...)
   Ranks    with a Comm, each rank computes its part of the samples. The last backward pass of a step adds the
            gradients of all ranks, layer by layer, while it goes on; update() then changes the weights that
            this rank owns (params.h) and collects the others. read_param() and first_not_finite() are then
            calls that all ranks make together
   Files    params.* the weights, model_memory.cpp the plan, model_pass.cpp the passes, model_update.cpp what
            ranks share and the optimizer's step, model.cpp the rest */
#pragma once
#include "moba/context_attention.h"
#include "moba/core/arena.h"
#include "moba/core/comm.h"
#include "moba/core/recording.h"
#include "moba/params.h"
#include "moba/profile.h"

namespace moba {

struct ModelSizes {
    int max_tokens = 0;    // M: most tokens of a micro-batch, all sequences together
    int max_seqs = 0;      // most sequences of a micro-batch
    int max_position = 0;  // length of the longest sequence
    bool training = false;
    // Each layer stores only its input and its block choice; backward() computes the rest of it again.
    bool recompute = false;
    float dropout = 0;
    int attention_kernel_version = 0;  // 0 the fastest, 1 the plain definition
    int cache_tokens = 0;              // capacity of the cache for decode(); 0 = no cache
    /* Inference of one sequence: the last layer computes keys and values of all tokens, and everything else
       only for the asked tokens: those with a target; without targets, the last one. */
    bool asked_only = false;
    bool full_too = false;  // memory for set_full(true), too
    /* So many ranks, neighbours among all ranks, share each micro-batch (context.h): all of them get all of
       its tokens in set_batch(), and max_tokens counts all. 1: each rank has its own. */
    int context = 1;
};

struct OptimizerSettings {
    double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0, clip = 1;
    double embedding_lr_factor = 1;
};

/* training: with dropout, and the loss leaves gradients. inference: neither. */
enum class Pass { inference, training };

template <class E>
class Model {
  public:
    using A = acc_t<E>;

    Model(Config config, ModelSizes sizes, Device device = Device::cpu, Comm& = Comm::alone());

    Model(Model&&) = default;
    ~Model() { comm_->drain(); }

    // ---- memory
    struct List {
        std::string name;
        size_t bytes;
    };
    std::vector<List> lists() const;  // what the model takes, by kind; known before allocate()
    size_t bytes() const;
    void allocate();  // throws Error where the device has too little memory, and says what would fit

    // ---- settings
    void init_weights(uint64_t seed);
    void set_optimizer(const OptimizerSettings&);
    void set_graph(bool);        // whether training_passes() and decode() may be recorded; default: yes
    void set_profile(Profile*);  // times every operation from now on; nullptr: stop

    // ---- passes
    /* tokens and targets: host memory, cu_seqlens.back() of each. targets may be nullptr. first: tokens of
       the micro-batch that ranks before this one have. */
    void set_batch(const int* tokens, const int* targets, const std::vector<int>& cu_seqlens,
                   const StepState&, int first = 0);
    void forward(Pass = Pass::inference);
    /* After forward(). Leaves the loss of each token; in training also the gradient of the hidden state. */
    void loss(Pass = Pass::inference);
    /* After loss(Pass::training). last: of the step; then ranks add their gradients. */
    void backward(bool last = true);
    /* Whether moba layers compute full attention in the passes from now on; decode() does not change. */
    void set_full(bool);
    /* forward, loss and backward of training: recorded, and replayed for a batch of the same shape. Returns
       whether it was replayed. */
    bool training_passes(bool last = true);
    /* For a rank without a sample in the last micro-batch of a step, instead of the passes. */
    void skip_last_passes();
    void decode(int token);  // one more token, after those of forward() and decode()
    /* The attention of decode(), full or moba, in all layers but windows. Default: each layer's own kind. */
    void set_decode_attention(AttentionKind);

    // ---- the optimizer step
    void zero_gradients();
    void update(const StepState&);
    void update();  // with set_batch()'s state: clips, then AdamW; a norm that is not finite changes nothing
    double gradient_norm();  // of the last update(), before clipping

    struct StepResult {
        // Sums over the counted targets of all micro-batches since zero_gradients(), of this rank's samples.
        double loss, correct;
        double norm;  // of the last update()
    };
    StepResult step_result();  // the only time in a step that the host waits; with ranks, update() waits too

    // ---- results
    /* One for each token of the batch, 0 for tokens without a target. */
    void read_losses(std::vector<A>& losses, std::vector<int>& correct);
    /* (count, V), for the tokens from `first` on; with asked_only, for the asked tokens from number `first`
       on. */
    void read_logits(int first, int count, std::vector<A>& logits);

    const Ctx& ctx() const { return ctx_; }
    Comm& comm() const { return *comm_; }
    const Config& config() const { return config_; }
    const std::vector<ParamInfo>& params() const { return params_; }
    size_t num_parameters() const;
    /* One tensor between host and device: weights, gradients or moments. */
    enum class Kind { weight, gradient, moment1, moment2 };
    void read_param(Kind, const ParamInfo&, std::vector<A>&) const;
    // Of a weight also the copy that kernels read. With ranks, each one keeps what it owns.
    void write_param(Kind, const ParamInfo&, const std::vector<A>&);
    size_t attention_sent() const { return context_ ? context_->sent() : 0; }  // bytes, to other ranks
    size_t owned_elements() const { return owned_elements_; }                  // of params, with gaps

    /* The first tensor with a value that is not finite: weights, activations in forward order, gradients. ""
       if none. */
    std::string first_not_finite() const;
    bool guards_intact(std::string* broken) const;

    /* What a layer computed in the last forward pass, for tests and pictures. Without training there is one
       set of tensors, so they hold the last layer's values. With recompute the same, except for x and
       routing; backward() overwrites them with those of earlier layers. */
    struct LayerState {
        E* x;                // (M, C) input
        E* norm1;            // (M, C)
        A* rstd1;            // (M)
        E* q;                // (M, H, D) rotated where the layer has RoPE
        E* k_raw;            // (M, G, D) keys before the convolution; without one, the keys
        E* k;                // (M, G, D) keys after the convolution; == k_raw where no layer has one
        E* v;                // (M, G, D)
        E* attn;             // (M, H, D)
        A* lse;              // (H, M)
        E* after_attention;  // (M, C) x plus the output of attention
        E* norm2;            // (M, C)
        A* rstd2;            // (M)
        E* gate_up;          // (M, 2F); backward() replaces it by its gradient
        E* act;              // (M, F)
        Routing routing;
    };
    const LayerState& layer(int l) const { return state_[l]; }
    const E* keys(int l) const { return config_.has_key_conv(l) ? state_[l].k : state_[l].k_raw; }
    const Sequences& sequences() const { return host_seqs_; }
    bool asked_only() const { return sizes_.asked_only; }
    const std::vector<int>& asked() const { return asked_; }

  private:
    std::string activation_not_finite() const;

    // ---- model_memory.cpp. Each plan_ function is run twice: arena.h
    void plan();
    void plan_weights();
    void plan_activations();
    void plan_layer(int l, E* x);
    void plan_routing(int l);
    void plan_cache();
    void plan_gradients();
    void plan_tables();
    E* activation(const std::string& name, size_t width);  // (M, width)
    A* statistic(const std::string& name, size_t width);   // (M, width)
    size_t workspace_needed() const;
    std::string shortage(size_t available) const;
    std::vector<const Arena*> arenas() const;

    // ---- model_update.cpp
    struct Piece {
        size_t begin, owned, count;
    };
    Piece piece(int rank, const ParamInfo&) const;
    void add_ranks(int bucket);

    // ---- model_pass.cpp
    Ctx attention_ctx() const;
    void layers_forward();
    void project_qkv(int l);
    void choose_blocks(int l);
    void attend(int l);
    void attention_out(int l, const E* x);
    void last_layer_of_asked();
    void convolve_keys(int l);
    void cache_keys_and_values(int l);
    void mlp_forward(int l);
    void mlp_out(int l, E* x, E* norm, A* rstd, const E* w_norm);
    void mlp_backward(int l);
    void attention_backward(int l);
    void recompute_layer(int l);
    E* branch_gradient(int layer, DropoutSite);
    std::vector<int> batch_shape() const;
    std::vector<int> take_own_tokens(const std::vector<int>& cu_seqlens);
    int decode_longest() const;
    AttentionShape attention_shape(int l) const;  // of forward() and backward()

    int width_q() const { return config_.num_heads * config_.head_dim; }      // H*D
    int width_kv() const { return config_.num_kv_heads * config_.head_dim; }  // G*D
    CacheShape cache_shape() const;
    bool is_short(int l) const { return sizes_.asked_only && l == config_.num_layers - 1; }
    QkvShape qkv_shape(int l) const;
    SwigluShape swiglu_shape() const;
    LinearShape linear(int inputs, int outputs) const { return {seqs_.num_tokens, inputs, outputs}; }
    NormShape norm_shape() const;
    DropoutShape dropout(int layer, DropoutSite) const;

    Config config_;
    ModelSizes sizes_;
    Ctx ctx_;
    const Ops<E>* op_;
    const WorkspaceBytes<E>* workspaces_;
    const DeviceOps* device_;
    std::vector<ParamInfo> params_;
    size_t param_elements_ = 0, owned_elements_ = 0;
    OptimizerSettings optimizer_;

    Comm* comm_;
    int rank_, ranks_;
    std::unique_ptr<ContextAttention<E>> context_;  // nullptr: sizes_.context is 1
    std::vector<Bucket> buckets_;
    size_t bucket_sums_ = 0;  // sums of squares of what a rank owns
    std::vector<ParamRange> host_ranges_;
    std::vector<int> bucket_ranges_;  // (buckets + 1) where the ranges of each begin

    Arena weights_, gradients_, moments_, activations_, backward_, kv_cache_, tables_, workspace_;

    // Weights. All of a kind in one allocation of param_elements_, or of owned_elements_.
    A* w_ = nullptr;                 // master weights; where E is not A: the owned ones
    E* w_compute_ = nullptr;         // rounded, as the kernels read them; nullptr where E is A
    A* g_ = nullptr;                 // gradients; after add_ranks() the owned slices hold the sums
    A* m_ = nullptr;                 // first moments of the owned weights
    A* v_ = nullptr;                 // second moments of the owned weights
    A* received_ = nullptr;          // (largest bucket) scratch of add_ranks()
    double* square_sums_ = nullptr;  // (ranks, bucket_sums_)
    Params<E> weight_;
    Params<A> gradient_;

    // Activations
    std::vector<LayerState> state_;
    E* final_x_;          // (M, C) output of the last layer
    E* final_norm_;       // (M, C)
    A* final_rstd_;       // (M)
    E* residual_branch_;  // (M, C) what a layer adds to x; in loss() the hidden states of counted tokens
    E* qkv_;              // (M, H+2G, D) of one product: of the current layer, or its gradient
    A* logits_;           // (chunk_tokens_, V)
    A* losses_;           // (M), counted tokens first
    A* means_ = nullptr;  // of the last layer's keys, as Cache::means; with asked_only, without a cache

    // Gradients of activations, of the current layer; in training only
    E* dx_;         // (M, C) of the residual stream
    E* dbranch_;    // (M, C) of a branch, after its dropout; == dx_ without dropout
    E* dnorm_;      // (M, C)
    E* dattn_;      // (M, H, D)
    A* delta_;      // (H, M) <dattn, attn>
    E* dq_;         // (M, H, D)
    E* dk_;         // (M, G, D)
    E* dk_raw_;     // (M, G, D) before the convolution; == dk_ without one
    E* dv_;         // (M, G, D)
    E* dact_;       // (M, F)
    E* dlogits_;    // (chunk_tokens_, V); == logits_ where E is A
    double* sums_;  // (2) loss, correct targets
    A* norm_;       // (1) after sums_, so that one copy reads all three

    // Tables
    int* tokens_;                   // (M)
    int* token_numbers_ = nullptr;  // (M) in the whole micro-batch; with ranks and dropout
    int* counted_rows_;   // (M) indices of the tokens with a target; with asked_only, of the asked tokens
    int* targets_;        // (M) of these
    int* correct_;        // (M) of these: 1 where the largest logit is the target's
    int* seq_table_;      // (seq_capacity_) what build_sequences made
    A* rope_table_;       // (rope_table_size) rope.h
    StepState* step_;     // (1)
    ParamRange* ranges_;  // (params)

    // The cache of decode()
    struct Cache {
        E* k_raw;  // (cache_tokens, G, D) before the convolution; nullptr without one
        E* k;      // (cache_tokens, G, D)
        E* v;      // (cache_tokens, G, D)
        A* means;  // (first_mean(G)): (D, columns) for each key/value head, decode.h
    };
    std::vector<Cache> cache_;
    std::vector<LayerKind> decode_layers_;
    int cached_ = 0;         // tokens in the cache
    bool decoding_ = false;  // the current pass is decode()'s
    bool full_ = false;      // set_full()

    int chunk_tokens_;   // tokens whose logits exist at a time
    float dropout_ = 0;  // of the current pass
    size_t seq_capacity_, workspace_bytes_;
    Recording training_passes_, decode_pass_;

    struct Probe {  // a tensor that first_not_finite() checks
        std::string name;
        const void* data;
        size_t count;
        bool wide;  // acc_t<E>, not E
    };
    std::vector<Probe> probes_;
    std::vector<int> host_seq_table_, counted_;  // counted_: the tokens of the batch that have a target
    std::vector<int> whole_table_;               // with context_, of the sequences of all its ranks
    std::vector<int> asked_;                     // with asked_only, the asked tokens
    // Of the batch, and of the rows that the current operation computes: in decode() the new token, in the
    // last layer with asked_only the asked ones.
    Sequences host_seqs_{}, seqs_{};
};

}  // namespace moba

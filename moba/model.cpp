/* A model's settings, its first weights, and values that are not finite. */
#include "moba/model.h"
#include "moba/core/philox.h"
#include <algorithm>

namespace moba {

/* Bytes of the logits of one chunk of tokens. Every chunk reads and writes the whole gradient of the head,
   and reads the head's weights twice: 12 V C bytes, while the logits of one token move 14 V. So on a GPU a
   chunk has thousands of tokens. Chunks that stay in 50 MB of L2 (200 tokens at V = 50304) would move 46 V
   bytes a token at C = 768. */
static size_t logits_budget_bytes(Device d) { return d == Device::cpu ? 64 << 20 : 1 << 30; }

template <class E>
Model<E>::Model(Config config, ModelSizes sizes, Device device, Comm& comm)
    : config_(std::move(config)), sizes_(sizes), op_(find_profiled_ops<E>(device, nullptr)),
      workspaces_(find_workspaces<E>(device)), device_(find_device(device)), comm_(&comm), rank_(comm.rank()),
      ranks_(comm.size()), weights_("weights", device_), gradients_("gradients", device_),
      moments_("AdamW moments", device_), activations_("activations", device_),
      backward_("activation gradients", device_), kv_cache_("key and value cache", device_),
      tables_("index tables", device_), workspace_("workspace", device_), training_passes_(nullptr),
      decode_pass_(nullptr) {
    REQUIRE(op_ && device_, "device %d in this build", (int)device);
    REQUIRE(sizes.max_tokens >= 1 && sizes.max_seqs >= 1 && sizes.max_position >= 1, "max_tokens = %d",
            sizes.max_tokens);
    REQUIRE(!sizes.asked_only || (!sizes.training && sizes.max_seqs == 1),
            "asked_only with training, %d sequences", sizes.max_seqs);
    REQUIRE(!sizes.recompute || (sizes.training && !sizes.cache_tokens),
            "recompute where there is a backward pass, without a cache of %d", sizes.cache_tokens);
    validate(config_);
    if (device == Device::gpu && config_.head_dim > max_head_dim_gpu) {
        throw Error("head_dim = " + std::to_string(config_.head_dim) + ": the GPU's kernels take at most " +
                    std::to_string(max_head_dim_gpu) + "; --device cpu takes more");
    }
    if (sizes_.context > 1) {
        need(!config_.key_conv && config_.num_block_sizes == 1,
             "--context-parallel: not with --key-conv or --num-blocks");
        REQUIRE(ranks_ % sizes_.context == 0 && !sizes_.cache_tokens && !sizes_.asked_only &&
                    !sizes_.full_too,
                "%d ranks, context %d", ranks_, sizes_.context);
        context_ = std::make_unique<ContextAttention<E>>(config_, sizes_.max_tokens, sizes_.max_seqs,
                                                         sizes_.training, device, comm, sizes_.context);
        sizes_.max_tokens = context_->most_tokens();
    }
    ctx_.device = device;
    ctx_.stream = device_->stream();
    set_graph(true);
    decode_layers_ = config_.layers;
    const ParamList list = list_params(config_, ranks_);
    params_ = list.params, buckets_ = list.buckets;
    param_elements_ = list.elements, owned_elements_ = list.owned;
    for (const Bucket& b : buckets_) { bucket_sums_ += square_sums_count(b.slice); }
    const size_t row = (size_t)config_.vocab_size * sizeof(A);
    const size_t affordable = round_up(logits_budget_bytes(device) / row, (size_t)64);
    chunk_tokens_ = (int)std::min(std::max<size_t>(affordable, 64), (size_t)sizes_.max_tokens);
    seq_capacity_ =
        std::max<size_t>(1, sequences_capacity(sizes_.max_tokens, sizes.max_seqs, config_.block_sizes()));
    workspace_bytes_ = workspace_needed();
    plan();
}

template <class E>
size_t Model<E>::num_parameters() const {
    size_t sum = 0;
    for (const ParamInfo& p : params_) { sum += p.count; }
    return sum;
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
}

template <class X>
static bool all_finite(const std::vector<X>& values) {
    return std::all_of(values.begin(), values.end(), [](X x) { return std::isfinite((double)x); });
}

template <class E>
std::string Model<E>::first_not_finite() const {
    std::vector<A> values;
    for (const ParamInfo& p : params_) {
        read_param(Kind::weight, p, values);
        if (!all_finite(values)) { return "weight " + p.name; }
    }
    // Each rank has other activations.
    for (const std::string& activation : comm_->all_gather(activation_not_finite())) {
        if (!activation.empty()) { return "activation " + activation; }
    }
    for (const ParamInfo& p : params_) {
        if (!g_) { continue; }
        read_param(Kind::gradient, p, values);
        if (!all_finite(values)) { return "gradient of " + p.name; }
    }
    return "";
}

template <class E>
std::string Model<E>::activation_not_finite() const {
    std::vector<A> wide;
    std::vector<E> low;
    for (const Probe& p : probes_) {
        wide.resize(p.wide ? p.count : 0);
        low.resize(p.wide ? 0 : p.count);
        if (p.wide) {
            device_->to_host(ctx_, wide.data(), p.data, p.count * sizeof(A));
        } else {
            device_->to_host(ctx_, low.data(), p.data, p.count * sizeof(E));
        }
        if (!all_finite(wide) || !all_finite(low)) { return p.name; }
    }
    return "";
}

template class Model<double>;
template class Model<float>;
template class Model<bf16>;

}  // namespace moba

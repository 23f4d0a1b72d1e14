/* What a model is: sizes, the kind of every layer, and how MoBA chooses. Names as in Hugging Face's
   config.json; what they have no name for lies under one key, `moba`.

   | field             | letter |                       | field      | letter |
   | hidden_size       | C      |                       | block_size | S      |
   | num_heads         | H      |                       | top_k      | K      |
   | num_kv_heads      | G      |                       | vocab_size | V      |
   | head_dim          | D      |                       | num_layers | L      |
   | intermediate_size | F      |                       |            |        | */
#pragma once
#include "moba/attention/attention.h"
#include <algorithm>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moba {

constexpr int max_key_conv = 5;  // taps

enum class Position { rope, none };

struct LayerKind {
    AttentionKind attention = AttentionKind::moba;
    Position position = Position::rope;
    int window = 0;  // tokens, kind window only

    bool operator==(const LayerKind&) const = default;
};

/* How RoPE is scaled for positions beyond the original length, in Hugging Face's terms. linear: divides all
   frequencies by factor. llama3 (Llama 3.1): divides those of waves longer than original / low_freq_factor,
   keeps those of waves shorter than original / high_freq_factor, and interpolates between. yarn (Peng et al.
   2023, arXiv:2309.00071): divides those that turn less than once within the original length, keeps those
   that turn more than 32 times, interpolates between by their index, and multiplies q and k by
   0.1 ln(factor) + 1. */
enum class RopeType { none, linear, llama3, yarn };
struct RopeScaling {
    RopeType type = RopeType::none;
    double factor = 1, low_freq_factor = 1, high_freq_factor = 4;
    int original_max_position_embeddings = 8192;

    bool operator==(const RopeScaling&) const = default;
};

struct Config {
    int vocab_size = 0;
    int hidden_size = 64;
    int num_layers = 2;
    int num_heads = 1;
    int num_kv_heads = 1;
    int head_dim = 64;
    int intermediate_size = 128;
    int max_position_embeddings = 256;  // the length trained for, in tokens; longer runs are allowed
    double rms_norm_eps = 1e-5;
    double rope_theta = 10000;
    RopeScaling rope_scaling;
    bool tie_word_embeddings = false;

    std::vector<LayerKind> layers;  // one for each layer
    int block_size = 16;
    int top_k = 3;
    Gate gate = Gate::topk;
    bool shared_gate = false;  // query heads of a key/value head choose together
    int key_conv = 0;          // taps, in moba and full layers; 0 = none
    // key/value head g uses block_size >> (g % num_block_sizes), top_k << the same
    int num_block_sizes = 1;
    double embedding_std = 0.5;  // of the normal distribution that the embedding starts from

    bool has_key_conv(int layer) const {
        return key_conv > 0 && layers[layer].attention != AttentionKind::window;
    }
    bool has(AttentionKind kind) const {
        return std::any_of(layers.begin(), layers.end(),
                           [=](const LayerKind& k) { return k.attention == kind; });
    }
    BlockSizes block_sizes() const { return {block_size, num_block_sizes}; }
    AttentionShape attention_shape(int layer) const;
    std::vector<double> rope_frequencies() const;  // D/2 numbers
    double rope_length() const;                    // what RoPE multiplies the length of q and k by
    // Share of the causal query-key pairs that a layer of this kind leaves out at length T; and the mean over
    // all layers.
    double sparsity(const LayerKind&, int T) const;
    double sparsity(int T) const;
    // Whether moba layers are full attention at this length: K blocks of S tokens cover the whole sequence.
    bool is_full_at(int tokens) const { return (int64_t)block_size * top_k >= tokens; }
    bool is_plain_llama() const;  // weights and positions are Llama's
};

/* Throws Error: one line that names the setting, its value and what is allowed. */
void validate(const Config&);

/* "moba:rope,full:none,window:64:rope", repeated to num_layers; position defaults to rope. */
std::vector<LayerKind> parse_layers(const std::string& pattern, int num_layers);
std::string layer_name(const LayerKind&);
/* The names of all layers in order: as a list, or as one text. */
std::vector<std::string> layer_names(const Config&);
std::string layer_names(const Config&, const std::string& separator);
std::string layer_summary(const Config&);  // "window:32:rope, 5 x moba:none"
/* "", "linear:F", "yarn:F:ORIGINAL" or "llama3:F:LOW:HIGH:ORIGINAL". Throws Error. */
RopeScaling parse_rope_scaling(const std::string&);
std::string rope_scaling_name(const RopeScaling&);
Gate parse_gate(const std::string&);
std::string gate_name(Gate);

nlohmann::json config_to_json(const Config&);
Config config_from_json(const nlohmann::json&, const std::string& where);  // where: the file, for messages

}  // namespace moba

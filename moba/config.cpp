#include "moba/config.h"
#include "moba/core/decimal.h"
#include <algorithm>

namespace moba {

AttentionShape Config::attention_shape(int layer) const {
    const LayerKind& kind = layers[layer];
    return {num_heads,      num_kv_heads, head_dim,
            kind.attention, kind.window,  {num_heads, num_kv_heads, head_dim, top_k, gate, shared_gate}};
}

std::vector<double> Config::rope_frequencies() const {
    std::vector<double> f;
    for (int i = 0; i < head_dim / 2; i++) { f.push_back(std::pow(rope_theta, -2.0 * i / head_dim)); }
    const RopeScaling& r = rope_scaling;
    const double original = r.original_max_position_embeddings;
    const auto index_of =
        [&](double turns) {  // of the frequency that turns so often within the original length
            return head_dim * std::log(original / (turns * 2 * M_PI)) / (2 * std::log(rope_theta));
        };
    double first = 0, last = 0;  // yarn: where the kept frequencies end, and where the divided ones begin
    if (r.type == RopeType::yarn) {
        first = std::max(0.0, std::floor(index_of(32)));
        last = std::min(head_dim - 1.0, std::ceil(index_of(1)));
        if (last == first) { last += 0.001; }
    }
    for (int i = 0; i < head_dim / 2; i++) {
        double keep = r.type == RopeType::none;  // share of the frequency that is not divided
        if (r.type == RopeType::llama3) {
            const double waves = original * f[i] / (2 * M_PI);  // within the original length
            keep =
                std::clamp((waves - r.low_freq_factor) / (r.high_freq_factor - r.low_freq_factor), 0.0, 1.0);
        } else if (r.type == RopeType::yarn) {
            keep = 1 - std::clamp((i - first) / (last - first), 0.0, 1.0);
        }
        f[i] = keep * f[i] + (1 - keep) * f[i] / r.factor;
    }
    return f;
}

double Config::rope_length() const {
    const bool longer = rope_scaling.type == RopeType::yarn && rope_scaling.factor > 1;
    return longer ? 0.1 * std::log(rope_scaling.factor) + 1 : 1;
}

double Config::sparsity(const LayerKind& k, int T) const {
    const double causal = T * (T + 1.0) / 2, S = block_size, w = std::min(k.window, T);
    double seen = 0;
    switch (k.attention) {
    case AttentionKind::full:
        return 0;
    case AttentionKind::window:
        seen = w * (w + 1) / 2 + (T - w) * w;
        break;
    case AttentionKind::moba:
        for (int n = 0; n * block_size < T; n++) {  // the queries of block n
            const double queries = std::min(block_size, T - n * block_size);
            seen += queries * std::min(n, top_k - 1) * S + queries * (queries + 1) / 2;
        }
    }
    return 1 - seen / causal;
}

double Config::sparsity(int T) const {
    double sum = 0;
    for (const LayerKind& k : layers) { sum += sparsity(k, T); }
    return sum / (double)layers.size();
}

bool Config::is_plain_llama() const {
    return key_conv == 0 && std::all_of(layers.begin(), layers.end(), [](const LayerKind& k) {
               return k.position == Position::rope && k.attention != AttentionKind::window;
           });
}

static void in_range(const char* name, double value, double lo, double hi) {
    char text[160];
    std::snprintf(text, sizeof text, "%s = %g: must be between %g and %g", name, value, lo, hi);
    need(value >= lo && value <= hi, text);
}

void validate(const Config& c) {
    in_range("vocab_size", c.vocab_size, 1, 1 << 24);
    in_range("hidden_size", c.hidden_size, 1, 1 << 20);
    in_range("num_layers", c.num_layers, 1, 1024);
    in_range("num_heads", c.num_heads, 1, 1024);
    in_range("num_kv_heads", c.num_kv_heads, 1, c.num_heads);
    in_range("head_dim", c.head_dim, 2, 1024);
    in_range("intermediate_size", c.intermediate_size, 1, 1 << 22);
    in_range("max_position_embeddings", c.max_position_embeddings, 1, 1 << 30);
    in_range("rms_norm_eps", c.rms_norm_eps, 1e-12, 1);
    in_range("rope_theta", c.rope_theta, 1, 1e12);
    const RopeScaling& r = c.rope_scaling;
    in_range("rope_scaling factor", r.factor, 1e-3, 1e6);
    in_range("rope_scaling original_max_position_embeddings", r.original_max_position_embeddings, 1, 1 << 30);
    in_range("rope_scaling low_freq_factor", r.low_freq_factor, 1e-3, 1e6);
    in_range("rope_scaling high_freq_factor", r.high_freq_factor, 1e-3, 1e6);
    need(r.high_freq_factor > r.low_freq_factor,
         "rope_scaling: high_freq_factor must be greater than low_freq_factor");
    in_range("embedding_std", c.embedding_std, 1e-6, 100);
    in_range("num_blocks", c.num_block_sizes, 1, max_levels);
    in_range("block_size", c.block_size, 4, 1 << 16);
    in_range("top_k", c.top_k, 1, max_top_k);
    const auto n = [](int i) { return std::to_string(i); };
    need(c.num_heads % c.num_kv_heads == 0,
         "num_heads = " + n(c.num_heads) + ": must be a multiple of num_kv_heads = " + n(c.num_kv_heads));
    need(c.head_dim % 2 == 0, "head_dim = " + n(c.head_dim) + ": must be even (RoPE turns pairs)");
    need(c.block_size % 4 == 0, "block_size = " + n(c.block_size) + ": must be a multiple of 4");
    const int m = c.num_block_sizes - 1;
    need((c.block_size >> m) % 4 == 0 && (c.block_size >> m) << m == c.block_size,
         "num_blocks = " + n(c.num_block_sizes) + ": block_size = " + n(c.block_size) + " halved " + n(m) +
             " times must be a multiple of 4");
    need((c.top_k << m) <= max_top_k, "num_blocks = " + n(c.num_block_sizes) + ": top_k doubled " + n(m) +
                                          " times must be at most " + n(max_top_k));
    need(c.key_conv == 0 || c.key_conv == 3 || c.key_conv == 5,
         "key_conv = " + n(c.key_conv) + ": must be 0, 3 or 5");
    need((int)c.layers.size() == c.num_layers,
         "layers: " + n((int)c.layers.size()) + " kinds for " + n(c.num_layers) + " layers");
    for (const LayerKind& k : c.layers) {
        need(k.attention != AttentionKind::window || k.window >= 1,
             "layers: window:" + n(k.window) + ": must be at least 1 token");
    }
    // sizes are kept as size_t, but one tensor must stay addressable
    need((double)c.vocab_size * c.hidden_size < 1e12 && (double)c.hidden_size * c.intermediate_size < 1e12,
         "the weights of this model would not fit into any memory");
}

static std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> parts(1);
    for (char c : text) {
        if (c == at) {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    return parts;
}

static LayerKind parse_layer(const std::string& text) {
    const std::string usage = "layers: '" + text + "': must be full, moba or window:W, then :rope or :none";
    std::vector<std::string> part = split(text, ':');
    LayerKind k;
    size_t next = 1;
    if (part[0] == "full") {
        k.attention = AttentionKind::full;
    } else if (part[0] == "window") {
        k.attention = AttentionKind::window;
        const std::optional<int> window = parse_whole<int>(part.size() >= 2 ? part[1] : "");
        need(window && *window >= 0, usage);
        k.window = *window;
        next = 2;
    } else {
        need(part[0] == "moba", usage);
    }
    if (next < part.size()) {
        need(part.size() == next + 1 && (part[next] == "rope" || part[next] == "none"), usage);
        k.position = part[next] == "rope" ? Position::rope : Position::none;
    }
    return k;
}

std::vector<LayerKind> parse_layers(const std::string& pattern, int num_layers) {
    const std::vector<std::string> parts = split(pattern, ',');
    std::vector<LayerKind> out;
    for (int i = 0; i < num_layers; i++) { out.push_back(parse_layer(parts[i % parts.size()])); }
    for (const std::string& p : parts) { parse_layer(p); }  // also those beyond the last layer
    return out;
}

std::string layer_name(const LayerKind& k) {
    const std::string kind = k.attention == AttentionKind::full   ? "full"
                             : k.attention == AttentionKind::moba ? "moba"
                                                                  : "window:" + std::to_string(k.window);
    return kind + (k.position == Position::rope ? ":rope" : ":none");
}

std::vector<std::string> layer_names(const Config& c) {
    std::vector<std::string> names;
    for (const LayerKind& k : c.layers) { names.push_back(layer_name(k)); }
    return names;
}

std::string layer_names(const Config& c, const std::string& separator) {
    std::string text;
    for (const std::string& name : layer_names(c)) { text += (text.empty() ? "" : separator) + name; }
    return text;
}

std::string layer_summary(const Config& c) {
    const std::vector<std::string> names = layer_names(c);
    std::string text;
    for (size_t l = 0, same; l < names.size(); l += same) {
        for (same = 1; l + same < names.size() && names[l + same] == names[l];) { same++; }
        text += (l ? ", " : "") + (same > 1 ? std::to_string(same) + " x " : "") + names[l];
    }
    return text;
}

RopeScaling parse_rope_scaling(const std::string& text) {
    RopeScaling r;
    if (text.empty()) { return r; }
    const std::vector<std::string> part = split(text, ':');
    const struct {
        const char* name;
        RopeType type;
        std::vector<double*> numbers;
        bool original;  // the original length comes last
    } kinds[] = {{"linear", RopeType::linear, {&r.factor}, false},
                 {"yarn", RopeType::yarn, {&r.factor}, true},
                 {"llama3", RopeType::llama3, {&r.factor, &r.low_freq_factor, &r.high_freq_factor}, true}};
    bool good = false;
    for (const auto& kind : kinds) {
        if (part[0] != kind.name || part.size() != 1 + kind.numbers.size() + kind.original) { continue; }
        good = true;
        r.type = kind.type;
        for (size_t i = 0; i < kind.numbers.size(); i++) {
            const std::optional<double> x = parse_decimal(part[1 + i]);
            good &= x.has_value();
            *kind.numbers[i] = x.value_or(0);
        }
        if (kind.original) {
            const std::optional<int> n = parse_whole<int>(part.back());
            good &= n.has_value();
            r.original_max_position_embeddings = n.value_or(0);
        }
    }
    need(good, "rope-scaling = '" + text +
                   "': must be linear:F, yarn:F:ORIGINAL or llama3:F:LOW:HIGH:ORIGINAL, e.g. linear:4, "
                   "yarn:4:2048 or "
                   "llama3:8:1:4:8192");
    return r;
}

std::string rope_scaling_name(const RopeScaling& r) {
    char text[100] = "";
    if (r.type == RopeType::linear) {
        std::snprintf(text, sizeof text, "linear:%g", r.factor);
    } else if (r.type == RopeType::yarn) {
        std::snprintf(text, sizeof text, "yarn:%g:%d", r.factor, r.original_max_position_embeddings);
    } else if (r.type == RopeType::llama3) {
        std::snprintf(text, sizeof text, "llama3:%g:%g:%g:%d", r.factor, r.low_freq_factor,
                      r.high_freq_factor, r.original_max_position_embeddings);
    }
    return text;
}

static const char* gate_names[] = {"topk", "max", "lse", "recent", "sink"};  // in the order of enum Gate

Gate parse_gate(const std::string& text) {
    for (int i = 0; i < 5; i++) {
        if (text == gate_names[i]) { return (Gate)i; }
    }
    throw Error("gate = '" + text + "': must be topk, max, lse, recent or sink");
}
std::string gate_name(Gate g) { return gate_names[(int)g]; }

}  // namespace moba

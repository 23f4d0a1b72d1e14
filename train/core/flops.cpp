#include "train/core/flops.h"
#include "moba/core/arena.h"
#include "moba/core/clock.h"
#include "moba/op_table.h"
#include <algorithm>

namespace moba {

StepFlop step_flop_parts(const Config& c, size_t num_parameters, const std::vector<int>& cu_seqlens,
                         int counted) {
    const double embedding = (double)c.vocab_size * c.hidden_size, tokens = cu_seqlens.back(),
                 weights = (double)num_parameters - (c.tie_word_embeddings ? 1 : 2) * embedding;
    StepFlop flop{6 * (weights * tokens + embedding * counted)};
    for (size_t i = 0; i + 1 < cu_seqlens.size(); i++) {
        const int T = cu_seqlens[i + 1] - cu_seqlens[i];
        for (const LayerKind& kind : c.layers) {
            const double pairs = T * (T + 1.0) / 2 * (1 - c.sparsity(kind, T));
            (kind.attention == AttentionKind::moba ? flop.moba : flop.dense) +=
                14.0 * c.head_dim * c.num_heads * pairs;
        }
    }
    return flop;
}

double step_flop(const Config& c, size_t num_parameters, const std::vector<int>& cu_seqlens, int counted) {
    const StepFlop flop = step_flop_parts(c, num_parameters, cu_seqlens, counted);
    return flop.products + flop.moba + flop.dense;
}

// Peaks of the data sheets, without sparsity, in TFLOP/s. Names as the driver reports them; a part of a card
// (MIG) has another name.
static const struct {
    const char* name;
    double low, fp32;
} cards[] = {
    {"NVIDIA H200", 989.4, 66.9},
    {"NVIDIA H200 NVL", 835.5, 60},
    {"NVIDIA GH200 480GB", 989.4, 66.9},
    {"NVIDIA H100 80GB HBM3", 989.4, 66.9},
    {"NVIDIA H100 NVL", 835.5, 60},
    {"NVIDIA H100 PCIe", 756, 51},
    {"NVIDIA A100-SXM4-40GB", 312, 19.5},
    {"NVIDIA A100-SXM4-80GB", 312, 19.5},
    {"NVIDIA A100-PCIE-40GB", 312, 19.5},
    {"NVIDIA A100 80GB PCIe", 312, 19.5},
    {"NVIDIA A40", 149.7, 37.4},
    {"NVIDIA L40S", 362, 91.6},
    {"NVIDIA L4", 121, 30.3},
    {"NVIDIA GeForce RTX 4090", 165.2, 82.6},
    {"NVIDIA GeForce RTX 3090", 71, 35.6},
};

double published_peak(const std::string& device_name, bool low) {
    for (const auto& card : cards) {
        if (device_name == card.name) { return 1e12 * (low ? card.low : card.fp32); }
    }
    return 0;
}

template <class E>
double measured_peak(Device device) {
    const Ops<E>& op = *find_ops<E>(device);
    const DeviceOps* device_ops = find_device(device);
    Ctx ctx;
    ctx.device = device;
    double best = 0;
    for (int n = 256; n <= 4096; n *= 2) {  // small products are mostly overhead
        const LinearShape shape{n, n, n};
        const size_t elements = (size_t)n * n;
        Arena arena("product", device_ops);
        E *y = nullptr, *x = nullptr, *w = nullptr;
        for (int walk = 0; walk < 2; walk++) {
            y = arena.take<E>("y", elements), x = arena.take<E>("x", elements),
            w = arena.take<E>("w", elements);
            ctx.workspace_bytes = find_workspaces<E>(device)->linear(shape);
            ctx.workspace = arena.take<char>("workspace", ctx.workspace_bytes);
            try {
                if (walk == 0) { arena.allocate(); }
            } catch (const Error&) { return best; }  // the model has taken the memory
        }
        double ms = INFINITY;
        const double start = now_ms();
        for (int i = 0; i < 3 || (i < 20 && now_ms() - start < 20); i++) {
            device_ops->synchronize(ctx);
            const double begin = now_ms();
            op.linear_forward(ctx, y, x, w, shape);
            device_ops->synchronize(ctx);
            if (i > 0) { ms = std::min(ms, now_ms() - begin); }  // the first product wakes threads
        }
        best = std::max(best, 2.0 * n * elements / ms * 1000);
        if (ms > 5) { break; }
    }
    return best;
}

template <class E>
double peak_flops(Device device) {
    const double published = published_peak(find_device(device)->name(), std::is_same_v<E, bf16>);
    return published > 0 ? published : measured_peak<E>(device);
}

INSTANTIATE(measured_peak)
INSTANTIATE(peak_flops)

}  // namespace moba

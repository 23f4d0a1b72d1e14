#include "train/plan/step_time.h"
#include "moba/sent_bytes.h"
#include "train/core/flops.h"
#include <algorithm>

namespace moba {

// Of a micro-batch of a group.
static StepWork work_of(const StepPlan& p, const StepPlan::Samples& b, int context, bool recompute,
                        bool bf16) {
    const Config& c = p.config;
    const std::vector<int>& cu = b.cu_seqlens;
    const std::vector<double> dealt = dealt_tokens(c, cu, context);
    const double C = c.hidden_size, F = c.intermediate_size, L = c.num_layers, H = c.num_heads,
                 G = c.num_kv_heads, D = c.head_dim, number = bf16 ? 2 : 4, tokens = cu.back(),
                 again = recompute ? (L - 1) / L : 0,  // forward passes of the layers
        share = *std::max_element(dealt.begin(), dealt.end()) / tokens;
    const StepFlop flop = step_flop_parts(c, p.parameters, cu, b.counted);
    StepWork w;
    const double logits = 6.0 * c.vocab_size * C * b.counted;  // a third of products is the forward pass
    w.products = share * (flop.products + again / 3 * (flop.products - logits));
    w.moba = share * flop.moba * (1 + again * 4 / 14), w.dense = share * flop.dense * (1 + again * 4 / 14);
    double means = 0;  // that queries are compared with, in one layer
    for (size_t i = 0; i + 1 < cu.size(); i++) {
        const double T = cu[i + 1] - cu[i];
        means += T * std::ceil(T / c.block_size) * parts_of(c.gate);
    }
    for (const LayerKind& kind : c.layers) {
        if (kind.attention != AttentionKind::moba || !has_scores(c.gate)) { continue; }
        w.choice += share * (c.shared_gate ? G : H) * D * means;
    }
    // Of each layer and token, in elements. Forward: norms and residuals 9 C, q, k, v apart, RoPE, SwiGLU.
    const double qkv = (H + 2 * G) * D, rotated = (H + G) * D,
                 forward = 9 * C + 2 * qkv + 2 * rotated + 3 * F,
                 backward = 8 * C + 2 * H * D + 2 * qkv + 2 * rotated + 5 * F;
    w.bytes = share * (number * L * tokens * ((1 + again) * forward + backward) +
                       // logits, in fp32, read twice by the loss, once of it from L2; and their gradient
                       (6 + number) * c.vocab_size * b.counted);
    return w;
}

StepWork step_work(const StepPlan& p, int ranks, int context, bool recompute, bool bf16) {
    StepWork sum;
    for (const std::vector<StepPlan::Samples>& groups : p.batches) {
        const auto most = std::max_element(groups.begin(), groups.end(), [](const auto& a, const auto& b) {
            return a.cu_seqlens.back() < b.cu_seqlens.back();
        });
        const StepWork w = work_of(p, *most, context, recompute, bf16);
        sum.products += w.products, sum.moba += w.moba, sum.dense += w.dense, sum.choice += w.choice;
        sum.bytes += w.bytes;
    }
    // AdamW, for each weight that the rank owns: four fp32 numbers in, three out, and the rounded weight. All
    // gradients are set to zero, and the norm reads those that the rank owns.
    sum.bytes += (double)p.parameters * ((28 + (bf16 ? 2 : 0) + 4) / (double)ranks + 4);
    return sum;
}

StepTime step_time(const LabCard& card, const Config& c, const StepWork& w, bool bf16) {
    const double peak = bf16 ? card.tensor : card.fp32;
    const bool wide = c.head_dim >= 128;
    // bf16: 600 TFLOP/s of an H100. fp32: 51.
    const double products = bf16 ? 0.63 : 0.86;
    // Forward and backward together: MoBA 113 TFLOP/s with heads of 64 channels, 202 with 128; full 350, 430.
    const double moba = !bf16 ? 0.45 : wide ? 0.21 : 0.12, dense = !bf16 ? 0.45 : wide ? 0.45 : 0.37;
    const double choice = 0.1;  // 65 TFLOP/s at 64K, 102 at 512K
    const double memory = 0.8;
    return {w.products / (peak * products), (w.moba / moba + w.dense / dense) / peak,
            w.choice / (peak * choice), w.bytes / (card.dram * memory)};
}

}  // namespace moba

#include "train/plan/step_time.h"

namespace moba {

StepWork step_work(const StepPlan& p, int ranks, bool recompute, bool bf16) {
    const Config& c = p.config;
    double tokens = 0, counted = 0;
    for (const StepPlan::MicroBatch& b : p.batches) { tokens += b.tokens, counted += b.counted; }
    const double C = c.hidden_size, F = c.intermediate_size, V = c.vocab_size, L = c.num_layers,
                 H = c.num_heads, G = c.num_kv_heads, D = c.head_dim, number = bf16 ? 2 : 4,
                 embedding = V * C,
                 weights = (double)p.parameters - (c.tie_word_embeddings ? 1 : 2) * embedding;
    const double again = recompute ? (L - 1) / L : 0;  // forward passes of the layers
    StepWork w;
    w.products = (6 + 2 * again) * weights * tokens + 6 * embedding * counted;
    std::vector<std::vector<int>> all;
    for (const StepPlan::MicroBatch& b : p.batches) {
        all.insert(all.end(), b.cu_seqlens.begin(), b.cu_seqlens.end());
    }
    for (const std::vector<int>& cu : all) {
        for (size_t i = 0; i + 1 < cu.size(); i++) {
            const double T = cu[i + 1] - cu[i];
            for (int l = 0; l < c.num_layers; l++) {
                const bool twice = recompute && l + 1 < c.num_layers;
                const double pairs = T * (T + 1) / 2 * (1 - c.sparsity(c.layers[l], (int)T));
                const bool moba = c.layers[l].attention == AttentionKind::moba;
                (moba ? w.moba : w.dense) += (twice ? 18 : 14) * D * H * pairs;
                w.choice += !moba ? 0 : H * D * T * std::ceil(T / c.block_size);
            }
        }
    }
    // Of each layer and token, in elements. Forward: norms and residuals 9 C, q, k, v apart, RoPE, SwiGLU.
    const double qkv = (H + 2 * G) * D, rotated = (H + G) * D,
                 forward = 9 * C + 2 * qkv + 2 * rotated + 3 * F,
                 backward = 8 * C + 2 * H * D + 2 * qkv + 2 * rotated + 5 * F;
    w.bytes = number * L * tokens * ((1 + again) * forward + backward)
              // logits, in fp32, read twice by the loss, which L2 makes one and a half; their gradient
              + (6 + number) * V * counted;
    w.products /= ranks, w.moba /= ranks, w.dense /= ranks, w.choice /= ranks, w.bytes /= ranks;
    // AdamW, for each weight that the rank owns: four fp32 numbers in, three out, and the rounded weight. All
    // gradients are set to zero, and the norm reads those that the rank owns.
    w.bytes += (double)p.parameters * ((28 + (bf16 ? 2 : 0) + 4) / (double)ranks + 4);
    return w;
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

/* FLOP of a step worked out by hand, peak speeds of devices, and the progress line that shows their quotient
   (MFU). */
#include "test/support/check.h"
#include "train/core/flops.h"
#include "train/core/progress.h"

namespace moba {

namespace {

Config config() {
    Config c;
    c.vocab_size = 100;
    c.hidden_size = 8;
    c.num_heads = 2;
    c.head_dim = 4;
    c.num_layers = 3;
    c.block_size = 16;
    c.top_k = 2;
    c.layers = parse_layers("moba,full,window:3", 3);
    return c;
}

TEST(Flops, ByHand) {
    Config c = config();
    // 40 tokens. moba: blocks of 16, 16 and 8 queries; each query sees its own block up to itself and one
    // other block
    const double moba = 136 + (16 * 16 + 136) + (8 * 16 + 36), full = 820, window = 1 + 2 + 38 * 3;
    const double attention = 14.0 * 4 * 2 * (moba + full + window);
    const double layers = 5000 - 2 * 800;  // weights without the embedding and the head
    EXPECT_NEAR(step_flop(c, 5000, {0, 40}, 40), 6 * (layers + 800) * 40 + attention, 1e-6);
    EXPECT_NEAR(step_flop(c, 5000, {0, 40}, 7), 6 * layers * 40 + 6 * 800 * 7 + attention, 1e-6)
        << "logits only for tokens with a target";
    // one more sequence, of one token: one pair in each layer
    EXPECT_NEAR(step_flop(c, 5000, {0, 40, 41}, 0), 6 * layers * 41 + attention + 14 * 4 * 2 * 3, 1e-6);
    c.tie_word_embeddings = true;
    EXPECT_NEAR(step_flop(c, 5000, {0, 40}, 7), 6 * (layers + 800) * 40 + 6 * 800 * 7 + attention, 1e-6);
}

TEST(Flops, Peaks) {
    EXPECT_DOUBLE_EQ(published_peak("NVIDIA H200", true), 989.4e12);
    EXPECT_DOUBLE_EQ(published_peak("NVIDIA H200", false), 66.9e12);
    EXPECT_DOUBLE_EQ(published_peak("NVIDIA H100 PCIe", true), 756e12);
    EXPECT_DOUBLE_EQ(published_peak("NVIDIA A100-SXM4-80GB", false), 19.5e12);
    for (const char* unknown : {"NVIDIA H200 MIG 1g.18gb", "NVIDIA A4000", "cpu", ""}) {
        EXPECT_EQ(published_peak(unknown, true), 0) << unknown;
    }
    const double begin = now_ms();
    const double fp32 = peak_flops<float>(Device::cpu), low = peak_flops<bf16>(Device::cpu);
    std::printf("  fp32 %.0f GFLOP/s, bf16 %.0f, measured in %.0f ms\n", fp32 / 1e9, low / 1e9,
                now_ms() - begin);
    for (double peak : {fp32, low}) { EXPECT_TRUE(peak > 1e8 && peak < 1e14) << peak; }
}

// A progress line is shortened by removing whole parts, and is never longer than the given width.
TEST(Flops, StepLine) {
    const StepReport r{1219, 1750, 4.71, 0.994, 0.61, 6e-5, 40, 0.41, 4140, 103, "T=256"};
    EXPECT_EQ(step_text(r, 1000),
              "step 1219/1750 T=256  loss 4.7100  acc  99.4%  norm 0.61  lr 6.00e-05  40 ms  "
              "103.5k tok/s  MFU 41.0%  ETA 1m43s");
    EXPECT_EQ(step_text(r, 86),
              "step 1219/1750 T=256  loss 4.7100  acc  99.4%  103.5k tok/s  MFU 41.0%  ETA 1m43s");
    EXPECT_EQ(step_text(r, 66), "step 1219/1750 T=256  loss 4.7100  acc  99.4%  ETA 1m43s");
    EXPECT_EQ(step_text(r, 9), "step 1219");
    for (int width = 0; width < 130; width++) { EXPECT_LE((int)step_text(r, width).size(), width); }
}

}  // namespace

}  // namespace moba

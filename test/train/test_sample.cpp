/* Sampling: which tokens each setting can and cannot choose. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/files/safetensors.h"
#include "train/run/sample.h"
#include <map>

namespace moba {

namespace {

std::map<int, int> drawn(const std::vector<float>& logits, const Sampling& s,
                         const std::vector<int>& before = {}) {
    std::map<int, int> count;
    Rng rng(1, Purpose::synthetic, 0);
    for (int i = 0; i < 4000; i++) { count[choose_token(logits, before, s, rng)]++; }
    return count;
}

TEST(Sample, GreedyTakesTheLikeliestLowestIndexOfEquals) {
    EXPECT_EQ(drawn({1, 3, 3, 0}, {.temperature = 0}), (std::map<int, int>{{1, 4000}}));
}

TEST(Sample, TemperatureOneIsTheSoftmax) {
    std::map<int, int> c = drawn({0, std::log(3.f)}, {.temperature = 1});
    EXPECT_NEAR(c[1] / 4000.0, 0.75, 0.03);
}

TEST(Sample, TopKAndTopPCut) {
    EXPECT_EQ(drawn({0, 1, 2, 3}, {.temperature = 5, .top_k = 2}).count(1), 0u);
    EXPECT_EQ(drawn({0, 1, 2, 3}, {.temperature = 5, .top_k = 2}).size(), 2u);
    // probabilities 0.1 0.2 0.7: the fewest tokens that together reach 0.75 are the last two
    const std::vector<float> p{std::log(1.f), std::log(2.f), std::log(7.f)};
    EXPECT_EQ(drawn(p, {.temperature = 1, .top_p = 0.75}).count(0), 0u);
    EXPECT_EQ(drawn(p, {.temperature = 1, .top_p = 0.75}).size(), 2u);
    EXPECT_EQ(drawn(p, {.temperature = 1, .top_p = 0.5}).size(), 1u);
}

TEST(Sample, RepetitionPenaltyPushesDown) {
    EXPECT_EQ(drawn({2, 1.5f}, {.temperature = 0, .repetition_penalty = 2}, {0}).count(0), 0u);
    EXPECT_EQ(drawn({-1, -1.5f}, {.temperature = 0, .repetition_penalty = 2}, {0}).count(0), 0u);
}

// Every weight is finite, but the scores of the attention overflow.
TEST(Sample, DivergedWeightsAreSaid) {
    const TempDir dir;
    ASSERT_EQ(moba(std::string(tiny_run) + "--steps 1 --out " + (dir / "run")).status, 0);
    const std::string path = dir / "run/latest/model.safetensors", copy = dir / "copy";
    std::filesystem::copy(path, copy);
    const Safetensors from(copy);
    std::vector<TensorSpec> specs;
    for (const auto& [name, view] : from.tensors()) {
        specs.push_back({name, {view.shape.begin(), view.shape.end()}});
    }
    write_safetensors(path, specs, from.metadata(), [&](size_t i, std::vector<float>& values) {
        values = from.floats(specs[i].name);
        const bool scores = specs[i].name.find("q_proj") != std::string::npos ||
                            specs[i].name.find("k_proj") != std::string::npos;
        for (float& x : values) { x *= scores ? 1e25f : 1; }
    });
    for (const std::string command :
         {"sample --prompt-ids 1,2,3 --temperature 0", "sample --prompt-ids 1,2,3 --temperature 1 --no-cache",
          "eval --samples 2 --depths 1"}) {
        expect_refused(command + " --device cpu --model " + (dir / "run"), 1, "is not finite");
    }
    expect_refused("sample --prompt-ids 1,2,3 --device cpu --model " + (dir / "run"), 1,
                   "first bad tensor: ");
}

}  // namespace

}  // namespace moba

#include "test/support/program.h"
#include "train/core/device_choice.h"
#include "train/plan/step_time.h"
#include <gtest/gtest.h>

namespace moba {

namespace {

const std::string gpt2 = "plan --vocab-size 50304 --hidden-size 768 --num-layers 12 --num-heads 12 "
                         "--intermediate-size 2112 --tie-word-embeddings --block-size 128 ";

// "  in all      39.9 ms   410K tokens/s" -> 39.9
double predicted_ms(const std::string& out) {
    const size_t at = out.find("\n  in all");
    double x = 0;
    char unit[8] = "";
    EXPECT_EQ(std::sscanf(out.c_str() + at, " in all %lf %7s", &x, unit), 2) << out;
    return std::string(unit) == "s" ? 1000 * x : x;
}

// Steps that were measured (LOG.md), B = 2, T = 8192: the plan was made from their parts, so it must be near.
TEST(Plan, NearWhatWasMeasured) {
    const std::string step = gpt2 + "--batch-size 2 --seq-len 8192 ";
    const auto expect_ms = [&](const std::string& words, double measured) {
        const Outcome r = moba(step + words);
        EXPECT_EQ(r.status, 0) << r.out;
        EXPECT_NEAR(predicted_ms(r.out) / measured, 1, 0.15) << words;
    };
    expect_ms("--top-k 4 --precision bf16 --card h100", 37.9);
    expect_ms("--top-k 4 --precision bf16 --card h200", 35.0);
    expect_ms("--attention full --precision bf16 --card h200", 52.8);
    expect_ms("--top-k 4 --precision fp32 --card h100", 327);
}

TEST(Plan, MemoryIsThatOfTheRun) {
    TempDir dir;
    const std::string words = "--device cpu --seq-len 64 --batch-size 4 --steps 1 --eval-every 0 ";
    const Outcome plan = moba("plan " + words), run = moba("train " + words + "--out " + dir / "out");
    const size_t at = plan.out.find("memory  ");
    ASSERT_NE(at, std::string::npos) << plan.out;
    const std::string memory = plan.out.substr(at, plan.out.find('\n', at) - at);
    EXPECT_NE(run.out.find(memory), std::string::npos) << memory << "\n" << run.out;
}

// Eight ranks that share a sample: a million tokens fit, where one card is too small.
TEST(Plan, ManyRanks) {
    const std::string words = gpt2 + "--precision bf16 --top-k 8 --batch-size 1 --seq-len 1048576 ";
    const Outcome alone = moba(words), eight = moba(words + "--ranks 8 --context-parallel 8"),
                  nvlink = moba(words + "--ranks 8 --context-parallel 8 --net 3600");
    EXPECT_NE(alone.out.find("which is too little"), std::string::npos) << alone.out;
    EXPECT_EQ(alone.out.find("sent "), std::string::npos) << alone.out;
    EXPECT_EQ(eight.out.find("which is too little"), std::string::npos) << eight.out;
    EXPECT_NE(eight.out.find("one rank alone would need"), std::string::npos) << eight.out;
    EXPECT_NE(eight.out.find("with ring attention"), std::string::npos) << eight.out;
    EXPECT_LT(predicted_ms(nvlink.out), predicted_ms(eight.out));
}

TEST(Plan, WrongWords) {
    const auto says = [](const std::string& words, const std::string& message) {
        const Outcome r = moba("plan " + words);
        EXPECT_EQ(r.status, 2) << r.out;
        EXPECT_NE(r.out.find(message), std::string::npos) << r.out;
    };
    says("--ranks 0", "--ranks");
    says("--net 0", "--net");
    says("--card h999", "--card");
    says("--lrr 3", "--lrr: there is no such option; did you mean --lr?");
    EXPECT_NE(moba("plan --ranks 3 --context-parallel 2").out.find("must be a multiple of it"),
              std::string::npos);
}

}  // namespace

}  // namespace moba

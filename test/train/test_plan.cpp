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
    EXPECT_NE(alone.out.find("too little"), std::string::npos) << alone.out;
    EXPECT_EQ(alone.out.find("sent "), std::string::npos) << alone.out;
    EXPECT_EQ(eight.out.find("too little"), std::string::npos) << eight.out;
    EXPECT_NE(eight.out.find("one rank alone would need"), std::string::npos) << eight.out;
    EXPECT_NE(eight.out.find("with ring attention"), std::string::npos) << eight.out;
    EXPECT_LT(predicted_ms(nvlink.out), predicted_ms(eight.out));
}

// Ranks without a sample save no time; the slowest rank decides.
TEST(Plan, UnevenShares) {
    const std::string words = gpt2 + "--precision bf16 --top-k 4 --seq-len 8192 --net 1000000 --batch-size ";
    const double one = predicted_ms(moba(words + "1").out),
                 idle = predicted_ms(moba(words + "1 --ranks 8").out),
                 even = predicted_ms(moba(words + "8 --ranks 8").out),
                 uneven = predicted_ms(moba(words + "9 --ranks 8").out);
    EXPECT_NEAR(idle / one, 1, 0.1);  // AdamW alone is shared out
    EXPECT_NEAR(even / one, 1, 0.1);
    EXPECT_GT(uneven / even, 1.7);
}

// The choice costs what the gate computes.
TEST(Plan, CostOfTheChoice) {
    const auto choice = [](const std::string& words) {
        const Outcome r = moba(gpt2 +
                               "--precision bf16 --top-k 8 --batch-size 1 --seq-len 1048576 "
                               "--num-kv-heads 3 " +
                               words);
        EXPECT_EQ(r.status, 0) << r.out;
        const size_t at = r.out.find("choice of blocks");
        double ms = 0;
        if (at != std::string::npos) { std::sscanf(r.out.c_str() + at, "choice of blocks %lf", &ms); }
        return ms;
    };
    const double topk = choice("");
    EXPECT_GT(topk, 0);
    EXPECT_EQ(choice("--gate recent"), 0);
    EXPECT_NEAR(choice("--shared-gate") / topk, 0.25, 0.01);
    EXPECT_NEAR(choice("--context-parallel 8 --ranks 8") / topk, 0.125, 0.01);
}

TEST(Plan, WrongWords) {
    const auto refused = [](int status, const std::string& words, const std::string& message) {
        const Outcome r = moba("plan " + words);
        EXPECT_EQ(r.status, status) << r.out;
        EXPECT_NE(r.out.find(message), std::string::npos) << r.out;
    };
    refused(2, "--ranks 0", "--ranks");
    refused(2, "--net 0", "--net");
    refused(2, "--card h999", "--card");
    refused(2, "--lrr 3", "--lrr: there is no such option; did you mean --lr?");
    refused(1, "--ranks 3 --context-parallel 2", "must be a multiple of it");
    refused(1, "--context-parallel 2", "the number of processes, 1, must be a multiple of it");
    refused(1, "--full-every 2", "not with --full-every or --switch");
    refused(1, "--vocab-size 100 --task mqar", "--vocab-size: not with");
    refused(1, "--ranks 2 --context-parallel 2 --num-heads 32 --top-k 16 --batch-size 1 --seq-len 16777216",
            "use more ranks");
}

}  // namespace

}  // namespace moba

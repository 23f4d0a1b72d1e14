/* Training as a whole: a tiny run learns, and far beyond chance. */
#include "test/check.h"
#include "test/program.h"
#include <nlohmann/json.hpp>

static double final_accuracy(const std::string& run) {
    std::ifstream in(run + "/log.jsonl");
    std::string line;
    double accuracy = -1;
    while (std::getline(in, line)) {
        const auto j = nlohmann::json::parse(line);
        if (j.contains("val_accuracy")) { accuracy = j["val_accuracy"]; }
    }
    return accuracy;
}

TEST(Training, TinyRunLearns) {
    const TempDir dir;
    const std::string common = "train --hidden-size 64 --num-layers 2 --seq-len 32 --batch-size 128 --pairs 8 --steps 200 --lr 3e-3 "
                               "--embedding-lr-factor 3 --block-size 16 --top-k 2 --eval-every 200 --log-every 100 --lr-schedule constant ";
    const Outcome r = moba(common + "--out " + (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_GE(final_accuracy(dir / "run"), 0.95) << r.out;
    // a model that sees only its own block cannot
    const Outcome local = moba(common + "--top-k 1 --out " + (dir / "local"));
    ASSERT_EQ(local.status, 0);
    EXPECT_LE(final_accuracy(dir / "local"), 0.8) << local.out;
}

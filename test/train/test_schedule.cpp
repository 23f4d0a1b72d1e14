/* Learning rates worked out by hand, and the stages of a curriculum. */
#include "test/support/check.h"
#include "train/options/schedule.h"

namespace moba {

TEST(Schedule, WarmsUpLinearly) {
    const LrSettings s{.schedule = LrSchedule::constant, .peak = 1, .warmup = 10};
    EXPECT_DOUBLE_EQ(learning_rate(s, 1, 99), 0.1);
    EXPECT_DOUBLE_EQ(learning_rate(s, 10, 90), 1);
    EXPECT_DOUBLE_EQ(learning_rate(s, 100, 0), 1);
    EXPECT_DOUBLE_EQ(learning_rate({.schedule = LrSchedule::constant, .peak = 1, .warmup = 0}, 1, 9), 1);
}

TEST(Schedule, WsdFallsOverItsLastSteps) {
    const LrSettings s{
        .schedule = LrSchedule::wsd, .peak = 2, .warmup = 0, .min_ratio = 0.1, .decay_steps = 20};
    EXPECT_DOUBLE_EQ(learning_rate(s, 80, 20), 2);
    EXPECT_DOUBLE_EQ(learning_rate(s, 90, 10), 2 * 0.55);
    EXPECT_DOUBLE_EQ(learning_rate(s, 100, 0), 0.2);
    const LrSettings fifth{.schedule = LrSchedule::wsd, .peak = 1, .warmup = 0, .min_ratio = 0};
    EXPECT_DOUBLE_EQ(learning_rate(fifth, 90, 10), 0.5);
}

// A warning only if the rate misses its peak or jumps.
TEST(Schedule, WarnsOfWhatItDoesNotReach) {
    const auto warning = [](LrSchedule schedule, int warmup, int decay, int steps) {
        return schedule_warning({.schedule = schedule, .warmup = warmup, .decay_steps = decay}, steps);
    };
    for (const LrSchedule s : {LrSchedule::cosine, LrSchedule::wsd, LrSchedule::constant}) {
        EXPECT_NE(warning(s, 80, 0, 20).find("to 25% of --lr"), std::string::npos) << warning(s, 80, 0, 20);
        EXPECT_EQ(warning(s, 20, 0, 20).empty(), s == LrSchedule::constant) << "a constant rate never falls";
        EXPECT_EQ(warning(s, 0, 0, 1), "");
        EXPECT_EQ(warning(s, 50, 0, 450), "");
    }
    EXPECT_NE(warning(LrSchedule::wsd, 50, 60, 100).find("jumps down"), std::string::npos);
    EXPECT_EQ(warning(LrSchedule::wsd, 50, 50, 100), "");
    EXPECT_NE(warning(LrSchedule::wsd, 90, 0, 100).find("the 20 steps"), std::string::npos)
        << "a fifth of all";
    EXPECT_EQ(warning(LrSchedule::cosine, 99, 0, 100), "");
}

TEST(Schedule, CosineFallsToTheFloor) {
    const LrSettings s{.schedule = LrSchedule::cosine, .peak = 1, .warmup = 0, .min_ratio = 0.1};
    EXPECT_DOUBLE_EQ(learning_rate(s, 50, 50), 0.55);
    EXPECT_NEAR(learning_rate(s, 100, 0), 0.1, 1e-12);
}

TEST(Schedule, Curriculum) {
    const std::vector<Stage> stages = parse_curriculum("32:8:128:400,64:4:64:150");
    ASSERT_EQ(stages.size(), 2u);
    EXPECT_EQ(stages[1].T, 64);
    EXPECT_EQ(stages[1].pairs, 4);
    EXPECT_EQ(stages[1].batch, 64);
    EXPECT_EQ(stages[1].steps, 150);
    EXPECT_TRUE(parse_curriculum("").empty());
    for (const char* bad :
         {"32", "32:8:128", "32:8:128:0", "a:b:c:d", "32:8:128:4:5", "32:8:128:4,", "32:8:128:4x", ",,"}) {
        if (std::string(bad) == "32:8:128:4,") { continue; }  // a comma at the end is ignored
        EXPECT_THROW(parse_curriculum(bad), Error) << bad;
    }
    EXPECT_THROW(parse_lr_schedule("linear"), Error);
}

}  // namespace moba

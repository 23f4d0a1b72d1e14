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

TEST(Schedule, FitsTheRun) {
    const auto fit = [](LrSchedule schedule, int warmup, int decay, int steps) {
        return fit_to_run({.schedule = schedule, .warmup = warmup, .decay_steps = decay}, steps);
    };
    for (const LrSchedule s : {LrSchedule::cosine, LrSchedule::wsd, LrSchedule::constant}) {
        EXPECT_EQ(fit(s, 80, 0, 20).settings.warmup, 2);
        EXPECT_NE(fit(s, 80, 0, 20).note.find("not fit in 20 steps: 2"), std::string::npos);
        EXPECT_EQ(fit(s, 20, 0, 20).note.empty(), s == LrSchedule::constant) << "a constant rate never falls";
        EXPECT_EQ(fit(s, 80, 0, 1).settings.warmup, 1);
        EXPECT_EQ(fit(s, 0, 0, 1).note, "");
        EXPECT_EQ(fit(s, 50, 0, 450).note, "");
        EXPECT_EQ(fit(s, 50, 0, 450).settings.warmup, 50);
    }
    EXPECT_EQ(fit(LrSchedule::wsd, 50, 60, 100).note,
              "--warmup 50 and a decay of 60 do not fit in 100 steps: 10 and 60 instead");
    EXPECT_EQ(fit(LrSchedule::wsd, 50, 99, 100).settings.decay_steps, 90);
    EXPECT_EQ(fit(LrSchedule::wsd, 50, 50, 100).note, "");
    EXPECT_EQ(fit(LrSchedule::wsd, 90, 0, 100).settings.decay_steps, 20) << "a fifth of all";
    EXPECT_EQ(fit(LrSchedule::cosine, 99, 0, 100).note, "");
    // the rate reaches its peak and does not jump
    const LrSettings s = fit(LrSchedule::wsd, 50, 0, 20).settings;
    double before = 0, top = 0;
    for (int step = 1; step <= 20; step++) {
        const double now = learning_rate(s, step, 20 - step);
        EXPECT_LE(std::abs(now - before), s.peak / 2);
        top = std::max(top, now), before = now;
    }
    EXPECT_DOUBLE_EQ(top, s.peak);
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

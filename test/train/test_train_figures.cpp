/* The figures of a run, from a log written by hand. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/compare/train_figures.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

json step(int n, double loss, double ms, int seq_len, int tokens) {
    return {
        {"step", n},     {"loss", loss},       {"accuracy", loss / 10}, {"ms", ms},
        {"gflops", 2.0}, {"seq_len", seq_len}, {"tokens", tokens},      {"tokens_per_s", tokens / ms * 1000}};
}

TEST(TrainFigures, ByHand) {
    const TempDir dir;
    std::string text;
    for (const json& j : {step(1, 5, 1000, 32, 64), step(2, 4, 10, 64, 100),
                          json{{"step", 2}, {"val_loss", 3.5}, {"val_accuracy", 0.4}},
                          step(3, 3, 30, 64, 100), step(4, 2, 20, 64, 100)}) {
        text += j.dump() + "\n";
    }
    write_text(dir / "log.jsonl", text);
    const json f = train_figures(dir / "log.jsonl");
    EXPECT_EQ(f["steps"], 4);
    EXPECT_EQ(f["tokens"], 364);
    EXPECT_NEAR(f["seconds"].get<double>(), 1.06, 1e-12);
    EXPECT_NEAR(f["flop"].get<double>(), 2e9 * 1.06, 1);
    EXPECT_EQ(f["ms_per_step"], 20) << "of the last length only";
    EXPECT_EQ(f["tokens_per_s"], 5000);
    ASSERT_EQ(f["curve"].size(), 4u);
    EXPECT_EQ(f["curve"][1]["loss"], 4);
    EXPECT_EQ(f["curve"][1]["tokens"], 164);
    ASSERT_EQ(f["validation"].size(), 1u);
    EXPECT_EQ(f["validation"][0]["loss"], 3.5);
    EXPECT_EQ(f["validation"][0]["tokens"], 164);
    EXPECT_NEAR(f["validation"][0]["seconds"].get<double>(), 1.01, 1e-12);
}

TEST(TrainFigures, LongLogsAreAveraged) {
    const TempDir dir;
    std::string text;
    for (int i = 1; i <= 400; i++) { text += step(i, i % 2 ? 1 : 3, 1, 8, 8).dump() + "\n"; }
    write_text(dir / "log.jsonl", text);
    const json curve = train_figures(dir / "log.jsonl")["curve"];
    ASSERT_EQ(curve.size(), 200u);
    for (size_t i = 0; i < 200; i++) {
        EXPECT_EQ(curve[i]["loss"], 2);
        EXPECT_EQ(curve[i]["step"], 2 * i + 2);
    }
}

TEST(TrainFigures, DamagedLogsAreRefused) {
    const TempDir dir;
    write_text(dir / "log.jsonl", step(1, 1, 1, 8, 8).dump() + "\n{\"step\": 2}\n");
    EXPECT_THROW(train_figures(dir / "log.jsonl"), Error);
    write_text(dir / "log.jsonl", "");
    EXPECT_THROW(train_figures(dir / "log.jsonl"), Error);
}

}  // namespace

}  // namespace moba

/* Figures, sentences and warnings of comparisons that are small enough to work out by hand. */
#include "test/support/page_check.h"
#include "test/support/results_case.h"
#include "train/compare/findings.h"
#include "train/compare/summary.h"

namespace moba {

namespace {

using nlohmann::json;
using Lines = std::vector<json>;

const VariantFigures& only(const std::vector<TaskFigures>& tasks) { return tasks.at(0).variants.at(0); }

// MoBA and full attention with these accuracies, one for each seed.
TaskFigures two(const std::vector<double>& moba, const std::vector<double>& full) {
    Lines lines;
    for (size_t i = 0; i < moba.size(); i++) {
        lines.push_back(run_case({.seed = (int)i + 1, .accuracy = moba[i]}));
    }
    for (size_t i = 0; i < full.size(); i++) {
        lines.push_back(run_case({.variant = "full", .seed = (int)i + 1, .accuracy = full[i]}));
    }
    return summarize(lines).at(0);
}

TEST(Summary, OrderAndModel) {
    const auto tasks = summarize(comparison_case());
    ASSERT_EQ(tasks.size(), 2u);
    EXPECT_EQ(tasks[0].name, "needle");
    EXPECT_FALSE(tasks[0].text);
    EXPECT_EQ(tasks[1].name, "text");
    EXPECT_TRUE(tasks[1].text);
    ASSERT_EQ(tasks[0].variants.size(), 2u);
    const VariantFigures &moba = tasks[0].variants[0], &full = tasks[0].variants[1];
    EXPECT_EQ(moba.name, "moba");
    EXPECT_TRUE(moba.has_moba());
    EXPECT_FALSE(moba.is_full());
    EXPECT_TRUE(full.is_full());
    EXPECT_EQ(moba.runs.size(), 3u);
    EXPECT_EQ(tasks[0].seq_len, 256);
    EXPECT_EQ(tasks[0].chance, 0.03);
    EXPECT_TRUE(std::isnan(tasks[1].chance));
    EXPECT_EQ(tasks[0].lengths(), (std::vector<int>{256, 512, 1024}));
    EXPECT_EQ(tasks[0].seeds, (std::vector<int>{1, 2, 3}));
}

TEST(Summary, SeveralSeedsGiveStudentsInterval) {
    const TaskFigures t = two({0.90, 0.92, 0.94}, {});
    const Estimate e = t.variants[0].at(256)->score;
    EXPECT_NEAR(e.mean, 0.92, 1e-12);
    // deviation 0.02, over sqrt(3), times 4.303
    EXPECT_NEAR(e.interval.low, 0.92 - 0.049687, 1e-5);
    EXPECT_NEAR(e.interval.high, 0.92 + 0.049687, 1e-5);
    EXPECT_EQ(t.variants[0].at(2048), nullptr);
}

TEST(Summary, IntervalsStayShares) {
    const Estimate e = two({0.99, 1.0}, {}).variants[0].at(256)->score;  // 0.995 -+ 0.0635
    EXPECT_EQ(e.interval.high, 1);
    EXPECT_NEAR(e.interval.low, 0.995 - 12.706 * 0.005, 1e-9);
}

TEST(Summary, OneSeedGivesTheIntervalOfItsLine) {
    const Estimate e = two({0.9}, {}).variants[0].at(256)->score;
    EXPECT_NEAR(e.interval.low, 0.89, 1e-12);
    EXPECT_NEAR(e.interval.high, 0.91, 1e-12);
    const auto text = summarize({run_case({.task = "text", .loss = 1.5})});
    EXPECT_NEAR(only(text).at(256)->score.mean, 1.5, 1e-12);
    EXPECT_TRUE(std::isnan(only(text).at(256)->score.interval.low));
    EXPECT_TRUE(std::isnan(only(text).at(256)->score.interval.high));
    json run = run_case({});
    run["eval"]["lengths"][0]["all"] = {{"accuracy", 0.9}};  // without its interval: no interval, not 0 to 1
    EXPECT_TRUE(std::isnan(only(summarize({run})).at(256)->score.interval.low));
    EXPECT_TRUE(std::isnan(only(summarize({run})).at(256)->score.interval.high));
}

TEST(Summary, LateLossIsWeightedByCount) {
    json run = run_case({.task = "text", .lengths = {8}});
    run["eval"]["lengths"][0]["loss_by_position"] = {
        {{"position", 5}, {"loss", 9.0}, {"count", 100}},  // not among the last positions
        {{"position", 6}, {"loss", 2.0}, {"count", 30}},
        {{"position", 7}, {"loss", 1.0}, {"count", 10}}};
    EXPECT_NEAR(only(summarize({run})).at(8)->late_loss, 1.75, 1e-12);
    EXPECT_TRUE(std::isnan(only(summarize({run_case({})})).at(256)->late_loss));
}

TEST(Summary, TheRateWithTheLowestLossOfTheFirstSeedCounts) {
    Lines lines = {
        run_case({.seed = 1, .lr = 0.001, .accuracy = 0.5, .loss = 0.3}),
        run_case({.seed = 1, .lr = 0.01, .accuracy = 0.8, .loss = 0.2}),
        run_case({.seed = 2, .lr = 0.01, .accuracy = 0.9, .loss = 0.9}),  // only the first seed decides
        run_case({.seed = 2, .lr = 0.001, .accuracy = 0.5, .loss = 0.1})};
    const VariantFigures v = only(summarize(lines));
    EXPECT_EQ(v.lr, 0.01);
    EXPECT_EQ(v.runs.size(), 2u);
    EXPECT_NEAR(v.at(256)->score.mean, 0.85, 1e-12);
    EXPECT_EQ(learning_rate_note(v), "lr 0.01 was chosen from 0.001 (0.3000), 0.01 (0.2000)");
    // a rate whose run failed or has no validation is chosen only if there is no other
    lines[1] = failed_case({.seed = 1, .lr = 0.01}, "loss is not finite");
    EXPECT_EQ(only(summarize(lines)).lr, 0.001);
    lines[1] = run_case({.seed = 1, .lr = 0.01, .loss = NAN});
    EXPECT_EQ(only(summarize(lines)).lr, 0.001);
    EXPECT_EQ(learning_rate_note(only(summarize({lines[0]}))), "");
}

TEST(Summary, TheLastLineOfARunCounts) {
    const auto tasks = summarize({failed_case({}, "killed"), run_case({.accuracy = 0.7})});
    EXPECT_EQ(only(tasks).all_runs.size(), 1u);
    ASSERT_EQ(only(tasks).runs.size(), 1u);
    EXPECT_NEAR(only(tasks).at(256)->score.mean, 0.7, 1e-12);
    EXPECT_TRUE(warnings(tasks[0]).empty());
}

// A trains 1000 tokens in 100 s, B 600 in 40 s. Equal tokens: 600. Equal seconds: 40.
TEST(Summary, EqualTokensAndEqualSeconds) {
    const auto run = [](const char* variant, double tokens, double seconds, json validation) {
        json r = run_case({.variant = variant});
        r["train"]["tokens"] = tokens, r["train"]["seconds"] = seconds, r["train"]["validation"] = validation;
        return r;
    };
    const auto point = [](double tokens, double seconds, double loss) {
        return json{{"tokens", tokens}, {"seconds", seconds}, {"loss", loss}, {"accuracy", 1 - loss}};
    };
    const json a = {point(300, 30, 0.9), point(600, 60, 0.5), point(601, 61, 0.4), point(1000, 100, 0.1)};
    const json b = {point(300, 20, 0.8), point(600, 40, 0.6)};
    const TaskFigures t = summarize({run("moba", 1000, 100, a), run("full", 600, 40, b)})[0];
    EXPECT_EQ(t.equal_tokens, 600);
    EXPECT_EQ(t.equal_seconds, 40);
    EXPECT_EQ(t.variants[0].at_equal_tokens.loss, 0.5);
    EXPECT_EQ(t.variants[0].at_equal_tokens.accuracy, 0.5);
    EXPECT_EQ(t.variants[0].at_equal_tokens.at, 600);
    EXPECT_EQ(t.variants[1].at_equal_tokens.loss, 0.6);
    EXPECT_EQ(t.variants[0].at_equal_seconds.loss, 0.9);
    EXPECT_EQ(t.variants[0].at_equal_seconds.at, 30);
    EXPECT_EQ(t.variants[1].at_equal_seconds.loss, 0.6);
    EXPECT_EQ(t.variants[0].final_loss, 0.1);
    // the time of the fastest variant is that of its slowest seed
    json slow = run("full", 600, 50, json::array({point(600, 50, 0.2)}));
    slow["seed"] = 2;
    const TaskFigures seeds = summarize({run("moba", 1000, 100, a), run("full", 600, 40, b), slow})[0];
    EXPECT_EQ(seeds.equal_seconds, 50);
    EXPECT_NEAR(seeds.variants[1].at_equal_seconds.loss, 0.4, 1e-12);
    // no validation early enough: no figure
    const TaskFigures late =
        summarize({run("moba", 1000, 100, json::array({point(900, 90, 0.3)})), run("full", 600, 40, b)})[0];
    EXPECT_TRUE(std::isnan(late.variants[0].at_equal_tokens.loss));
}

TEST(Summary, SpeedFactorAgainstFullAttention) {
    const Lines lines = {run_case({}), run_case({.variant = "full"}),
                         lengths_case("needle", "full", [](int T) { return T * T / 1000.0; }, {1000, 4000}),
                         lengths_case("needle", "moba", [](int T) { return T / 2.0; }, {1000, 4000, 8000})};
    const TaskFigures t = summarize(lines)[0];
    EXPECT_NEAR(speed_factor(t, t.variants[0], 1000), 2, 1e-12);
    EXPECT_NEAR(speed_factor(t, t.variants[0], 4000), 8, 1e-12);
    EXPECT_TRUE(std::isnan(speed_factor(t, t.variants[0], 8000)));  // full attention was not measured there
    EXPECT_TRUE(std::isnan(speed_factor(t, t.variants[1], 1000)));  // full attention itself
    EXPECT_EQ(findings(t).at(2), "moba's attention is 2x as fast as full's at 1000, 8x at 4000; a training "
                                 "step takes 1.00x the time.");
}

TEST(Summary, OfSeveralFullVariantsTheNearestInSize) {
    json small = run_case({.variant = "full small"}), large = run_case({.variant = "full large"}),
         moba = run_case({});
    small["parameters"] = 1000, large["parameters"] = 9000, moba["parameters"] = 8000;
    const TaskFigures t = summarize({small, large, moba})[0];
    EXPECT_EQ(t.full_beside(t.variants[2])->name, "full large");
    EXPECT_EQ(t.full_beside(t.variants[0]), nullptr);
    EXPECT_EQ(summarize({moba})[0].full_beside(t.variants[2]), nullptr);
}

TEST(Summary, RouterIsTheMeanOverSeeds) {
    json a = run_case({.seed = 1}), b = run_case({.seed = 2});
    const auto heads = [](double first, double second) {
        return json{{{"layer", 0}, {"head", 0}, {"recall", first}, {"predicted", 0.5}, {"snr", 1}},
                    {{"layer", 0}, {"head", 1}, {"recall", second}, {"predicted", 0.7}, {"snr", nullptr}}};
    };
    a["eval"]["lengths"][0]["reach"] = 0.5, b["eval"]["lengths"][0]["reach"] = 1;
    a["eval"]["lengths"][0]["router"] = heads(0.2, 0.6), b["eval"]["lengths"][0]["router"] = heads(0.4, 0.8);
    const LengthFigures l = *only(summarize({a, b})).at(256);
    EXPECT_NEAR(l.reach, 0.75, 1e-12);
    ASSERT_EQ(l.router.size(), 2u);
    EXPECT_NEAR(l.router[0].recall, 0.3, 1e-12);
    EXPECT_NEAR(l.best_recall, 0.7, 1e-12);
    EXPECT_NEAR(l.best_predicted, 0.7, 1e-12);
    EXPECT_TRUE(std::isnan(l.router[1].snr));
    EXPECT_TRUE(std::isnan(two({}, {0.9}).variants[0].at(256)->best_recall));
    // in the other seed another head is the best
    b["eval"]["lengths"][0]["router"] = heads(0.9, 0.1);
    EXPECT_NEAR(only(summarize({a, b})).at(256)->best_recall, 0.75, 1e-12);
    EXPECT_NEAR(only(summarize({a, b})).at(256)->best_predicted, 0.6, 1e-12);
}

// The second seed has points at other steps, and ends at 30.
TEST(Summary, CurvesOfSeedsWithOtherPoints) {
    json a = run_case({.seed = 1}), b = run_case({.seed = 2});
    const auto point = [](double tokens, double loss) { return json{{"tokens", tokens}, {"loss", loss}}; };
    a["train"]["curve"] = {point(10, 4), point(20, 2), point(40, 1)};
    b["train"]["curve"] = {point(10, 6), point(30, 2)};
    const auto curve = mean_curve(only(summarize({a, b})), &RunResult::curve, &TrainPoint::tokens);
    ASSERT_EQ(curve.size(), 2u);
    EXPECT_EQ(curve[0].mean, 5);
    EXPECT_EQ(curve[1].x, 20);
    EXPECT_EQ(curve[1].mean, 3);  // 2 and 4
    EXPECT_EQ(curve[1].low, 2);
    EXPECT_EQ(curve[1].high, 4);
    const VariantFigures failed = only(summarize({failed_case({}, "")}));
    EXPECT_TRUE(mean_curve(failed, &RunResult::curve, &TrainPoint::tokens).empty());
}

TEST(Findings, IntervalsThatOverlap) {
    const auto said = findings(two({0.90, 0.92, 0.94}, {0.91, 0.93, 0.95}));
    EXPECT_EQ(said.at(0), "needle, T = 256, 3 seeds: moba 92.0% (87.0 to 97.0), full 93.0% (88.0 to 98.0): "
                          "the intervals overlap, so no variant is clearly better.");
    EXPECT_EQ(said.at(1), "needle, T = 1024, 3 seeds: moba 72.0% (67.0 to 77.0), full 73.0% (68.0 to 78.0): "
                          "the intervals overlap, so no variant is clearly better.");
    EXPECT_EQ(said.at(2), "moba's training step takes 1.00x the time of full's.");
}

// Beside the trained length: the longest one that all variants have, and the longest one.
TEST(Findings, TheLongestLengths) {
    const Lines lines = {run_case({.lengths = {256, 512, 1024, 4096}}),
                         run_case({.variant = "full", .lengths = {256, 512, 1024}})};
    const auto said = findings(summarize(lines)[0]);
    EXPECT_TRUE(has(said.at(0), "needle, T = 256, 1 seed: moba 99.8%")) << said[0];
    EXPECT_TRUE(has(said.at(1), "needle, T = 1024, 1 seed: moba 79.8%")) << said[1];
    EXPECT_TRUE(has(said.at(2), "needle, T = 4096, 1 seed: moba 59.8% (58.8 to 60.8).")) << said[2];
}

TEST(Findings, IntervalsThatDoNotOverlap) {
    EXPECT_EQ(findings(two({0.80, 0.81}, {0.99, 0.99})).at(0),
              "needle, T = 256, 2 seeds: moba 80.5% (74.1 to 86.9), full 99.0% (98.0 to 100.0): "
              "full is higher than moba, and the intervals do not overlap.");
    // just below and above the limit: 0.01 on each side of the accuracy of one seed
    EXPECT_TRUE(has(findings(two({0.5}, {0.519}))[0], "the intervals overlap"));
    EXPECT_TRUE(has(findings(two({0.5}, {0.521}))[0], "full is higher than moba"));
    EXPECT_TRUE(has(findings(two({0.521}, {0.5}))[0], "moba is higher than full"));
}

TEST(Findings, OfTextTheLowerLossIsBetter) {
    Lines lines;
    for (int seed : {1, 2}) {
        lines.push_back(
            run_case({.task = "text", .variant = "moba", .seed = seed, .loss = 1.5 + 0.002 * seed}));
        lines.push_back(
            run_case({.task = "text", .variant = "full", .seed = seed, .loss = 1.6 + 0.002 * seed}));
    }
    // deviation 0.002 / sqrt(2), over sqrt(2), times 12.706
    EXPECT_EQ(findings(summarize(lines)[0]).at(0),
              "text, T = 256, 2 seeds: loss moba 1.503 (1.490 to 1.516), full 1.603 (1.590 to 1.616): "
              "moba is lower than full, and the intervals do not overlap.");
    lines.resize(2);
    EXPECT_EQ(findings(summarize(lines)[0]).at(0),
              "text, T = 256, 1 seed: loss moba 1.502, full 1.602: one seed gives no interval, so "
              "nothing can be concluded.");
}

TEST(Findings, MissingSeedsAreReported) {
    const TaskFigures t = two({0.9, 0.9}, {0.9});
    EXPECT_TRUE(has(findings(t)[0], "full 90.0% (89.0 to 91.0; 1 of 2 seeds)")) << findings(t)[0];
    EXPECT_EQ(warnings(t), (std::vector<std::string>{"needle, full: not yet run with seed 2"}));
}

TEST(Findings, OneVariantIsNotCompared) {
    EXPECT_EQ(findings(two({0.9}, {})),
              (std::vector<std::string>{"needle, T = 256, 1 seed: moba 90.0% (89.0 to 91.0).",
                                        "needle, T = 1024, 1 seed: moba 70.0% (69.0 to 71.0)."}));
    EXPECT_TRUE(findings(summarize({failed_case({}, "x")})[0]).empty());
}

TEST(Warnings, EachOfThem) {
    EXPECT_TRUE(warnings(two({0.9, 0.9}, {0.9, 0.9})).empty());
    json few = run_case({.block_size = 64, .top_k = 8});  // 64 * 8 = 512
    few["eval"]["lengths"][0]["all"]["answers"] = 999;
    EXPECT_EQ(warnings(summarize({few, failed_case({.seed = 2}, "out of memory")})[0]),
              (std::vector<std::string>{
                  "needle, moba: top-k * block-size is 512: MoBA is full attention at T = 256, 512",
                  "needle, moba: fewer than 1000 answers (999 in a run): too few for a reliable accuracy",
                  "needle, moba, seed 2: failed: out of memory"}));
    EXPECT_TRUE(
        warnings(summarize({run_case({.variant = "full", .block_size = 64, .top_k = 8})})[0]).empty());
    // of two seeds, the smaller number of answers is reported
    for (bool first : {true, false}) {
        json a = run_case({.seed = 1}), b = run_case({.seed = 2});
        (first ? a : b)["eval"]["lengths"][0]["all"]["answers"] = 500;
        EXPECT_TRUE(has(warnings(summarize({a, b})[0]).at(0), "(500 in a run)"));
    }
    // a variant of which only the costs have been measured
    EXPECT_EQ(warnings(summarize({run_case({}), lengths_case("needle", "full", [](int T) { return T; })})[0]),
              (std::vector<std::string>{"needle, full: not yet run with seed 1"}));
}

TEST(FigureTables, BestByTheMean) {
    const auto tables = figure_tables(two({0.90, 0.92}, {0.91, 0.93}));
    ASSERT_EQ(tables.size(), 2u);
    EXPECT_EQ(tables[0].columns[0], "accuracy at 256 (trained)");
    EXPECT_FALSE(tables[0].rows[0][0].best);
    EXPECT_TRUE(tables[0].rows[1][0].best);
    EXPECT_EQ(tables[0].rows[1][0].text, "92.0%");
    EXPECT_EQ(tables[0].rows[1][0].note, "79.3 to 100.0");
    EXPECT_EQ(tables[1].columns[2], "ms per step");
    EXPECT_FALSE(tables[1].rows[0][2].best);  // both are 48
    EXPECT_FALSE(figure_tables(two({0.9}, {}))[0].rows[0][0].best);
    EXPECT_TRUE(figure_tables(summarize({failed_case({}, "")})[0]).size() <= 1);
}

// A seed that was trained while the machine was busy is shown, and does not decide.
TEST(FigureTables, TimesAreMediansWithTheirSpread) {
    const auto steps = [](std::vector<double> ms) {
        std::vector<json> runs;
        for (int seed = 1; double x : ms) { runs.push_back(run_case({.seed = seed++, .ms = x})); }
        return figure_tables(summarize(runs)[0])[1].rows[0][2];
    };
    EXPECT_EQ(steps({50, 48, 400}).text, "50");
    EXPECT_EQ(steps({50, 48, 400}).note, "48 to 400");
    EXPECT_EQ(steps({50, 60}).text, "55");
    EXPECT_EQ(steps({50}).note, "");
}

TEST(FigureTables, LessIsBetterInCosts) {
    const auto t = summarize({run_case({.ms = 50}), run_case({.variant = "full", .ms = 40}),
                              lengths_case("needle", "moba", [](int) { return 3.; }, {128, 1024}),
                              lengths_case("needle", "full", [](int) { return 6.; }, {128, 1024})})[0];
    const FigureTable cost = figure_tables(t)[1];
    for (size_t c = 0; c < cost.columns.size(); c++) {
        const std::string& name = cost.columns[c];
        const bool moba = cost.rows[0][c].best, full = cost.rows[1][c].best;
        if (name == "ms per step" || name == "tokens/s" || name == "training") {
            EXPECT_TRUE(full && !moba) << name;
        }
        if (name == "ms of attention alone at 128") { EXPECT_TRUE(moba && !full) << name; }
        if (name == "times as fast as full at 128") {
            EXPECT_EQ(cost.rows[0][c].text + cost.rows[1][c].text, "2x-");
        }
        // 128 is half of the trained length 256 and has columns; 1024, four times as long, has none
        EXPECT_FALSE(has(name, "1024"));
    }
}

// Lines in which values are null or of another type: nothing may throw.
TEST(Summary, LinesOfAnyShape) {
    json run = run_case({});
    for (const char* key :
         {"task", "variant", "seed", "lr", "status", "layers", "train", "eval", "seq_len"}) {
        for (const json& value : {json(), json("x"), json(3), json::array({1, "x"}), json::object()}) {
            json bad = run;
            bad[key] = value;
            for (const TaskFigures& t : summarize({bad, run})) { findings(t), warnings(t), figure_tables(t); }
        }
    }
    EXPECT_TRUE(summarize({json(), json(3), json::object(), json{{"kind", "other"}}}).empty());
}

}  // namespace

}  // namespace moba

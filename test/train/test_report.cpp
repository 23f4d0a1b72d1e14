/* The report page and the summary on the terminal: complete, with the measured figures and no others. */
#include "test/support/page_check.h"
#include "test/support/results_case.h"
#include "train/compare/charts.h"
#include "train/compare/report.h"

namespace moba {

namespace {

using nlohmann::json;

const char* sections[] = {"Summary",
                          "Loss curves",
                          "Accuracy by length and depth, percent",
                          "Loss by position",
                          "Past the trained length",
                          "Cost by length",
                          "What the router finds",
                          "Loss against training flop",
                          "Commands"};

bool has_section(const std::string& page, const std::string& name) {
    return has(page, "<h2>" + name + "</h2>");
}

TEST(Report, EverySectionOfAWholeComparison) {
    const std::string page = report_page(summarize(comparison_case()), "MoBA & full");
    EXPECT_EQ(page_fault(page), "");
    size_t at = 0;
    for (const char* s : sections) {
        EXPECT_TRUE(has_section(page, s)) << s;
        EXPECT_GT(page.find(std::string("<h2>") + s), at) << s << ": order";
        at = page.find(std::string("<h2>") + s);
    }
    EXPECT_TRUE(has(page, "<h1>MoBA &amp; full</h1>"));
    EXPECT_TRUE(has(page, "needle, T = 256, 3 seeds: moba 99.8% ("));
    EXPECT_TRUE(has(page, "CPU, 2 cores"));
    EXPECT_TRUE(has(page, "<strong>100.0%</strong>"));
    EXPECT_TRUE(has(page, "needle: 6 runs"));
    EXPECT_TRUE(
        has(page, "moba train --task needle --seed 3 --out out/compare/needle-moba-3\nmoba eval --model"));
    EXPECT_FALSE(has(page, "nan"));
    EXPECT_FALSE(has(page, "class=\"warning\""));
    EXPECT_LT(page.size(), 200000u);
}

TEST(Report, OnlyWhatWasMeasured) {
    const std::string task = report_page(summarize({run_case({.lengths = {256}})}), "t");
    EXPECT_FALSE(has_section(task, "Loss by position"));
    EXPECT_FALSE(has_section(task, "Past the trained length"));
    EXPECT_FALSE(has_section(task, "Cost by length"));
    EXPECT_TRUE(has_section(task, "Accuracy by length and depth, percent"));
    EXPECT_TRUE(has_section(task, "What the router finds"));
    const std::string text = report_page(summarize({run_case({.task = "text", .variant = "full"})}), "t");
    EXPECT_FALSE(has_section(text, "Accuracy by length and depth, percent"));
    EXPECT_FALSE(has_section(text, "What the router finds"));
    EXPECT_TRUE(has_section(text, "Loss by position"));
    EXPECT_TRUE(has_section(text, "Past the trained length"));
    const std::string costs =
        report_page(summarize({lengths_case("needle", "full", [](int T) { return T; })}), "t");
    EXPECT_TRUE(has_section(costs, "Cost by length"));
    EXPECT_FALSE(has_section(costs, "Loss curves"));
    EXPECT_FALSE(has(costs, "times as fast"));
    const std::string nothing = report_page({}, "t");
    for (const char* s : sections) { EXPECT_FALSE(has_section(nothing, s)) << s; }
    for (const std::string& page : {task, text, costs, nothing}) { EXPECT_EQ(page_fault(page), ""); }
}

TEST(Report, ChartsAsFiles) {
    const std::map<std::string, std::string> files = chart_files(summarize(comparison_case()));
    std::vector<std::string> names;
    for (const auto& [name, svg] : files) {
        names.push_back(name);
        EXPECT_TRUE(svg.starts_with("<svg xmlns=")) << name;
        EXPECT_FALSE(has(svg, "nothing measured")) << name;
    }
    EXPECT_EQ(names, (std::vector<std::string>{
                         "needle/accuracy-against-length.svg", "needle/accuracy-against-reach.svg",
                         "needle/attention-of-all-layers.svg", "needle/loss-against-seconds.svg",
                         "needle/loss-against-tokens.svg", "needle/memory-to-train.svg",
                         "needle/recall-measured-against-predicted.svg", "needle/speed-of-attention.svg",
                         "needle/validation-loss-against-compute.svg", "text/attention-of-all-layers.svg",
                         "text/loss-against-length.svg", "text/loss-against-seconds.svg",
                         "text/loss-against-tokens.svg", "text/loss-by-position-T-1024.svg",
                         "text/loss-by-position-T-256.svg", "text/loss-by-position-T-512.svg",
                         "text/memory-to-train.svg", "text/speed-of-attention.svg",
                         "text/validation-loss-against-compute.svg"}));
    EXPECT_TRUE(chart_files({}).empty());
}

TEST(Report, FailedRunsWithTheirErrorAndCommand) {
    const std::string page =
        report_page(summarize({run_case({}), failed_case({.seed = 2}, "out of <memory>")}), "t");
    EXPECT_TRUE(has(page, "<p class=\"warning\">needle, moba, seed 2: failed: out of &lt;memory&gt;</p>"));
    EXPECT_TRUE(has(page, "--seed 2 --out out/compare/needle-moba-2"));
    EXPECT_EQ(page_fault(page), "");
    const std::string all_failed =
        report_page(summarize({failed_case({}, "x"), failed_case({.variant = "full"}, "y")}), "t");
    EXPECT_EQ(page_fault(all_failed), "");
    EXPECT_TRUE(has_section(all_failed, "Commands"));
    EXPECT_FALSE(has_section(all_failed, "Loss curves"));
}

TEST(Report, NamesAreText) {
    const std::string name = "<script>alert('x')</script>";
    json run = run_case({.variant = name}), cost = lengths_case("needle", name, [](int T) { return T; });
    run["task"] = cost["task"] = "<b>";
    run["command"] = "moba train --out \"<i>\"", run["device"] = "</p>";
    const std::string page = report_page(summarize({run, cost}), name);
    EXPECT_FALSE(has(page, "<script"));
    EXPECT_FALSE(has(page, "<b>"));
    EXPECT_FALSE(has(page, "<i>"));
    EXPECT_TRUE(has(page, "&lt;script&gt;alert(&#39;x&#39;)"));
    EXPECT_EQ(page_fault(page), "");
}

TEST(Report, LearningRatesAndManyVariants) {
    std::vector<json> lines;
    for (int v = 0; v < 9; v++) {  // more variants than colours
        for (double lr : {0.001, 0.01}) {
            lines.push_back(run_case(
                {.variant = "a name as long as names of variants become, number " + std::to_string(v),
                 .lr = lr,
                 .loss = 10 * lr}));
        }
    }
    const std::string page = report_page(summarize(lines), "t");
    EXPECT_EQ(page_fault(page), "");
    EXPECT_TRUE(has(page, "number 8: lr 0.001 was chosen from 0.001 (0.0100), 0.01 (0.1000)"));
    EXPECT_TRUE(has(page, "seed 1, lr 0.01: last validation loss 0.1000"));
    EXPECT_FALSE(has(page, "class=\"s6\""));
}

// Positions are binned by log2(position + 1), in at most 64 bins.
TEST(Report, LossByPositionIsBinned) {
    const std::string page = report_page(summarize({run_case({.task = "text", .lengths = {4096}})}), "t");
    const size_t section = page.find("<h2>Loss by position"), from = page.find("class=\"line\"", section),
                 d = page.find("d=\"M", from);
    const int points = 1 + count(page.substr(d, page.find("\"/>", d) - d), "L");
    EXPECT_LE(points, 64);
    EXPECT_GE(points, 48);
}

TEST(Report, MissingNumbers) {
    json run = run_case({}), other = run_case({.seed = 2, .loss = NAN});
    run["train"]["flop"] = nullptr, run["train"]["peak_bytes"] = nullptr;
    run["train"]["validation"][3]["loss"] = nullptr;
    run["eval"]["lengths"][0]["router"][0]["predicted"] = nullptr;
    const std::string page = report_page(summarize({run, other}), "t");
    EXPECT_EQ(page_fault(page), "");
    EXPECT_FALSE(has(page, "nan"));
    comparison_text(summarize({run, other}), 80, false);
}

// The points of the charts for the invented results: train/compare/charts.h.
TEST(Charts, PointsOfAWholeComparison) {
    const std::vector<TaskFigures> tasks = summarize(comparison_case());
    const TaskFigures &needle = tasks.at(0), &text = tasks.at(1);
    EXPECT_EQ(loss_charts(needle).at(0).y.scale, Scale::log10) << "from 4.7 to 0.02";
    EXPECT_EQ(loss_charts(text).at(0).y.scale, Scale::linear);
    const Point first = position_charts(text).at(0).series.at(0).points.at(0);
    EXPECT_EQ(first.x, 1);
    EXPECT_NEAR(first.y, 1.518 + 2, 0.04);
    const Chart lengths = length_charts(needle).at(0);
    ASSERT_EQ(lengths.x_marks.size(), 1u);
    EXPECT_EQ(lengths.x_marks[0].at, 256);
    EXPECT_NEAR(cost_charts(needle).at(2).series.at(0).points.at(0).y, 1e5 * 256 / (1 << 20), 1e-9);
    const std::vector<Chart> router = router_charts(needle);
    ASSERT_EQ(router.at(0).series.size(), 1u) << "full attention has none";
    EXPECT_NEAR(router[0].series[0].points.at(0).x, 0.25 * 0.95, 1e-12) << "predicted";
    const Point reach = router.at(1).series.at(0).points.at(2);
    EXPECT_NEAR(reach.x - reach.y, 0.01, 1e-9) << "reach, accuracy";
    const std::vector<Series> flop = flop_charts(needle).at(0).series;
    ASSERT_EQ(flop.size(), 4u) << "the curves of both variants, and their end points";
    EXPECT_TRUE(flop[0].faint && flop[0].joined && flop[0].name.empty());
    EXPECT_EQ(flop[0].points.back().x, 3e12);
    EXPECT_TRUE(!flop[2].faint && !flop[2].joined && flop[2].name == "moba");
    EXPECT_EQ(flop[2].points.at(0).x, 3e12);
}

TEST(ComparisonText, SideBySideOnAWideTerminal) {
    const std::string wide = comparison_text(summarize(comparison_case()), 120, false),
                      narrow = comparison_text(summarize(comparison_case()), 60, false);
    const auto line_with = [](const std::string& text, const std::string& what) {
        const size_t at = text.find(what), begin = text.rfind('\n', at) + 1;
        return text.substr(begin, text.find('\n', at) - begin);
    };
    EXPECT_EQ(line_with(wide, "accuracy at 256"),
              "accuracy at 256 (trained)  99.8% (99.3 to 100.0)    100.0% (99.5 to 100.0)");
    EXPECT_EQ(line_with(wide, "    needle: moba"),
              "    needle: moba                               needle: full");
    EXPECT_EQ(line_with(wide, "depth \\ T"),
              " depth \\ T       256       512      1024    depth \\ T       256       512      1024");
    EXPECT_EQ(line_with(narrow, "    needle: moba"), "    needle: moba");
    EXPECT_EQ(count(narrow, "accuracy at 256"), 2);
    EXPECT_TRUE(has(wide, "\nneedle, T = 256, 3 seeds: moba 99.8%"));
    EXPECT_FALSE(has(wide, "\033"));
    const std::string coloured = comparison_text(summarize(comparison_case()), 120, true);
    EXPECT_TRUE(has(coloured, "\033[1m100.0% (99.5 to 100.0)"));
    EXPECT_TRUE(has(coloured, "\033[30;48;5;"));
    EXPECT_EQ(comparison_text({}, 80, false), "");
}

}  // namespace

}  // namespace moba

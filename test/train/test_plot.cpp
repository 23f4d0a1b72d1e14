/* `moba plot`: what it reads, and the page, CSV and event files that it writes. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/plot/event_file.h"
#include "train/plot/plot_page.h"
#include <cmath>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

std::string step_line(int step, double loss, int seq_len = 32) {
    return json{{"step", step},       {"loss", loss},     {"accuracy", 0.5},
                {"lr", 0.001},        {"grad_norm", 1.5}, {"ms", 500},
                {"seq_len", seq_len}, {"tokens", 64},     {"tokens_per_s", 128}}
               .dump() +
           "\n";
}
const std::string validation =
    R"({"step": 2, "val_loss": 3.5, "val_accuracy": 0.25, "sample": "To be <or> not"})"
    "\n";

void write_run(const std::string& folder, const std::string& log) {
    std::filesystem::create_directories(folder);
    write_text(folder + "/log.jsonl", log);
}

TEST(Plot, ReadsALogThatIsStillBeingWritten) {
    const TempDir dir;
    write_run(dir / "a", step_line(1, 5) + step_line(2, 4) + validation + R"({"accuracy": 0.5, "gra)");
    const RunCurves r = read_runs({dir / "a"}).at(0);
    EXPECT_EQ(r.name, "a");
    ASSERT_EQ(r.steps.size(), 2u);
    EXPECT_EQ(r.steps[1].loss, 4);
    EXPECT_EQ(r.steps[1].tokens, 128);
    EXPECT_EQ(r.steps[1].seconds, 1);
    ASSERT_EQ(r.validations.size(), 1u);
    EXPECT_EQ(r.validations[0].loss, 3.5);
    EXPECT_EQ(r.validations[0].sample, "To be <or> not");
}

TEST(Plot, NamesAreShortAndDifferent) {
    const TempDir dir;
    for (const char* name : {"x/runs/a", "x/runs/b", "y/runs/a"}) { write_run(dir / name, step_line(1, 5)); }
    std::vector<std::string> names;
    for (const RunCurves& r : read_runs({dir / "x", dir / "y/runs/a/", dir / "x/runs/a"})) {
        names.push_back(r.name);
    }
    EXPECT_EQ(names, (std::vector<std::string>{"x/runs/a", "x/runs/b", "y/runs/a"}));
}

TEST(Plot, MeansOverNeighboursKeepTheSpread) {
    std::vector<StepLine> steps(10);
    for (int i = 0; i < 10; i++) { steps[i].step = i + 1, steps[i].loss = i; }
    const std::vector<LogPoint> two = thinned(steps, &StepLine::loss, 2);
    ASSERT_EQ(two.size(), 2u);
    EXPECT_EQ(two[0].step, 5);
    EXPECT_EQ(two[0].mean, 2);
    EXPECT_EQ(two[1].low, 5);
    EXPECT_EQ(two[1].high, 9);
    EXPECT_EQ(thinned(steps, &StepLine::loss, 100).size(), 10u);
    // with 100 points, a point counts half as much after one step: (1 * 1 + 2 * 4) / 3
    std::vector<LogPoint> curve{{1, 1, 1, 1}, {2, 4, 4, 4}, {3, NAN, NAN, NAN}};
    curve.resize(100, {4, 4, 4, 4});
    EXPECT_EQ(smoothed(curve)[0].mean, 1);
    EXPECT_NEAR(smoothed(curve)[1].mean, 3, 1e-12);
    EXPECT_FALSE(std::isfinite(smoothed(curve)[2].mean));
}

TEST(Plot, ThePageShowsWhatDiffers) {
    const TempDir dir;
    write_run(dir / "a", step_line(1, 5) + step_line(2, 4) + validation);
    write_run(dir / "b", step_line(1, 6) + step_line(2, 3));
    std::vector<RunCurves> runs = read_runs({dir / "a", dir / "b"});
    runs[0].options = {{"lr", "0.001"}, {"seed", "1"}, {"out", "a"}};
    runs[1].options = {{"lr", "0.003"}, {"seed", "1"}, {"out", "b"}};
    const std::string two = plot_page(runs, 0);
    EXPECT_NE(two.find("0.003"), std::string::npos);
    EXPECT_EQ(two.find("seed"), std::string::npos);
    EXPECT_NE(two.find("To be &lt;or&gt; not"), std::string::npos);
    EXPECT_EQ(two.find("location.reload"), std::string::npos);
    const std::string one = plot_page({runs[0]}, 5);  // 0.001 is not the default, seed 1 is
    EXPECT_NE(one.find("<th scope=\"row\">lr"), std::string::npos) << one;
    EXPECT_EQ(one.find("seed"), std::string::npos);
    EXPECT_NE(one.find("location.reload(), 5000"), std::string::npos);
}

TEST(Plot, WritesEveryStepAsCsv) {
    const TempDir dir;
    write_run(dir / "a, b", step_line(1, 5) + step_line(2, 4) + validation);
    const Outcome r =
        moba("plot '" + (dir / "a, b") + "' --out " + (dir / "p.html") + " --csv " + (dir / "p.csv"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(
        read_text(dir / "p.csv"),
        "run,step,seq_len,tokens,seconds,loss,accuracy,lr,grad_norm,tokens_per_s,val_loss,val_accuracy\n"
        "\"a, b\",1,32,64,0.5,5,0.5,0.001,1.5,128,,\n"
        "\"a, b\",2,32,128,1,4,0.5,0.001,1.5,128,3.5,0.25\n");
}

TEST(Plot, EventFileByHand) {
    const TempDir dir;
    EventFile file(dir / "events", 1.5);
    file.scalar("a", 300, 2, 0.5);
    file.finish();
    const std::string bytes = read_text(dir / "events");
    // 26 bytes: wall_time 1.5, step 0, file_version; before and after them checksums, computed elsewhere
    EXPECT_EQ(bytes.substr(0, 12), std::string("\x1a\0\0\0\0\0\0\0"
                                               "\x12\x9b\xd8\x2d",
                                               12));
    EXPECT_EQ(bytes.substr(38, 4), std::string("\xd3\xdc\x53\x1e", 4));
    EXPECT_EQ(bytes.substr(12, 9), std::string("\x09\0\0\0\0\0\0\xf8\x3f", 9));
    EXPECT_EQ(bytes.substr(21, 17), std::string("\x10\0\x1a\x0d", 4) + "brain.Event:2");
    const std::string second = bytes.substr(12 + 26 + 4 + 12);
    // step 300 is a varint of two bytes; the value is {tag "a", 0.5f}
    EXPECT_EQ(second.substr(9, 15),
              std::string("\x10\xac\x02\x2a\x0a\x0a\x08\x0a\x01\x61\x15\0\0\0\x3f", 15));
}

TEST(Plot, RefusesWhatIsNoRun) {
    const TempDir dir;
    expect_refused("plot " + dir.path(), 1, "no training run");
    expect_refused("plot " + (dir / "nothing"), 1, "no such folder");
    expect_refused("plot", 2, "runs");
    write_run(dir / "a", "");
    expect_refused("plot " + (dir / "a"), 1, "no step yet");
    write_run(dir / "a", step_line(1, 5) + "{\"step\": 2}\n");
    expect_refused("plot " + (dir / "a"), 1, "line 2");
    write_run(dir / "a", step_line(1, 5));
    expect_refused("plot " + (dir / "a") + " --out /nowhere/p.html", 1, "/nowhere/p.html");
}

}  // namespace
}  // namespace moba

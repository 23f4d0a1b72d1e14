/* moba compare: what a plan may contain, killing and resuming, learning rates, runs that fail; and the switch
   of attention during a run. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/compare/child.h"
#include "train/core/shell_text.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

const json tiny_base = {{"task", "needle"},  {"seq-len", 48},   {"batch-size", 2},   {"steps", 6},
                        {"hidden-size", 16}, {"num-keys", 4},   {"num-values", 4},   {"block-size", 16},
                        {"top-k", 2},        {"eval-every", 3}, {"eval-samples", 4}, {"save-every", 2}};

json tiny_plan() {
    return {{"base", tiny_base},
            {"tasks", {{{"name", "needle"}}}},
            {"variants", {{{"name", "full"}, {"attention", "full"}}, {{"name", "moba"}}}},
            {"eval", {{"lengths", {1, 2}}, {"depths", 2}, {"samples", 3}}}};
}

std::vector<json> results(const std::string& dir) {
    std::vector<json> out;
    std::ifstream in(dir + "/results.jsonl");
    for (std::string line; std::getline(in, line);) { out.push_back(json::parse(line)); }
    return out;
}

// Removes what may differ between two runs with the same results: times, speeds, and paths.
json timeless(json line) {
    for (const char* key : {"seconds", "ms_per_step", "tokens_per_s", "peak_bytes"}) {
        line["train"].erase(key);
    }
    for (const char* list : {"curve", "validation"}) {
        for (json& point : line["train"][list]) {
            point.erase("seconds");
            point.erase("flop");
        }
    }
    line["train"].erase("flop");
    line["eval"].erase("model");
    line.erase("command");
    line.erase("eval_command");
    return line;
}

class Compare : public testing::Test {
  protected:
    TempDir dir;
    std::string words(const json& plan, const std::string& out) {
        write_text(dir / "plan.json", plan.dump(1));
        return "compare --config " + (dir / "plan.json") + " --out " + (dir / out);
    }
};

// The defaults for a text depend on the model's sizes and on the attention; what decides the samples must not
// differ between variants.
TEST_F(Compare, VariantsOnATextSeeTheSameSamples) {
    write_text(dir / "a.txt", std::string(4000, 'a') + "b");
    json plan = tiny_plan();
    plan["base"] = {{"data", dir / "a.txt"}, {"steps", 2}};
    plan["tasks"] = {{{"name", "shakespeare"}}};
    plan["variants"] = {
        {{"name", "plain"}}, {{"name", "wide"}, {"size", "small"}}, {{"name", "more"}, {"top-k", 8}}};
    const Outcome r = moba(words(plan, "text") + " --dry-run");
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(count(r.out, "--seq-len=256 "), 3) << r.out;
    EXPECT_EQ(count(r.out, "--batch-size=16"), 3) << r.out;
    EXPECT_EQ(count(r.out, "--grad-accum=1"), 3) << r.out;
}

// An option that did not exist when the comparison began.
TEST_F(Compare, GoesOnAfterANewOption) {
    const std::string command = words(tiny_plan(), "out");
    ASSERT_EQ(moba(command).status, 0);
    for (const auto& run : std::filesystem::directory_iterator(dir / "out/runs")) {
        const std::string file = run.path().string() + "/settings.json";
        json settings = json::parse(read_text(file));
        settings.erase("size");
        write_text(file, settings.dump());
    }
    const Outcome again = moba(command);
    EXPECT_EQ(again.status, 0) << again.out;
}

TEST_F(Compare, EveryRunOnce) {
    json plan = tiny_plan();
    plan["seeds"] = 2;
    plan["tasks"].push_back({{"name", "text"},
                             {"task", ""},
                             {"data", MOBA_SOURCE_DIR "/docs/experiments.md"},
                             {"eval", {{"windows", 3}}}});
    plan["bench-lengths"] = {64, 128};
    const Outcome first = moba(words(plan, "out"));
    ASSERT_EQ(first.status, 0) << first.out;
    const std::vector<json> lines = results(dir / "out");
    ASSERT_EQ(lines.size(), 8u + 4u);
    const char* order[] = {"needle full 1", "needle moba 1", "needle full 2", "needle moba 2",
                           "text full 1",   "text moba 1",   "text full 2",   "text moba 2"};
    for (int i = 0; i < 8; i++) {
        const json& l = lines[i];
        EXPECT_EQ(l["task"].get<std::string>() + " " + l["variant"].get<std::string>() + " " +
                      l["seed"].dump(),
                  order[i]);
        EXPECT_EQ(l["status"], "done");
        EXPECT_EQ(l["train"]["steps"], 6);
        EXPECT_EQ(l["train"]["validation"].size(), 2u);
        EXPECT_GT(l["train"]["peak_bytes"], 1 << 20);
        EXPECT_EQ(l["eval"]["lengths"].size(), 2u);
        EXPECT_EQ(l["eval"]["lengths"][1]["seq_len"], 96);
        EXPECT_EQ(l["layers"][0], i % 2 ? "moba:rope" : "full:rope");
    }
    EXPECT_TRUE(lines[1]["eval"]["lengths"][1]["router"].is_array());
    EXPECT_FALSE(lines[0]["eval"]["lengths"][1].contains("router"));
    for (int i = 8; i < 12; i++) {
        EXPECT_EQ(lines[i]["kind"], "lengths");
        EXPECT_EQ(lines[i]["rows"].size(), 2u);
        EXPECT_GT(lines[i]["rows"][1]["attention_ms"], lines[i]["rows"][1]["forward_ms"]);
        EXPECT_GT(lines[i]["rows"][1]["memory_bytes"], lines[i]["rows"][0]["memory_bytes"]);
    }
    EXPECT_NE(read_text(dir / "out/report.html").find("</html>"), std::string::npos);
    for (const char* chart : {"needle/accuracy-against-length", "text/loss-by-position-T-48"}) {
        EXPECT_TRUE(read_text(dir / (std::string("out/charts/") + chart + ".svg")).ends_with("</svg>\n"))
            << chart;
    }

    // again: no run is repeated; a changed variant is refused, a new variant is added
    const std::string result = dir / "out/runs/needle.moba.s1/result.json";
    const auto written = std::filesystem::last_write_time(result);
    ASSERT_EQ(moba(words(plan, "out")).status, 0);
    plan["variants"].push_back({{"name", "wide"}, {"hidden-size", 32}});
    ASSERT_EQ(moba(words(plan, "out")).status, 0);
    EXPECT_EQ(std::filesystem::last_write_time(result), written);
    EXPECT_EQ(results(dir / "out").size(), 12u + 6u);
    plan["variants"][1]["lr"] = 0.1;
    const Outcome changed = moba_errors(words(plan, "out"));
    EXPECT_EQ(changed.status, 1);
    EXPECT_NE(
        changed.out.find("needle.moba.s1 holds a run with other settings: --lr was 0.003, now it is 0.1"),
        std::string::npos)
        << changed.out;
    plan["variants"][1].erase("lr");

    // other evaluation settings: evaluated again without training, and only the task they concern
    const std::string log = dir / "out/runs/needle.moba.s1/log.jsonl", steps = read_text(log),
                      text = dir / "out/runs/text.moba.s1/result.json";
    const auto text_written = std::filesystem::last_write_time(text);
    plan["eval"]["samples"] = 5;
    ASSERT_EQ(moba(words(plan, "out/")).status, 0) << "the same folder with another spelling";
    EXPECT_EQ(read_text(log), steps);
    EXPECT_EQ(std::filesystem::last_write_time(text), text_written);
    for (const json& l : results(dir / "out")) {
        if (l["kind"] == "run" && l["task"] == "needle") {
            EXPECT_EQ(l["eval"]["lengths"][0]["all"]["answers"], 10);
        }
    }

    // one variant at fewer lengths than the other; other numbers of samples for each length
    plan["tasks"][0]["eval"] = {{"samples", {2, 4}}};
    plan["variants"][1]["eval"] = {{"lengths", {2}}, {"samples", {7}}};
    ASSERT_EQ(moba(words(plan, "out")).status, 0);
    for (const json& l : results(dir / "out")) {
        if (l["kind"] != "run" || l["task"] != "needle" || l["variant"] == "wide") { continue; }
        const json& lengths = l["eval"]["lengths"];
        const bool moba = l["variant"] == "moba";
        ASSERT_EQ(lengths.size(), moba ? 1u : 2u);
        EXPECT_EQ(lengths.back()["seq_len"], 96);
        EXPECT_EQ(lengths.back()["all"]["answers"], moba ? 14 : 8);
    }
    EXPECT_NE(read_text(dir / "out/report.html").find("</html>"), std::string::npos);
}

// SIGKILL only to the comparison while its second run trains. Its child must end too, and the resumed
// comparison must give the results of an undisturbed one.
TEST_F(Compare, KilledAndResumed) {
    json plan = tiny_plan();
    plan["base"]["steps"] = 400;
    plan["base"]["eval-every"] = 100;
    plan["base"]["save-every"] = 20;
    ASSERT_EQ(moba(words(plan, "whole")).status, 0);
    const std::string second = dir / "cut/runs/needle.moba.s1";
    const Outcome cut = shell("(" MOBA_PROGRAM " " + words(plan, "cut") + " & p=$!; while [ ! -e " + second +
                              "/latest ] && kill -0 $p; do sleep 0.01; done; kill -KILL $p; wait $p)");
    ASSERT_EQ(cut.status, 137) << cut.out;
    ASSERT_FALSE(std::filesystem::exists(second + "/result.json")) << "it was killed during this run";
    const std::string first = read_text(dir / "cut/runs/needle.full.s1/result.json");
    const Outcome resumed = moba(words(plan, "cut"));
    ASSERT_EQ(resumed.status, 0) << resumed.out;
    EXPECT_EQ(resumed.out.find("needle.full.s1"), std::string::npos) << resumed.out;
    EXPECT_EQ(read_text(dir / "cut/runs/needle.full.s1/result.json"), first)
        << "the finished run was not repeated";
    const std::vector<json> a = results(dir / "whole"), b = results(dir / "cut");
    ASSERT_EQ(a.size(), 2u);
    ASSERT_EQ(b.size(), 2u);
    for (int i = 0; i < 2; i++) { EXPECT_EQ(timeless(a[i]), timeless(b[i])); }
}

TEST_F(Compare, InterruptedByCtrlC) {
    json plan = tiny_plan();
    plan["base"]["steps"] = 5000;
    const Outcome cut = shell("(" MOBA_PROGRAM " " + words(plan, "out") + " & p=$!; while [ ! -e " +
                              (dir / "out/runs/needle.full.s1/latest") +
                              " ] && kill -0 $p; do sleep 0.01; done; kill -INT $p; wait $p)");
    EXPECT_EQ(cut.status, 0) << cut.out;
    EXPECT_NE(cut.out.find("stopped; run the same command again to continue"), std::string::npos) << cut.out;
    EXPECT_FALSE(std::filesystem::exists(dir / "out/runs/needle.full.s1/result.json"));
    EXPECT_NE(read_text(dir / "out/runs/needle.full.s1/train.txt").find("stopped at step"),
              std::string::npos);
}

// The first seed tries both rates; the second seed uses only the rate with the best validation loss.
TEST_F(Compare, LearningRates) {
    json plan = tiny_plan();
    plan["lr"] = {0.003, 1e-7};
    plan["seeds"] = 2;
    plan["base"]["steps"] = 60;
    plan["base"]["eval-every"] = 60;
    ASSERT_EQ(moba(words(plan, "out")).status, 0);
    std::vector<std::string> seen;
    for (const json& l : results(dir / "out")) {
        seen.push_back(l["variant"].get<std::string>() + " " + l["seed"].dump() + " " + l["lr"].dump());
    }
    EXPECT_EQ(seen, (std::vector<std::string>{"full 1 0.003", "full 1 1e-07", "moba 1 0.003", "moba 1 1e-07",
                                              "full 2 0.003", "moba 2 0.003"}));
}

TEST_F(Compare, AFailedRunIsToldAndTriedAgain) {
    json plan = tiny_plan();
    plan["variants"].push_back({{"name", "wild"}, {"lr", 1e30}, {"grad-clip", 0}});
    for (int i = 0; i < 2; i++) {
        const Outcome r = moba(words(plan, "out"));
        EXPECT_EQ(r.status, 1);
        EXPECT_NE(r.out.find("needle.wild.s1: FAILED"), std::string::npos) << r.out;
        EXPECT_NE(r.out.find("not finite"), std::string::npos) << r.out;
    }
    const std::vector<json> lines = results(dir / "out");
    ASSERT_EQ(lines.size(), 3u);
    EXPECT_EQ(lines[1]["status"], "done");
    EXPECT_EQ(lines[2]["status"], "failed");
}

TEST_F(Compare, BadPlansGetOneLine) {
    const auto refused = [&](const json& plan, const std::string& says) {
        const Outcome r = moba_errors(words(plan, "out"));
        EXPECT_EQ(r.status, 1) << plan;
        EXPECT_NE(r.out.find(says), std::string::npos) << plan << " should say '" << says << "':\n" << r.out;
        EXPECT_EQ(lines(r.out), 1) << r.out;
    };
    const auto with = [](const char* key, const json& value) {
        json plan = tiny_plan();
        plan[key] = value;
        return plan;
    };
    refused(json::array(), "must be a JSON object");
    refused(with("seed", 3), "unknown key 'seed'");
    refused(with("bench-lengths", {64.5}), "whole numbers");
    json idle = tiny_plan();
    const char* text = MOBA_SOURCE_DIR "/docs/experiments.md";
    idle["tasks"] = {{{"name", "t"}, {"task", ""}, {"data", text}, {"num-keys", 4}}};
    refused(idle, "--num-keys is a setting of tasks");
    idle["tasks"] = {{{"name", "t"}, {"task", ""}, {"data", text}, {"val-share", 0}, {"eval-every", 0}}};
    refused(idle, "to validate on");
    refused(with("seeds", 0), "'seeds' must be a whole number");
    refused(with("seeds", "3"), "'seeds' must be a whole number");
    refused(with("title", 3), "'title' must be a string");
    refused(with("lr", 0.1), "'lr' must be a list of numbers");
    refused(with("lr", {0.1, "x"}), "'lr' must be a list of numbers");
    refused(with("base", 3), "'base' must be an object");
    refused(with("base", {{"no-such-option", 3}}), "no-such-option");
    refused(with("base", {{"steps", "many"}}), "--steps");
    refused(with("base", {{"steps", nullptr}}), "'steps' must not be null or an object");
    refused(with("base", {{"seed", 4}}), "'seed' is not allowed in a plan");
    refused(with("base", {{"help", true}}), "'help' is not allowed in a plan");
    refused(with("base", {{"block-size", 26}}), "variant 'full' of task 'needle': block_size = 26");
    refused(with("base", {{"config", dir / "nowhere.json"}}), "nowhere.json");
    refused(with("base", {{"switch", "full@2"}}), "--switch full@2");
    refused(with("tasks", json::array()), "'tasks' must be a list");
    refused(with("tasks", {{{"name", "needle"}, {"task", "needles"}}}), "--task");
    refused(with("tasks", {{{"name", "a"}}, {{"name", "a"}}}), "appears twice");
    refused(with("tasks", {{{"name", "mqar"}}}), "the task is named mqar, but the model learns needle");
    refused(
        with("tasks", {{{"name", "mqar"}, {"task", ""}, {"data", MOBA_SOURCE_DIR "/docs/experiments.md"}}}),
        "learns text");
    refused(with("variants", {{{"attention", "full"}}}), "'variants' must be a list");
    refused(with("variants", {{{"name", "../x"}}}), "name '../x'");
    refused(with("variants", {{{"name", "..x"}}}), "name '..x'");
    refused(with("tasks", {{{"name", "a.b"}}}), "name 'a.b'");
    refused(with("eval", {{"length", {1}}}), "unknown key 'length' in 'eval'");
    refused(with("eval", {{"lengths", json::array()}}), "'lengths' in 'eval' is empty");
    refused(with("eval", {{"lengths", {0.5}}}), "'lengths' must be a list of numbers from 1");
    refused(with("eval", {{"samples", 0}}), "'samples' must be a whole number");
    refused(with("eval", {{"samples", {1, 2.5, 3, 4}}}), "'samples' in 'eval' must be whole numbers");
    json decoys = with("eval", {{"lengths", {1, 100}}});
    decoys["base"]["pair-every"] = 16;
    refused(decoys, "'lengths' in 'eval': 4800 tokens: with pair-every = 16");
    refused(with("eval", {{"samples", {1, 2, 3}}}), "'samples' in 'eval' has 3 numbers for 4 lengths");
    refused(with("variants", {{{"name", "a"}, {"eval", {{"length", {1}}}}}}),
            "unknown key 'length' in 'eval'");
    refused(with("bench-lengths", {0}), "'bench-lengths' must be a list");
    refused(with("lr", {0.1, 0.1}), "'lr' contains a learning rate twice");
    refused(with("variants", {{{"name", "a"}, {"seq-len", 64}}}),
            "'seq-len' must be the same for all variants");
    json rates = with("lr", {0.1, 0.2});
    rates["variants"][0]["lr"] = 0.3;
    refused(rates, "the variant sets 'lr'");
    rates = with("lr", {0.1, 0.2});
    rates["base"]["eval-every"] = 0;
    refused(rates, "eval-every must not be 0");
    write_text(dir / "bad.json", "{\"tasks\": [");
    const Outcome broken = moba_errors("compare --config " + (dir / "bad.json"));
    EXPECT_EQ(broken.status, 1);
    EXPECT_EQ(lines(broken.out), 1) << broken.out;
    EXPECT_EQ(moba_errors("compare --config " + (dir / "nowhere.json")).status, 1);
    EXPECT_EQ(moba_errors("compare --seeds many").status, 2);
    write_text(dir / "plan.json", tiny_plan().dump());
    EXPECT_EQ(moba_errors("compare --config " + (dir / "plan.json") + " --out ''").status, 1);
    EXPECT_FALSE(std::filesystem::exists(dir / "out")) << "no run may begin";
}

TEST_F(Compare, ShippedPlansCanRun) {
    // In the place of texts that a script would prepare
    shell("cd " + dir.path() +
          " && ln -s " MOBA_SOURCE_DIR "/data " MOBA_SOURCE_DIR "/train . && mkdir -p out/docs");
    const std::string text(1 << 17, 'a');
    write_text(dir / "out/docs/train.jsonl", json{{"text", text}}.dump() + "\n");
    write_text(dir / "out/docs/long.txt", text);
    int plans = 0;
    for (const char* where : {"/train/configs", "/docs/experiments"}) {
        for (const auto& entry : std::filesystem::directory_iterator(MOBA_SOURCE_DIR + std::string(where))) {
            const std::string file = entry.path();
            if (entry.path().extension() != ".json" ||
                read_text(file).find("\"variants\"") == std::string::npos) {
                continue;
            }
            const Outcome r =
                shell("cd " + dir.path() + " && " MOBA_PROGRAM " compare --dry-run --config " + file);
            EXPECT_EQ(r.status, 0) << r.out;
            plans++;
        }
    }
    EXPECT_GE(plans, 5);
}

TEST_F(Compare, DryRunPrintsCommandsThatWork) {
    const Outcome r = moba(words(tiny_plan(), "out") + " --dry-run --switch full@0.5");
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(lines(r.out), 6) << r.out;
    EXPECT_NE(r.out.find("--switch=full@0.5"), std::string::npos) << r.out;
    EXPECT_FALSE(std::filesystem::exists(dir / "out"));
    write_text(dir / "by_hand.sh", "set -e\nmoba() { " MOBA_PROGRAM " \"$@\"; }\n" + r.out);
    const Outcome by_hand = shell("sh " + (dir / "by_hand.sh"));
    EXPECT_EQ(by_hand.status, 0) << by_hand.out;
    json plan = tiny_plan();
    plan["variants"].erase(1);
    EXPECT_NE(moba_errors(words(plan, "out") + " --switch full@0.5").out.find("no variant has moba layers"),
              std::string::npos);
}

// Router recall is measured where the model has MoBA layers at the end.
TEST_F(Compare, RouterRecallAfterASwitch) {
    const auto evaluated_with_router = [&](const json& variant) {
        json plan = tiny_plan();
        plan["variants"] = json::array({variant});
        const Outcome r = moba(words(plan, "out") + " --dry-run");
        EXPECT_EQ(r.status, 0) << r.out;
        return r.out.find("--router") != std::string::npos;
    };
    EXPECT_TRUE(evaluated_with_router({{"name", "later"}, {"attention", "full"}, {"switch", "moba@0.5"}}));
    EXPECT_FALSE(evaluated_with_router({{"name", "first"}, {"switch", "full@0.5"}}));
}

// An empty value replaces that of the file of options.
TEST_F(Compare, AVariantWithoutTheCurriculumOfTheConfig) {
    write_text(dir / "c.json", R"({"task": "needle", "hidden-size": 16, "curriculum": "32:4:4:3"})");
    json plan = tiny_plan();
    plan["base"] = {{"config", dir / "c.json"}};
    plan["variants"] = json::parse(R"([{"name": "with"}, {"name": "without", "curriculum": ""}])");
    const Outcome r = moba(words(plan, "out") + " --dry-run");
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(count(r.out, "--curriculum= "), 1) << r.out;
    EXPECT_EQ(count(r.out, "--curriculum"), 1) << r.out;
}

TEST(Child, ShellText) {
    EXPECT_EQ(shell_text({"train", "--layers=window:64,moba", "--out=a b"}),
              "train --layers=window:64,moba '--out=a b'");
    EXPECT_EQ(shell_text({"", "it's", "$x"}), "'' 'it'\\''s' '$x'");
}

// ---- moba train --switch ----

std::vector<double> losses(const std::string& run) {
    std::vector<double> out;
    std::ifstream in(run + "/log.jsonl");
    for (std::string line; std::getline(in, line);) {
        const json j = json::parse(line);
        if (j.contains("loss")) { out.push_back(j["loss"]); }
    }
    return out;
}

// Blocks that cover everything: MoBA equals full attention, so the switch changes nothing unless it loses
// weights or moments.
TEST(Switch, KeepsTheOptimizersState) {
    const TempDir dir;
    const std::string run =
        std::string(tiny_run) + "--steps 12 --top-k 3 --lr 0.01 --dropout 0.1 --eval-every 0 --out ";
    ASSERT_EQ(moba(run + (dir / "moba")).status, 0);
    const Outcome r = moba(run + (dir / "switched") + " --switch full@0.5");
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_NE(r.out.find("attention is full from step 7 on"), std::string::npos) << r.out;
    const std::vector<double> a = losses(dir / "moba"), b = losses(dir / "switched");
    ASSERT_EQ(a.size(), 12u);
    ASSERT_EQ(b.size(), 12u);
    for (int i = 0; i < 12; i++) { EXPECT_WITHIN(std::fabs(a[i] - b[i]), i < 6 ? 0 : 1e-5); }
    EXPECT_NE(moba("info --model " + (dir / "switched")).out.find("full:rope"), std::string::npos);
}

// Blocks that do not cover everything: the switch changes the losses, and a run killed before or after the
// switch and resumed ends with the same bits.
TEST(Switch, ResumesOnBothSides) {
    const TempDir dir;
    const std::string run =
        std::string(tiny_run) + "--steps 10 --top-k 2 --save-every 2 --eval-every 0 --curriculum 32:4:4:4 ";
    ASSERT_EQ(moba(run + "--out " + (dir / "moba")).status, 0);
    ASSERT_EQ(moba(run + "--switch full@0.6 --out " + (dir / "whole")).status, 0);
    EXPECT_NE(losses(dir / "moba"), losses(dir / "whole"));
    for (const int step : {4, 6, 8, 10, 12}) {
        const std::string cut = dir / ("cut" + std::to_string(step)),
                          at = cut + "/step-" + std::to_string(step);
        const Outcome r =
            shell("(" MOBA_PROGRAM " " + run + "--switch full@0.6 --log-every 1 --out " + cut +
                  " & p=$!; while [ ! -e " + at + " ] && kill -0 $p; do :; done; kill -KILL $p; wait $p)");
        ASSERT_TRUE(r.status == 137 || r.status == 0) << r.out;
        ASSERT_EQ(moba("train --resume --out " + cut).status, 0);
        EXPECT_EQ(losses(cut), losses(dir / "whole")) << "killed after step " << step;
        EXPECT_EQ(read_text(cut + "/latest/model.safetensors"),
                  read_text(dir / "whole/latest/model.safetensors"));
    }
}

// ---- moba train --full-every ----

// Full attention in every step is a run with full layers; in every second step, the first one is MoBA's. A
// killed run goes on with the same bits.
TEST(FullEvery, MixesSteps) {
    const TempDir dir;
    const std::string run =
        std::string(tiny_run) + "--steps 6 --top-k 2 --save-every 2 --eval-every 0 --curriculum 32:4:4:3 ";
    ASSERT_EQ(moba(run + "--out " + (dir / "moba")).status, 0);
    ASSERT_EQ(moba(run + "--attention full --out " + (dir / "full")).status, 0);
    ASSERT_EQ(moba(run + "--full-every 1 --out " + (dir / "every1")).status, 0);
    ASSERT_EQ(moba(run + "--full-every 2 --out " + (dir / "every2")).status, 0);
    const std::vector<double> of_moba = losses(dir / "moba"), of_full = losses(dir / "full"),
                              mixed = losses(dir / "every2");
    EXPECT_EQ(losses(dir / "every1"), of_full);
    EXPECT_EQ(mixed[0], of_moba[0]);
    EXPECT_NE(mixed, of_moba);
    EXPECT_NE(mixed, of_full);
    EXPECT_NE(moba("info --model " + (dir / "every2")).out.find("moba:rope"), std::string::npos);
    for (const int step : {2, 4}) {
        const std::string cut = dir / ("cut" + std::to_string(step)),
                          at = cut + "/step-" + std::to_string(step);
        shell("(" MOBA_PROGRAM " " + run + "--full-every 2 --log-every 1 --out " + cut +
              " & p=$!; while [ ! -e " + at + " ] && kill -0 $p; do :; done; kill -KILL $p; wait $p)");
        ASSERT_EQ(moba("train --resume --out " + cut).status, 0);
        EXPECT_EQ(losses(cut), mixed) << "killed after step " << step;
    }
    const Outcome refused =
        moba_errors(std::string(tiny_run) + "--layers window:8 --full-every 2 --out " + (dir / "no"));
    EXPECT_NE(refused.out.find("--full-every 2: the model has no moba layers"), std::string::npos)
        << refused.out;
}

TEST(Switch, FromFullToMoba) {
    const TempDir dir;
    const std::string run = std::string(tiny_run) +
                            "--steps 6 --attention full --top-k 2 --save-every 2 --switch moba@0.5 --out ";
    const Outcome r = moba(run + (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_NE(moba("info --model " + (dir / "run")).out.find("moba:rope"), std::string::npos);
    for (const char* nothing :
         {"--attention moba --switch moba@0.5", "--layers window:8 --switch full@0.5"}) {
        const Outcome refused = moba_errors(std::string(tiny_run) + nothing + " --out " + (dir / "no"));
        EXPECT_NE(refused.out.find("no layer would change"), std::string::npos) << refused.out;
    }
}

TEST(Switch, WrongValuesGiveOneLine) {
    for (const char* bad :
         {"full", "full@", "full@0", "full@1", "full@x", "full@0.5x", "half@0.5", "@0.5", "full@nan"}) {
        const Outcome r = moba_errors(std::string("train --switch ") + bad + " --out /nowhere/x");
        EXPECT_EQ(r.status, 1) << bad;
        EXPECT_NE(r.out.find(std::string("--switch ") + bad), std::string::npos) << r.out;
        EXPECT_EQ(lines(r.out), 1) << r.out;
    }
}

}  // namespace

}  // namespace moba

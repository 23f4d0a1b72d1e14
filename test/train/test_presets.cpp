/* Defaults for a text, for --init-from and for --size, and what comes before them. */
#include "test/support/program.h"
#include "train/options/presets.h"
#include "train/run/train_command.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

const std::string llama = MOBA_SOURCE_DIR "/test/huggingface/llama2_f32";

json values(const Words& words) { return parse_train(words).values; }

void expect_values(const Words& words, const json& wanted) {
    const json got = values(words);
    for (const auto& [name, value] : wanted.items()) {
        EXPECT_EQ(got.at(name), value) << words.back() << ": " << name;
    }
}

TEST(Presets, ATaskHasNone) {
    TrainOptions options;
    options.given = {"task", "pairs"};
    EXPECT_TRUE(preset_words(options, nullptr).empty());
}

TEST(Presets, OfAText) {
    const json plain = {{"hidden-size", 160}, {"num-layers", 5},     {"num-heads", 5},          {"lr", 0.003},
                        {"seq-len", 256},     {"batch-size", 16},    {"lr-schedule", "cosine"}, {"top-k", 4},
                        {"steps", 1000},      {"weight-decay", 0.1}, {"embedding-std", 0.02}};
    expect_values({"--data=x"}, plain);
    expect_values({"--data=x", "--lr=0.1", "--steps=5"}, {{"lr", 0.1}, {"steps", 5}, {"hidden-size", 160}});
    // a sample is four times as long as what a query attends, and the tokens of a batch stay the same
    expect_values({"--data=x", "--block-size=64", "--top-k=4"}, {{"seq-len", 1024}, {"batch-size", 4}});
    expect_values({"--data=x", "--block-size=64", "--seq-len=512"}, {{"seq-len", 512}, {"batch-size", 8}});
    expect_values({"--data=x", "--batch-size=3", "--size=124m"}, {{"batch-size", 3}, {"grad-accum", 1}});
    // one size of the model changes the others only where they would not fit: heads as wide as before
    expect_values({"--data=x", "--hidden-size=96"},
                  {{"num-layers", 5}, {"num-heads", 3}, {"intermediate-size", 0}});
    expect_values({"--data=x", "--hidden-size=100"}, {{"num-layers", 5}, {"num-heads", 1}});
    expect_values({"--data=x", "--num-layers=8"},
                  {{"hidden-size", 160}, {"num-heads", 5}, {"num-layers", 8}});
    expect_values({"--data=x", "--epochs=0"}, {{"steps", 1000}});
    expect_values({"--data=x", "--lr-decay-steps=10"}, {{"lr-schedule", "wsd"}, {"lr-decay-steps", 10}});
    EXPECT_EQ(parse_train({"--data=x", "--epochs=2"}).options.epochs, 2);
    refuse_idle_options(
        parse_train({"--data=x", "--epochs=2"}).options);  // the preset's --steps is not "given"
}

TEST(Presets, OfFineTuning) {
    expect_values({"--data=x", "--init-from=" + llama}, {{"lr", 1e-4},
                                                         {"block-size", 64},
                                                         {"top-k", 4},
                                                         {"seq-len", 1024},
                                                         {"batch-size", 1},
                                                         {"grad-accum", 4},
                                                         {"hidden-size", 64}});
    expect_values({"--data=x", "--init-from=" + llama, "--batch-size=8"}, {{"grad-accum", 1}});
    expect_values({"--data=x", "--init-from=" + llama, "--top-k=8"}, {{"seq-len", 2048}});
    // a task goes on as tasks do
    expect_values({"--init-from=" + llama}, {{"lr", 0.003}, {"seq-len", 256}});
}

// A model that has learnt to choose blocks keeps its own sizes, and the length follows them.
TEST(Presets, AModelWithMobaKeepsItsBlocks) {
    Config model;
    model.layers = parse_layers("moba", 2);
    model.block_size = 32, model.top_k = 5;
    TrainOptions options;
    options.data = {"x"};
    options.init_from = "m";
    options.given = {"data", "init-from"};
    const auto has = [](const Words& words, const std::string& word) {
        return std::find(words.begin(), words.end(), word) != words.end();
    };
    EXPECT_TRUE(has(preset_words(options, &model), "--seq-len=640"));
    EXPECT_TRUE(has(preset_words(options, &model), "--block-size=32")) << "as it is recorded";
    options.given.push_back("top-k");
    options.model.config.top_k = 2;
    EXPECT_TRUE(has(preset_words(options, &model), "--seq-len=256"));
    model.layers = parse_layers("full", 2);
    EXPECT_TRUE(has(preset_words(options, &model), "--seq-len=512"));
}

TEST(Presets, OfSize) {
    expect_values({"--size=small"}, {{"hidden-size", 384}, {"lr", 0.001}, {"seq-len", 256}});
    expect_values({"--size=124m", "--data=x"},
                  {{"num-layers", 12}, {"grad-accum", 8}, {"batch-size", 32}, {"lr-schedule", "cosine"}});
    expect_values({"--size=small", "--seq-len=128"}, {{"batch-size", 64}});
    expect_values({"--size=small", "--num-layers=3"}, {{"hidden-size", 384}, {"num-layers", 3}});
    EXPECT_EQ(values({"--size=small"})["size"], "small");
    EXPECT_EQ(parse_train({"--size=small", "--lr=1"}).options.given, (Words{"size", "lr"}));
}

// The command line's --size comes before the file's width; the file's width comes before the file's --size.
TEST(Presets, SizeAndConfigFile) {
    const TempDir dir;
    const std::string file = dir / "c.json";
    write_text(file, R"({"hidden-size": 32, "size": "small", "lr": 0.5, "seed": 7})");
    expect_values({"--config=" + file}, {{"hidden-size", 32}, {"num-layers", 6}, {"lr", 0.5}, {"seed", 7}});
    expect_values({"--config=" + file, "--size=tiny"},
                  {{"hidden-size", 160}, {"num-layers", 5}, {"lr", 0.003}, {"seed", 7}});
    write_text(file, R"({"num-heads": 4, "num-kv-heads": 2, "head-dim": 16, "grad-accum": 3})");
    expect_values({"--config=" + file, "--size=tiny"},
                  {{"num-heads", 5}, {"num-kv-heads", 0}, {"head-dim", 0}, {"grad-accum", 1}});
}

TEST(Presets, WhatIsRefused) {
    expect_refused("train --size huge", 2, "huge is not one of tiny, small, 124m");
    expect_refused("train --size tiny --init-from " + llama, 1, "--size cannot go with --init-from");
    expect_refused("train --init-from /nowhere --data x", 1, "/nowhere: there is no such folder");
}

// --resume takes the settings of the run, not today's defaults.
TEST(Presets, AResumedRunHasItsOwn) {
    const TempDir dir;
    const std::string out = " --out " + (dir / "run");
    write_text(dir / "t.txt", std::string(4000, 'a') + "b");
    const Outcome r =
        moba("train --data " + (dir / "t.txt") + " --steps 2 --eval-every 0 --device cpu" + out);
    ASSERT_EQ(r.status, 0) << r.out;
    const json saved = parse_train({"--resume", "--out", dir / "run"}).values;
    EXPECT_EQ(saved["hidden-size"], 160);
    EXPECT_EQ(saved["steps"], 2);
    EXPECT_EQ(saved["seq-len"], 256);
    EXPECT_EQ(moba("train --resume --steps 3" + out).status, 0);
    expect_refused("train --resume --size small" + out, 1, "contradicts the run");
}

TEST(Presets, TheHelpNamesThem) {
    const std::string help = moba("train --help").out;
    for (const char* part :
         {"with --data ", "with --data and --init-from ", "with --size 124m            --hidden-size 768"}) {
        EXPECT_NE(help.find(part), std::string::npos) << part << "\n" << help;
    }
}

}  // namespace

}  // namespace moba

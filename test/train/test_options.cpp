/* A run records its options as the program reads them, however CLI11 would print a value. */
#include "test/support/program.h"
#include "train/run/train_command.h"
#include <CLI/Error.hpp>
#include <sstream>

namespace moba {

namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

TEST(Options, DefaultsAsTheyAreRecorded) {
    const json recorded = parse_train({}).values;
    const json some = {
        {"task", ""},      {"data", ""},          {"val-data", ""}, {"val-share", 0.1},
        {"seq-len", 256},  {"recompute", false},  {"epochs", 0},    {"curriculum", ""},
        {"lr", 0.003},     {"beta2", 0.95},       {"seed", 1},      {"attention", "moba"},
        {"layers", ""},    {"rope-theta", 10000}, {"out", "out"},   {"precision", "fp32"},
        {"init-from", ""}, {"key-conv", 0},       {"head-dim", 0},  {"tie-word-embeddings", false}};
    for (const auto& [name, value] : some.items()) { EXPECT_EQ(recorded.at(name), value) << name; }
    for (const auto& [name, value] : recorded.items()) {
        EXPECT_EQ(value.dump().find_first_of("{}[]"), std::string::npos) << name << " " << value;
    }
    for (const char* none : {"help", "config", "resume"}) { EXPECT_FALSE(recorded.contains(none)) << none; }
}

// Every option with a value that is not its default: it is recorded as given, and the recorded options give
// the same record again.
TEST(Options, EveryValueComesBack) {
    const json defaults = parse_train({}).values;
    json given;
    for (const auto& [name, value] : defaults.items()) {
        if (value.is_boolean()) { given[name] = true; }
        if (value.is_number_integer()) { given[name] = value.get<int>() + 1; }
        if (value.is_number_float()) { given[name] = value.get<double>() / 3; }  // all 17 digits
    }
    given.update({{"task", "mqar"},
                  {"data", "a b,c.bin"},
                  {"val-data", "12"},
                  {"tokenizer", "a/tokenizer.json"},
                  {"curriculum", "32:8:128:300,64:4:64:150"},
                  {"attention", "full"},
                  {"layers", "window:64:rope,moba:none"},
                  {"gate", "sink"},
                  {"key-conv", 5},
                  {"rope-scaling", "llama3:8:1:4:8192"},
                  {"switch", "full@0.9"},
                  {"lr-schedule", "cosine"},
                  {"lr", 1e-5},
                  {"beta1", 0.123456789012345},
                  {"epochs", 2.5},
                  {"seed", 18446744073709551615u},
                  {"out", "7"},
                  {"init-from", MOBA_SOURCE_DIR "/test/huggingface/llama2_f32"},
                  {"size", "small"},
                  {"dropout", 0.25},
                  {"attention-impl", "naive"},
                  {"device", "cpu"},
                  {"precision", "bf16"}});
    for (const auto& [name, value] : defaults.items()) { EXPECT_NE(given.value(name, value), value) << name; }
    EXPECT_EQ(given.size(), defaults.size());
    const json recorded = parse_train(option_words(given)).values;
    EXPECT_EQ(recorded, given);
    EXPECT_EQ(parse_train(option_words(recorded)).values, given);
}

TEST(Options, ALaterWordReplacesAnEarlierOne) {
    const json recorded = parse_train({"--lr=1", "--lr=2e-3", "--recompute", "--recompute=false"}).values;
    EXPECT_EQ(recorded["lr"], 0.002);
    EXPECT_EQ(recorded["recompute"], false);
}

// Every option has a sentence; its default, unless that is empty; lines of at most 80 characters; no limits
// of values.
TEST(Options, HelpReadsWellAtEightyColumns) {
    for (const char* command : {"", "train", "eval", "swap", "sample", "compare", "plan", "inspect", "plot",
                                "bench", "lab", "tokens", "info"}) {
        const std::string help = moba(std::string(command) + " --help").out;
        ASSERT_FALSE(help.empty()) << command;
        std::istringstream lines(help);
        for (std::string line; std::getline(lines, line);) {
            EXPECT_LE(line.size(), 80u) << command << ": " << line;
        }
        for (const char* clutter : {" in [", "INT", "1073741824", "({", "REQUIRED"}) {
            EXPECT_EQ(help.find(clutter), std::string::npos) << command << ": " << clutter;
        }
        for (size_t at = help.find("\n  --"); at != std::string::npos; at = help.find("\n  --", at + 1)) {
            const size_t end = std::min(help.find("\n  -", at + 1), help.find("\n\n", at + 1));
            const std::string entry = help.substr(at, end - at);
            EXPECT_EQ(entry.substr(0, entry.find_last_not_of('\n') + 1).back(), '.') << command << entry;
        }
    }
    const std::string help = moba("train --help").out;
    EXPECT_NE(help.find("0.985"), std::string::npos) << help;
    const size_t at = help.find("--data FILE");
    ASSERT_NE(at, std::string::npos) << help;
    EXPECT_EQ(help.substr(at, help.find("--size", at) - at).find("Default"), std::string::npos) << help;
}

// Zeros in front make no octal number, and a number that does not fit is refused, not replaced.
TEST(Options, NumbersAreDecimal) {
    const auto value = [](const std::string& word, const char* name) {
        return parse_train({word}).values[name];
    };
    EXPECT_EQ(value("--steps=010", "steps"), 10);
    EXPECT_EQ(value("--steps=08", "steps"), 8);
    EXPECT_EQ(value("--steps=1e3", "steps"), 1000);
    EXPECT_EQ(value("--key-conv=05", "key-conv"), 5);
    EXPECT_EQ(value("--seed=0018446744073709551615", "seed"), UINT64_MAX);
    EXPECT_EQ(value("--lr=00.50", "lr"), 0.5);
    EXPECT_EQ(parse_switch("full@00.5").share, 0.5);
    EXPECT_EQ(parse_curriculum("032:08:010:0100")[0].steps, 100);
    EXPECT_EQ(parse_layers("window:010", 1)[0].window, 10);
    EXPECT_EQ(parse_rope_scaling("llama3:08:01:04:08192").original_max_position_embeddings, 8192);
    for (const char* word : {"--steps=0x10",
                             "--steps=1_000",
                             "--steps= 5",
                             "--steps=5 ",
                             "--steps=1.5",
                             "--steps=",
                             "--steps=true",
                             "--pairs=0x2",
                             "--pairs=99999999999",
                             "--seed=18446744073709551616",
                             "--seed=-1",
                             "--seed=1e20",
                             "--lr=0x1p-3",
                             "--lr=inf",
                             "--lr=nan",
                             "--lr=1e999",
                             "--rope-theta=nan",
                             "--rope-theta=0x10",
                             "--embedding-std=inf",
                             "--dropout=0x0"}) {
        EXPECT_THROW(parse_train({word}), CLI::ParseError) << word;
    }
    for (const char* share : {"full@0x1p-1", "full@ 0.5", "full@nan", "full@0,5"}) {
        EXPECT_THROW(parse_switch(share), Error) << share;
    }
    for (const char* stages : {"0x20:8:8:8", "32:8:8: 8", "32:8:8:8:8", "32:8:8:8:", "32:8:8", "32::8:8"}) {
        EXPECT_THROW(parse_curriculum(stages), Error) << stages;
    }
    for (const char* scaling : {"linear:0x2", "linear: 2", "linear:nan", "linear:inf", "linear:2:3", "linear",
                                "llama3:8:1:4", "llama3:8:1:4:0x20", "llama3:8:1:4:8192:1"}) {
        EXPECT_THROW(parse_rope_scaling(scaling), Error) << scaling;
    }
}

// The same in a file: JSON writes 1000 as 1e3 or 1000.0, too.
TEST(Options, NumbersInAFile) {
    const TempDir dir;
    const std::string file = dir / "c.json";
    const auto read = [&](const std::string& text) {
        write_text(file, text);
        return parse_train({"--config=" + file}).values;
    };
    EXPECT_EQ(
        read(R"({"steps": 1e3, "seq-len": 128.0, "seed": 18446744073709551615, "lr": "00.5"})")["steps"],
        1000);
    EXPECT_EQ(read(R"({"steps": "0012"})")["steps"], 12);
    for (const char* wrong :
         {R"({"steps": 1.5})", R"({"steps": "0x10"})", R"({"seed": 18446744073709551616})", R"({"seed": -1})",
          R"({"steps": [1, 2]})", R"({"steps": true})", R"({"lr": "nan"})"}) {
        EXPECT_THROW(read(wrong), CLI::ParseError) << wrong;
    }
    for (const char* wrong : {R"({"data": [null]})", R"({"data": [["a"]]})", R"({"data": [{}]})"}) {
        EXPECT_THROW(read(wrong), Error) << wrong;
    }
    const Outcome pipe = shell("echo '{\"steps\": 0}' | " MOBA_PROGRAM " train --config /dev/stdin");
    EXPECT_NE(pipe.out.find("--steps"), std::string::npos) << "a pipe is read: " << pipe.out;
}

TEST(Options, AnEmptyValueTakesNoOtherWord) {
    const TrainOptions o =
        parse_train({"--curriculum=", "--out=", "--recompute", "--init-from=", "--steps=3"}).options;
    EXPECT_TRUE(o.recompute);
    EXPECT_EQ(o.steps, 3);
    EXPECT_EQ(o.out + o.curriculum + o.init_from, "");
    EXPECT_THROW(parse_train({"--steps=", "--recompute"}), CLI::ParseError);
}

// A comma separates names, unless the word is the name of a file, or the comma is written \,.
TEST(Options, CommasInNamesOfFiles) {
    const TempDir dir;
    const std::string both = dir / "x,y.txt", x = dir / "x", y = dir / "y";
    write_text(both, "z");
    EXPECT_EQ(split_files(both), Words{both});
    EXPECT_EQ(split_files(x + "," + y), (Words{x, y}));
    EXPECT_EQ(split_files("a\\,b,c\\d"), (Words{"a,b", "c\\d"}));
    for (const Words& files : {Words{"a"}, {"a,b"}, {"a\\,b", ",", "c"}, {both, x}, {}}) {
        if (!files.empty()) { EXPECT_EQ(split_files(files_text(files)), files) << files_text(files); }
        EXPECT_EQ(parse_train(option_words({{"data", files}})).options.data, files);
        EXPECT_EQ(parse_train(option_words({{"data", files_text(files)}})).options.data, files)
            << "as it is recorded";
    }
    EXPECT_EQ(parse_train({"--data", both, x + "," + y, "--val-data=" + both}).options.data,
              (Words{both, x, y}));
    EXPECT_EQ(parse_train({"--data", both, "--val-data=" + both}).options.val_data, Words{both});
    for (const char* empty : {"--data=", "--data=a,,b", "--data=a,", "--val-data="}) {
        EXPECT_THROW(parse_train({empty}), CLI::ParseError) << empty;
    }
}

// What would do nothing is refused, by its name.
TEST(Options, IdleOptions) {
    const TempDir dir;
    write_text(dir / "t.txt", "some text");
    const std::string text = "--data=" + (dir / "t.txt");
    const auto refused = [&](Words words) -> std::string {
        try {
            refuse_idle_options(parse_train(words).options);
        } catch (const Error& e) { return e.what(); }
        return "";
    };
    for (const char* setting : {"pairs", "pair-every", "questions", "key-tokens", "value-tokens", "needles",
                                "synonyms", "spread", "hops", "num-keys", "num-values", "num-noise"}) {
        const std::string option = std::string("--") + setting;
        EXPECT_EQ(refused({text, option + "=5"}).rfind(option + " is a setting of tasks", 0), 0u) << option;
        EXPECT_EQ(refused({text, option + "=0"}), "") << "0 sets nothing";
        EXPECT_EQ(refused({option + "=5"}), "");
    }
    EXPECT_EQ(refused({text, "--pairs=0", "--hops=2"}).rfind("--hops ", 0), 0u);
    EXPECT_NE(refused({"--val-share=0.2"}), "");
    EXPECT_NE(refused({"--shared-gate", "--num-heads=2"}), "") << "each query head has its own keys";
    EXPECT_NE(refused({"--shared-gate", "--num-heads=2", "--num-kv-heads=1", "--gate=sink"}), "");
    EXPECT_EQ(refused({"--shared-gate", "--num-heads=2", "--num-kv-heads=1"}), "");
    EXPECT_NE(refused({text, text.substr(0, 2) + "val-" + text.substr(2), "--val-share=0.2"}), "");
    EXPECT_EQ(refused({text, "--val-share=0.2"}), "");
    EXPECT_NE(refused({text, "--steps=5", "--epochs=1"}), "");
    EXPECT_EQ(refused({text, "--epochs=1"}), "");
    EXPECT_NE(refused({"--stage-accuracy=0.9"}), "");
    EXPECT_NE(refused({"--attention=full", "--full-layers=1"}), "");
    EXPECT_EQ(refused({"--full-layers=1"}), "");
    EXPECT_EQ(refused({"--stage-accuracy=0"}), "");
    EXPECT_EQ(refused({"--stage-accuracy=0.9", "--curriculum=16:4:1:1"}), "");
    EXPECT_NE(refused({"--lr-schedule=cosine", "--lr-decay-steps=5"}), "");
    EXPECT_NE(refused({"--lr-schedule=constant", "--min-lr-ratio=0.5"}), "");
    EXPECT_EQ(refused({"--lr-schedule=wsd", "--lr-decay-steps=5", "--min-lr-ratio=0.5"}), "");
    // in a file, too; but the command line replaces the steps of a file by epochs
    write_text(dir / "c.json", R"({"data": ")" + (dir / "t.txt") + R"(", "steps": 9, "hops": 3})");
    EXPECT_EQ(refused({"--config=" + (dir / "c.json")}).rfind("--hops", 0), 0u);
    EXPECT_EQ(refused({"--config=" + (dir / "c.json"), "--hops=0", "--epochs=1"}), "");
}

}  // namespace

}  // namespace moba

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
                  {"init-from", "12"},
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
    for (const char* command : {"train", "eval", "sample", "bench", "compare", "info", "inspect"}) {
        const std::string help = moba(std::string(command) + " --help").out;
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
    EXPECT_EQ(help.substr(at, help.find("--val-data", at) - at).find("Default"), std::string::npos) << help;
}

}  // namespace

}  // namespace moba

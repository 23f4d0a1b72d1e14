/* What the program prints: all of it arrives or the exit status says so, colours only where they are wanted,
   pages that every browser can read, commands that can be pasted. */
#include "test/support/program.h"
#include "train/core/terminal.h"
#include "train/core/utf8.h"
#include "train/display/html.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

// A run of a byte model, of few steps.
std::string text_run(const TempDir& dir) {
    std::string text;
    for (int i = 0; i < 500; i++) { text += std::to_string(i * i) + "\n"; }
    write_text(dir / "squares.txt", text);
    const std::string run = dir / "text";
    const Outcome r =
        moba("train --data " + (dir / "squares.txt") +
             " --seq-len 24 --batch-size 2 --hidden-size 16 --num-heads 1 --num-layers 1 "
             "--block-size 16 --top-k 1 --steps 2 --warmup 0 --eval-every 0 --device cpu --out " +
             run);
    EXPECT_EQ(r.status, 0) << r.out;
    return run;
}

// /dev/full fails every write, as a full disk does.
TEST(Output, AFullDiskIsAnError) {
    const TempDir dir;
    const std::string run = text_run(dir), model = " --device cpu --model " + run;
    write_text(dir / "plan.json", R"({"tasks": [{"name": "needle", "hidden-size": 16, "num-heads": 1}],
                                      "variants": [{"name": "full", "attention": "full"}]})");
    for (const std::string& command :
         {"info --model " + run, "eval --windows 1" + model, "sample --max-new-tokens 2 --prompt 1" + model,
          "inspect --prompt 12 --out " + (dir / "p.html") + model,
          "compare --dry-run --config " + (dir / "plan.json"),
          std::string("bench op --op residual --seq-len 16 --hidden-size 16 --repeats 1 --device cpu"),
          std::string("--version"), std::string("--help"), std::string("train --help"),
          std::string("eval --help")}) {
        const Outcome r = shell(MOBA_PROGRAM " " + command + " 2>&1 >/dev/full | grep -v tokens/s");
        EXPECT_NE(r.out.find("moba: standard output: "), std::string::npos) << command << ": " << r.out;
        EXPECT_EQ(lines(r.out), 1) << command << ": " << r.out;
        EXPECT_EQ(shell(MOBA_PROGRAM " " + command + " > /dev/full").status, 1) << command;
    }
    EXPECT_EQ(shell(MOBA_PROGRAM " info --model " + run + " >&-").status, 1);
    // Training goes on, and its checkpoint is there.
    const std::string train =
        "train --task needle --seq-len 32 --batch-size 1 --hidden-size 16 --num-heads 1 --device "
        "cpu --steps 3 --warmup 0 --eval-every 0 --out ";
    EXPECT_EQ(shell(MOBA_PROGRAM " " + train + (dir / "a") + " > /dev/full").status, 1);
    EXPECT_NE(moba("info --model " + (dir / "a")).out.find("step-3"), std::string::npos);
    // Closed, it does not become the next file that is opened.
    EXPECT_EQ(shell(MOBA_PROGRAM " " + train + (dir / "b") + " >&-").status, 1);
    std::istringstream log(read_text(dir / "b/log.jsonl"));
    for (std::string line; std::getline(log, line);) { EXPECT_TRUE(json::accept(line)) << line; }
}

// A reader that ends early: what has been learnt is saved.
TEST(Output, ATrainingWhoseReaderEndsIsSaved) {
    const TempDir dir;
    const std::string run = dir / "run";
    const Outcome r = shell(
        "{ " MOBA_PROGRAM " train --task needle --seq-len 32 --batch-size 1 --hidden-size 16 --num-heads 1 "
        "--device cpu --steps 1000000 --warmup 0 --eval-every 0 --save-every 0 --log-every 1 --out " +
        run + "; echo status $? >&2; } | grep -m1 'step 5/'");
    EXPECT_NE(r.out.find("status 1"), std::string::npos) << r.out;
    EXPECT_EQ(moba("info --model " + run).status, 0);
}

TEST(Output, Terminals) {
    setenv("TERM", "dumb", 1);
    EXPECT_FALSE(is_terminal(0) || has_colours(0));
    if (shell("command -v script").status != 0) { GTEST_SKIP() << "needs script(1)"; }
    const TempDir dir;
    const std::string run = dir / "run";
    ASSERT_EQ(
        moba("train --task needle --seq-len 32 --batch-size 1 --hidden-size 16 --num-heads 1 --device cpu "
             "--steps 1 --warmup 0 --eval-every 0 --out " +
             run)
            .status,
        0);
    const auto shown = [&](const std::string& environment) {
        return shell(environment +
                     " script -qec '" MOBA_PROGRAM " eval --samples 2 --depths 2 --device cpu --model " +
                     run + "' /dev/null < /dev/null")
            .out;
    };
    const std::string colour = "\033[30;48;5;", overwritten = "\033[K";
    const std::string filling = shown("env -u NO_COLOR TERM=xterm"), redrawn = "\033[3A\033[J";
    EXPECT_NE(filling.find(colour), std::string::npos);
    const size_t first = filling.find(redrawn);
    ASSERT_NE(first, std::string::npos) << "the heat map of two depths is drawn again as it fills";
    EXPECT_NE(filling.find(redrawn, first + 1), std::string::npos) << "and once more at the end";
    EXPECT_NE(filling.find("         -"), std::string::npos) << "what is not measured yet";
    EXPECT_NE(shown("NO_COLOR= TERM=xterm").find(colour), std::string::npos) << "an empty value says nothing";
    const std::string plain = shown("NO_COLOR=1 TERM=xterm");
    EXPECT_EQ(plain.find(colour), std::string::npos) << plain;
    EXPECT_NE(plain.find(overwritten), std::string::npos) << "progress is no colour";
    EXPECT_EQ(shown("env -u NO_COLOR TERM=dumb").find('\033'), std::string::npos);
}

TEST(Output, ValidUtf8) {
    EXPECT_EQ(valid_utf8("plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
              "plain \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
    EXPECT_EQ(valid_utf8("\xff\xfe"
                         "A"),
              "\\xff\\xfeA");
    EXPECT_EQ(valid_utf8("\xc3"), "\\xc3");
    EXPECT_EQ(valid_utf8("\xe2\x82"
                         "x"),
              "\\xe2\\x82x");
    EXPECT_EQ(valid_utf8("\xc0\xaf"), "\\xc0\\xaf") << "overlong";
    EXPECT_EQ(valid_utf8("\xe0\x80\xaf"), "\\xe0\\x80\\xaf") << "overlong";
    EXPECT_EQ(valid_utf8("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
    EXPECT_EQ(valid_utf8("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "above U+10FFFF";
    std::string all;
    for (int first = 0; first < 256; first++) {
        for (int second = 0; second < 256; second++) { all += {(char)first, (char)second}; }
    }
    EXPECT_TRUE(json::accept(json(valid_utf8(all)).dump()));
    EXPECT_NE(html_page("t\xff", "b\xfe").find("b\\xfe"), std::string::npos);
    EXPECT_NO_THROW(json(html_page("t\xff", "b\xfe", "'\x80'")).dump());
}

TEST(Output, APageOfSingleBytesIsUtf8) {
    const TempDir dir;
    const std::string page = dir / "p.html";
    const std::string inspect =
        "inspect --device cpu --model " + text_run(dir) + " --out " + page + " --prompt-ids ";
    ASSERT_EQ(moba(inspect + "200,65,195,169,130").status, 0);
    const std::string html = read_text(page);
    EXPECT_NO_THROW(json(html).dump());
    EXPECT_NE(html.find("\\xc8A\xc3\xa9\\x82"), std::string::npos)
        << "two bytes that form a character stay one";
}

// The command that goes on with a stopped run works as it is printed.
TEST(Output, CommandToGoOnWith) {
    const TempDir dir;
    const std::string run = dir / "it's a \"run\" $HOME";
    setenv("RUN", run.c_str(), 1);
    const Outcome r =
        shell("(" MOBA_PROGRAM " train --task needle --seq-len 32 --batch-size 1 --hidden-size 16 "
              "--num-heads 1 --device cpu --steps 1000000 --warmup 0 --eval-every 0 --save-every 0 "
              "--out \"$RUN\" & p=$!; while [ ! -s \"$RUN/log.jsonl\" ] && kill -0 $p; do sleep "
              "0.01; done; kill -TERM $p; wait $p)");
    const std::string before = "go on with: ";
    const size_t at = r.out.find(before);
    ASSERT_NE(at, std::string::npos) << r.out;
    const std::string words = r.out.substr(at + before.size(), r.out.find('\n', at) - at - before.size());
    const Outcome all = shell("printf '[%s]' " + words);
    EXPECT_EQ(all.out, "[" MOBA_PROGRAM "][train][--resume][--out][" + run + "]");
}

}  // namespace

}  // namespace moba

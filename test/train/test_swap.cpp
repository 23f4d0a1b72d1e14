/* moba swap: its results are those of moba eval, a second call adds to them, and other models are refused. */
#include "test/support/program.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;

std::string sentences(int n) {
    std::string out;
    for (int i = 0; i < n; i++) { out += "the cat " + std::to_string(i * 7 % 10) + " sat on the mat. "; }
    return out;
}

class Swap : public testing::Test {
  public:
    void SetUp() override {
        write_text(dir / "a.txt", sentences(40));
        train(1, "run");
    }
    void train(int seed, const std::string& name) {
        const Outcome r =
            moba("train --hidden-size 32 --num-layers 2 --num-heads 2 --seq-len 64 --batch-size 2 "
                 "--block-size 16 --top-k 2 --steps 3 --warmup 1 --eval-every 0 --log-every 1000 --seed " +
                 std::to_string(seed) + " --data " + (dir / "a.txt") + " --out " + (dir / name));
        ASSERT_EQ(r.status, 0) << r.out;
    }
    std::string command(const std::string& variants, const std::string& more = "") {
        return "swap --model " + (dir / "run") + " --data " + (dir / "a.txt") +
               " --seq-len 64 --windows 4 --out " + (dir / "swap") + " --variants " + variants + " " + more;
    }
    json results() { return json::parse(read_text(dir / "swap/results.json"))["variants"]; }
    TempDir dir;
};

TEST_F(Swap, IsWhatEvalSays) {
    const Outcome r = moba(command("full,16:2,'16:2:1, 64:2'"));
    ASSERT_EQ(r.status, 0) << r.out;
    ASSERT_EQ(results().size(), 4u);
    const auto eval = [&](const std::string& attention) {
        EXPECT_EQ(moba("eval --model " + (dir / "run") + " --data " + (dir / "a.txt") +
                       " --seq-len 64 --windows 4 --json " + (dir / "e.json") + " --attention " + attention)
                      .status,
                  0);
        return json::parse(read_text(dir / "e.json"))["lengths"][0];
    };
    const json full = eval("full"), moba16 = eval("moba --block-size 16 --top-k 2");
    EXPECT_EQ(results()[0]["loss"], full["loss"]);
    EXPECT_EQ(results()[0]["bits_per_byte"], full["bits_per_byte"]);
    EXPECT_EQ(results()[1]["loss"], moba16["loss"]);
    EXPECT_EQ(results()[3]["loss"], full["loss"]) << "K x S covers the window";
    const double half = results()[2]["sparsity"], whole = results()[1]["sparsity"];
    EXPECT_DOUBLE_EQ(half, whole / 2) << "the last of two layers is full";
    EXPECT_NE(r.out.find("S = 16, K = 2, last layer full"), std::string::npos) << r.out;
    const std::string page = read_text(dir / "swap/page.html");
    EXPECT_NE(page.find("S = 16, K = 2"), std::string::npos);
    EXPECT_EQ(page.find("nan"), std::string::npos);
}

TEST_F(Swap, ASecondCallAdds) {
    ASSERT_EQ(moba(command("16:2")).status, 0);
    const json before = results();
    const Outcome r = moba(command("16:2,full"));
    ASSERT_EQ(r.status, 0) << r.out;
    ASSERT_EQ(results().size(), 2u);
    EXPECT_EQ(results()[0], before[0]) << "not computed again";
    // the same model and text under other names
    std::filesystem::rename(dir / "a.txt", dir / "b.txt");
    EXPECT_EQ(moba("swap --model " + (dir / "run/") + " --data " + (dir / "b.txt") +
                   " --seq-len 64 --windows 4 --out " + (dir / "swap") + " --variants 16:1")
                  .status,
              0);
    EXPECT_EQ(results().size(), 3u);
}

TEST_F(Swap, WhatIsRefused) {
    ASSERT_EQ(moba(command("full")).status, 0);
    expect_refused(command("full", "--windows 3"), 1, "was measured with another windows");
    expect_refused(command("full", "--seq-len 32"), 1, "was measured with another seq-len");
    std::filesystem::remove_all(dir / "run");
    train(2, "run");
    expect_refused(command("full"), 1, "was measured with another weights");
    for (const char* bad : {"16", "a:2", "16:2:3:4", "16:2:-1", "0:2", "16:", "half"}) {
        expect_refused(command(bad), 1, std::string("--variants ") + bad + ": must be full, S:K or S:K:N");
    }
    expect_refused(command("16:2:3"), 1, "--variants 16:2:3: the model has only 2 layers");
    expect_refused(command("17:2"), 1, "--variants 17:2: block_size = 17");
    expect_refused(command("full", "--seq-len 4096 --out " + (dir / "other")), 1,
                   "fewer than one window of --seq-len 4096");
    write_text(dir / "swap/results.json", "{}");
    expect_refused(command("full"), 1, "is not a result of moba swap");
}

}  // namespace

}  // namespace moba

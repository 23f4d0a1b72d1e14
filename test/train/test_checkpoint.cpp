/* Checkpoints: a resumed run is exact; whenever the process is killed the last good checkpoint remains; a
   damaged one is refused. */
#include "test/support/check.h"
#include "test/support/program.h"
#include <chrono>
#include <csignal>
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace moba {

namespace {

std::string weights_of(const std::string& run) { return read_text(run + "/latest/model.safetensors"); }
std::string moments_of(const std::string& run) { return read_text(run + "/latest/state.safetensors"); }

std::vector<double> losses_of(const std::string& run) {
    std::ifstream in(run + "/log.jsonl");
    std::vector<double> losses;
    for (std::string line; std::getline(in, line);) {
        const auto j = nlohmann::json::parse(line);
        if (j.contains("loss")) { losses.push_back(j["loss"]); }
    }
    return losses;
}

std::string memory_line(const Outcome& r) {
    const size_t at = r.out.find("memory  ");
    return r.out.substr(at, r.out.find('\n', at) - at);
}

TEST(Checkpoint, ResumeIsExact) {
    const TempDir dir;
    const std::string run =
        std::string(tiny_run) +
        "--dropout 0.1 --steps 12 --grad-accum 2 --save-every 5 --curriculum 32:4:4:4 --out ";
    ASSERT_EQ(moba(run + (dir / "whole")).status, 0);
    // interrupt at about step 7 as Ctrl-C does, resume, and compare the bits
    const Outcome cut =
        shell("(" MOBA_PROGRAM " " + run + (dir / "cut") + " --log-every 1 & p=$!; while [ ! -e " +
              (dir / "cut/latest") + " ] && kill -0 $p; do sleep 0.01; done; kill -INT $p; wait $p)");
    EXPECT_EQ(cut.status, 0) << cut.out;
    const Outcome r = moba("train --resume --out " + (dir / "cut"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(weights_of(dir / "whole"), weights_of(dir / "cut"));
    EXPECT_EQ(moments_of(dir / "whole"), moments_of(dir / "cut"));
    EXPECT_EQ(lines(read_text(dir / "whole/log.jsonl")), lines(read_text(dir / "cut/log.jsonl")))
        << "every step is logged once";
}

TEST(Checkpoint, SameSeedSameBitsAnyThreads) {
    const TempDir dir;
    const std::string run =
        std::string(tiny_run) + "--steps 5 --num-heads 2 --num-kv-heads 1 --key-conv 3 --layers moba,full ";
    for (const char* threads : {"1", "2", "3"}) {
        ASSERT_EQ(shell(std::string("OMP_NUM_THREADS=") + threads + " " MOBA_PROGRAM " " + run + "--out " +
                        (dir / threads))
                      .status,
                  0);
    }
    EXPECT_EQ(weights_of(dir / "1"), weights_of(dir / "2"));
    EXPECT_EQ(weights_of(dir / "1"), weights_of(dir / "3"));
    ASSERT_EQ(moba(run + "--seed 2 --out " + (dir / "other")).status, 0);
    EXPECT_NE(weights_of(dir / "1"), weights_of(dir / "other"));
}

TEST(Checkpoint, RecomputeSameBits) {
    const TempDir dir;
    const std::string run = std::string(tiny_run) +
                            "--steps 5 --grad-accum 2 --dropout 0.1 --num-layers 5 --num-heads 4 "
                            "--num-kv-heads 2 --key-conv 3 --layers moba,window:9,full:none ";
    const Outcome stored = moba(run + "--out " + (dir / "stored"));
    const Outcome again = moba(run + "--recompute --out " + (dir / "again"));
    ASSERT_EQ(stored.status, 0);
    ASSERT_EQ(again.status, 0);
    EXPECT_NE(memory_line(stored), memory_line(again)) << "recomputation needs less memory";
    EXPECT_EQ(weights_of(dir / "stored"), weights_of(dir / "again"));
    EXPECT_EQ(moments_of(dir / "stored"), moments_of(dir / "again"));
    EXPECT_EQ(losses_of(dir / "stored"), losses_of(dir / "again"));
    EXPECT_EQ(losses_of(dir / "again").size(), 5u);
}

TEST(Checkpoint, ResumeRefusesOtherSettings) {
    const TempDir dir;
    ASSERT_EQ(moba(std::string(tiny_run) + "--steps 4 --out " + (dir / "run")).status, 0);
    const Outcome lr = moba("train --resume --lr 0.5 --out " + (dir / "run"));
    EXPECT_EQ(lr.status, 1);
    EXPECT_NE(lr.out.find("--lr 0.5 contradicts"), std::string::npos) << lr.out;
    EXPECT_EQ(
        moba("train --resume --lr 3e-3 --hidden-size 32 --save-every 2 --device cpu --recompute --out " +
             (dir / "run"))
            .status,
        0)
        << "the same value, and free options";
}

// Earlier versions of the program recorded "no files", and a flag that was not given, in these forms.
TEST(Checkpoint, ResumesOlderRecords) {
    const TempDir dir;
    const std::string text = dir / "text.txt";
    write_text(text, std::string(2000, 'a'));
    for (const std::string& task :
         {std::string("--task needle"), "--num-keys 0 --num-values 0 --num-noise 0 --data " + text}) {
        const std::string run = dir / (task[2] == 't' ? "task" : "text"), state = run + "/latest/state.json";
        ASSERT_EQ(moba(std::string(tiny_run) + task + " --steps 4 --out " + run).status, 0);
        for (const char* none : {"", "[]", "{}"}) {
            auto j = nlohmann::json::parse(read_text(state));
            for (const char* files : {"data", "val-data"}) {
                const bool given = j["options"][files] == text;
                if (!given) { j["options"][files] = none; }
            }
            j["options"]["recompute"] = j["options"]["tie-word-embeddings"] = "";
            write_text(state, j.dump());
            const Outcome r = moba("train --resume --out " + run);
            EXPECT_EQ(r.status, 0) << none << "\n" << r.out;
        }
    }
}

TEST(Checkpoint, KeepsTheLastTwo) {
    const TempDir dir;
    ASSERT_EQ(moba(std::string(tiny_run) + "--steps 7 --save-every 2 --out " + (dir / "run")).status, 0);
    EXPECT_TRUE(std::filesystem::exists(dir / "run/step-7") && std::filesystem::exists(dir / "run/step-6"));
    EXPECT_FALSE(std::filesystem::exists(dir / "run/step-4"));
    EXPECT_EQ(std::filesystem::read_symlink(dir / "run/latest"), "step-7");
}

// The run saves at every step and is killed at random moments: the checkpoint that `latest` names is always
// complete, and the final result has the same bits.
TEST(Checkpoint, KilledWhileSaving) {
    const TempDir dir;
    const std::string run = std::string(tiny_run) + "--hidden-size 128 --steps 40 --save-every 1 --out ";
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    ASSERT_EQ(moba(run + (dir / "whole")).status, 0);
    const double whole = std::chrono::duration<double, std::micro>(Clock::now() - begin).count();
    int kills = 0, between = 0;
    unsigned random = 12345;
    std::string command = run + (dir / "cut");
    // wait longer each time, so that every machine reaches the end
    for (double most = whole / 4;; most *= 1.03) {
        const pid_t child = fork();
        if (child == 0) {
            if (!std::freopen("/dev/null", "w", stdout)) { _exit(3); }
            execl("/bin/sh", "sh", "-c", ("exec " MOBA_PROGRAM " " + command).c_str(), (char*)nullptr);
            _exit(4);
        }
        random = random * 1664525 + 1013904223;
        usleep((useconds_t)(most * (0.2 + 0.8 * random / 4294967296.0)));
        const bool killed = kill(child, SIGKILL) == 0;
        int status;
        waitpid(child, &status, 0);
        if (WIFEXITED(status)) {
            ASSERT_EQ(WEXITSTATUS(status), 0);
            if (kills >= 2) { break; }
            // too few kills because the machine became faster: start again
            std::filesystem::remove_all(dir / "cut");
            command = run + (dir / "cut");
            most /= 4;
            continue;
        }
        kills += killed;
        if (!std::filesystem::exists(dir / "cut")) { continue; }  // killed before it wrote anything
        for (const auto& entry : std::filesystem::directory_iterator(dir / "cut")) {
            between += entry.path().extension() == ".tmp";
        }
        if (std::filesystem::exists(dir / "cut/latest")) {
            ASSERT_EQ(moba("info --model " + (dir / "cut")).status, 0);
            command = "train --resume --out " + (dir / "cut");
        } else {
            std::filesystem::remove_all(dir / "cut");
        }
        ASSERT_LT(kills, 1000) << "the run makes no progress";
    }
    std::printf("  killed %d times, %d of them in the middle of a save\n", kills, between);
    EXPECT_EQ(weights_of(dir / "whole"), weights_of(dir / "cut"));
    EXPECT_EQ(moments_of(dir / "whole"), moments_of(dir / "cut"));
}

// A file-size limit acts like a full disk: the write fails half-way.
TEST(Checkpoint, FullDiskKeepsTheOneBefore) {
    const TempDir dir;
    ASSERT_EQ(moba(std::string(tiny_run) + "--steps 4 --save-every 2 --out " + (dir / "run")).status, 0);
    const std::string before = weights_of(dir / "run");
    std::filesystem::create_directories(dir / "full");
    const Outcome r = shell("ulimit -f 64; " MOBA_PROGRAM " " + std::string(tiny_run) +
                            "--steps 4 --save-every 2 --hidden-size 96 --out " + (dir / "full"));
    EXPECT_EQ(r.status, 1) << r.out;
    EXPECT_NE(r.out.find("checkpoint not saved"), std::string::npos) << r.out;
    for (const auto& entry : std::filesystem::directory_iterator(dir / "full")) {
        EXPECT_EQ(entry.path().filename().string().rfind("step-", 0), std::string::npos)
            << "nothing half-written stays";
    }
    EXPECT_EQ(before, weights_of(dir / "run"));
}

TEST(Checkpoint, DamagedOnesAreRefusedInOneLine) {
    const TempDir dir;
    ASSERT_EQ(moba(std::string(tiny_run) + "--steps 2 --out " + (dir / "run")).status, 0);
    const auto damaged = [&](const std::string& file, const std::string& text, const std::string& command,
                             const std::string& says) {
        const std::string path = dir / "run/latest/" + file, good = read_text(path);
        if (text == "<missing>") {
            std::filesystem::remove(path);
        } else {
            write_text(path, text);
        }
        const Outcome r = moba_errors(command + (dir / "run"));
        EXPECT_EQ(r.status, 1) << r.out;
        EXPECT_NE(r.out.find(says), std::string::npos) << says << "\n" << r.out;
        EXPECT_EQ(lines(r.out), 1) << r.out;
        write_text(path, good);
    };
    const std::string weights = read_text(dir / "run/latest/model.safetensors"),
                      config = read_text(dir / "run/latest/config.json");
    const std::string eval = "eval --samples 1 --depths 1 --model ", resume = "train --resume --out ";
    damaged("model.safetensors", weights.substr(0, weights.size() / 2), eval, "truncated");
    damaged("model.safetensors", "<missing>", eval, "model.safetensors");
    damaged("model.safetensors", weights.substr(0, 20), eval, "model.safetensors");
    std::string nan = weights;
    const float bad = NAN;
    std::memcpy(nan.data() + nan.size() - 8, &bad, 4);
    damaged("model.safetensors", nan, eval, "not finite");
    damaged("config.json", "<missing>", eval, "holds no model");
    damaged("config.json", config.substr(0, 30), eval, "not valid JSON");
    damaged("config.json", "{}", eval, "'vocab_size' is missing");
    const auto replaced = [&](const std::string& from, const std::string& to) {
        std::string c = config;
        c.replace(c.find(from), from.size(), to);
        return c;
    };
    damaged("config.json", replaced("\"hidden_size\": 32", "\"hidden_size\": 64"), eval, "shape");
    damaged("config.json", replaced("\"hidden_size\": 32", "\"hidden_size\": -1"), eval, "hidden_size = -1");
    damaged("config.json", replaced("\"hidden_size\": 32", "\"hidden_size\": 1e99"), eval,
            "'hidden_size' has the wrong type");
    damaged("config.json", replaced("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000000000"), eval,
            "num_layers");
    damaged("config.json", replaced("\"top_k\": 2", "\"top_k\": 0"), eval, "top_k = 0");
    damaged("state.json", "{}", resume, "not the state of a training run");
    damaged(
        "state.json",
        R"({"step": 1, "samples": 1, "tokens": 6e120, "stage": 0, "stage_steps": 0, "accuracy": 0, "options": {}})",
        resume, "not the state of a training run");
    damaged("state.json", "<missing>", resume, "state.json");
    damaged("state.safetensors", "<missing>", resume, "state.safetensors");
}

}  // namespace

}  // namespace moba

/* The folder of a run loses nothing: whatever was copied, restored, killed or started twice, the checkpoint
   that was saved last is found again. */
#include "test/support/program.h"
#include "train/files/run_folder.h"
#include <chrono>
#include <nlohmann/json.hpp>

namespace moba {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

int step_of(const std::string& run) {
    const std::string latest = latest_checkpoint(run);
    return latest.empty() ? -1 : json::parse(read_text(latest + "/state.json"))["step"].get<int>();
}

std::string train(const std::string& more, const std::string& out) {
    return std::string(tiny_run) + "--device cpu " + more + " --out " + out;
}

// A run of 4 steps with checkpoints step-2 and step-4.
void make_run(const std::string& out) { ASSERT_EQ(moba(train("--steps 4 --save-every 2", out)).status, 0); }

void point_latest(const std::string& run, const std::string& to) {
    fs::remove(run + "/latest");
    fs::create_directory_symlink(to, run + "/latest");
}

// The files of the first checkpoint are an hour older than those of the second.
void older_by_time(const std::string& run, int first, int second) {
    const auto state = [&](int step) { return run + "/step-" + std::to_string(step) + "/state.json"; };
    fs::last_write_time(state(first), fs::last_write_time(state(second)) - std::chrono::hours(1));
}

// Starts the program, runs `then` as soon as the log has a line, and returns the program's outcome. $p is its
// process.
Outcome while_training(const std::string& command, const std::string& out, const std::string& then) {
    return shell("(" + command + " & p=$!; while [ ! -s " + out +
                 "/log.jsonl ] && kill -0 $p 2> /dev/null; do sleep 0.01; done; " + then + "; wait $p)");
}

TEST(RunFolder, ACopyWithoutLinksGoesOn) {
    const TempDir dir;
    make_run(dir / "run");
    const auto resumed = [&](const std::string& copy) {
        const Outcome r = moba("train --resume --steps 6 --save-every 1 --out " + copy);
        EXPECT_EQ(r.status, 0) << r.out;
        EXPECT_EQ(step_of(copy), 6) << copy;
        EXPECT_EQ(latest_name(copy), "step-6") << copy;
        for (const auto& entry : fs::directory_iterator(copy)) {
            EXPECT_NE(entry.path().extension(), ".tmp") << entry.path();
        }
    };
    // `cp -rL`, scp: links became folders; here `latest` was not the newest
    point_latest(dir / "run", "step-2");
    shell("cp -rL " + (dir / "run") + " " + (dir / "followed"));
    EXPECT_EQ(step_of(dir / "followed"), 2);
    resumed(dir / "followed");
    // the same, and the checkpoint itself was not copied
    shell("cp -rL " + (dir / "run") + " " + (dir / "alone") + "; rm -r " + (dir / "alone/step-2") + " " +
          (dir / "alone/step-4"));
    resumed(dir / "alone");
    // links were left out, and the newest checkpoint was copied first: `cp -r` copies in any order
    shell("cp -r " + (dir / "run") + " " + (dir / "without") + "; rm " + (dir / "without/latest"));
    older_by_time(dir / "without", 4, 2);
    EXPECT_EQ(step_of(dir / "without"), 4);
    resumed(dir / "without");
    // a file with the name, as this program writes it where links are impossible
    shell("cp -r " + (dir / "run") + " " + (dir / "named") + "; rm " + (dir / "named/latest"));
    write_text(dir / "named/latest", "step-2\n");
    EXPECT_EQ(step_of(dir / "named"), 2);
    EXPECT_EQ(moba("info --model " + (dir / "named")).status, 0);
    resumed(dir / "named");
}

TEST(RunFolder, ADamagedLatestIsNotReplacedByAnotherOne) {
    const TempDir dir;
    make_run(dir / "run");
    fs::remove(dir / "run/latest/config.json");
    EXPECT_EQ(latest_checkpoint(dir / "run"), "");
    fs::remove_all(dir / "run/step-4");  // the link is left, and points to nothing
    EXPECT_EQ(step_of(dir / "run"), 2);
}

TEST(RunFolder, AnOlderCheckpointThatWasRestoredGoesOn) {
    const TempDir dir;
    make_run(dir / "run");
    fs::rename(dir / "run/step-4", dir / "run/step-60");
    fs::copy(dir / "run/step-60", dir / "run/step-50", fs::copy_options::recursive);
    point_latest(dir / "run", "step-2");
    const Outcome r = moba("train --resume --save-every 1 --out " + (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(fs::read_symlink(dir / "run/latest"), "step-4");
    EXPECT_EQ(step_of(dir / "run"), 4);
    EXPECT_TRUE(fs::exists(dir / "run/step-3")) << "the newest other one, by its save";
    EXPECT_FALSE(fs::exists(dir / "run/step-50") || fs::exists(dir / "run/step-60"));
}

// Before saves were numbered, only the times of the files told which checkpoint is newer.
TEST(RunFolder, CheckpointsOfOlderVersionsAreOrderedByTime) {
    const TempDir dir;
    const std::string run = dir / "run";
    make_run(run);
    for (const int save : {1, 2}) {
        const std::string file = run + "/step-" + std::to_string(2 * save) + "/state.json";
        json state = json::parse(read_text(file));
        EXPECT_EQ(state["save"], save);
        state.erase("save");
        write_text(file, state.dump());
    }
    fs::remove(run + "/latest");
    older_by_time(run, 2, 4);
    EXPECT_EQ(step_of(run), 4);
    older_by_time(run, 4, 2);
    EXPECT_EQ(step_of(run), 2);
    ASSERT_EQ(moba("train --resume --steps 3 --out " + run).status, 0);
    EXPECT_EQ(json::parse(read_text(run + "/latest/state.json"))["save"], 1);
    fs::remove(run + "/latest");
    EXPECT_EQ(step_of(run), 3) << "a save with a number is newer than those without";
}

TEST(RunFolder, WhatEndedBeforeItsFirstCheckpointStartsAgain) {
    const TempDir dir;
    const std::string run = dir / "run";
    const Outcome bad = moba(train("--steps 9 --warmup 0 --lr 1e30", run));
    EXPECT_EQ(bad.status, 1);
    EXPECT_NE(bad.out.find("No checkpoint had been saved"), std::string::npos) << bad.out;
    expect_refused("train --resume --out " + run, 1, "start it without --resume");
    EXPECT_EQ(moba(train("--steps 4", run)).status, 0);
    EXPECT_EQ(lines(read_text(run + "/log.jsonl")), 4) << "nothing of the first try";
    const Outcome later = moba(
        train("--steps 9 --warmup 0 --lr 1e30 --save-every 1", dir / "saved"));  // its first step is finite
    EXPECT_EQ(later.status, 1);
    EXPECT_NE(later.out.find(latest_checkpoint(dir / "saved") + " is from before"), std::string::npos)
        << later.out;
}

TEST(RunFolder, OnlyOverwriteReplacesARun) {
    const TempDir dir;
    make_run(dir / "run");
    write_text(dir / "run/notes.txt", "mine");
    expect_refused(train("--steps 2", dir / "run"), 1, "--overwrite");
    EXPECT_EQ(step_of(dir / "run"), 4);
    expect_refused("train --resume --overwrite --out " + (dir / "run"), 1, "cannot be used together");
    ASSERT_EQ(moba(train("--steps 2 --overwrite", dir / "run")).status, 0);
    EXPECT_EQ(step_of(dir / "run"), 2);
    EXPECT_FALSE(fs::exists(dir / "run/step-4"));
    EXPECT_EQ(lines(read_text(dir / "run/log.jsonl")), 2);
    EXPECT_EQ(read_text(dir / "run/notes.txt"), "mine");
    // a command that is refused must not have deleted anything
    EXPECT_EQ(moba(train("--steps 2 --overwrite --init-from " + (dir / "nothing"), dir / "run")).status, 1);
    EXPECT_EQ(step_of(dir / "run"), 2);
    // a model may start from itself
    EXPECT_EQ(moba(std::string("train --steps 2 --num-keys 8 --num-values 8 --num-noise 8 --seq-len 48 "
                               "--batch-size 2 --eval-every 0 --overwrite --init-from ") +
                   (dir / "run") + " --out " + (dir / "run"))
                  .status,
              0);
}

TEST(RunFolder, OneProcessAtATime) {
    const TempDir dir;
    const std::string run = dir / "run",
                      first = MOBA_PROGRAM " " + train("--steps 1000000 --save-every 1", run);
    const Outcome r = while_training(
        first, run,
        "while [ ! -e " + run +
            "/latest ]; do sleep 0.01; done; for n in '--resume' '--steps 2 --overwrite'; do " +
            MOBA_PROGRAM " train $n --out " + run + "; echo status $?; done; kill -9 $p");
    const auto count = [&](const std::string& text) {
        int n = 0;
        for (size_t at = 0; (at = r.out.find(text, at)) != std::string::npos; at++) { n++; }
        return n;
    };
    EXPECT_EQ(count("another process trains in this folder"), 2) << r.out;
    EXPECT_EQ(count("status 1\n"), 2) << r.out;
    const Outcome after =
        moba("train --resume --steps " + std::to_string(step_of(run) + 1) + " --out " + run);
    EXPECT_EQ(after.status, 0) << "a killed process leaves no lock\n" << after.out;
}

TEST(RunFolder, SignalsSaveTheRun) {
    const TempDir dir;
    for (const char* signal : {"INT", "TERM", "HUP", "XCPU"}) {
        const std::string run = dir / signal;
        const Outcome r = while_training(MOBA_PROGRAM " " + train("--steps 1000000 --save-every 0", run), run,
                                         std::string("kill -") + signal + " $p");
        EXPECT_EQ(r.status, 0) << signal << "\n" << r.out;
        EXPECT_GT(step_of(run), 0) << signal;
    }
    // what reads the output ends
    const std::string read = dir / "read";
    shell(MOBA_PROGRAM " " + train("--steps 1000000 --save-every 0 --log-every 1", read) + " | head -n 20");
    EXPECT_GT(step_of(read), 0);
    // under nohup the end of the terminal is no reason to stop
    const std::string run = dir / "nohup";
    const Outcome r = while_training("nohup " MOBA_PROGRAM " " + train("--steps 300 --save-every 0", run),
                                     run, "kill -HUP $p");
    EXPECT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(step_of(run), 300);
}

// A validation that would take minutes is left within seconds; --resume does it first.
TEST(RunFolder, SignalsEndAValidation) {
    const TempDir dir;
    const std::string run = dir / "run";
    const auto begin = std::time(nullptr);
    const Outcome r = while_training(
        MOBA_PROGRAM " " + train("--steps 3 --eval-every 1 --eval-samples 1000000 --save-every 0", run), run,
        "sleep 0.3; kill -TERM $p");
    EXPECT_EQ(r.status, 0) << r.out;
    EXPECT_LT(std::time(nullptr) - begin, 20);
    EXPECT_NE(r.out.find("stopped during the validation"), std::string::npos) << r.out;
    ASSERT_EQ(step_of(run), 1);
    ASSERT_EQ(moba("train --resume --eval-samples 8 --out " + run).status, 0);
    std::vector<int> validated;
    std::stringstream log(read_text(run + "/log.jsonl"));
    for (std::string line; std::getline(log, line);) {
        const json j = json::parse(line);
        if (j.contains("val_loss")) { validated.push_back(j["step"]); }
    }
    EXPECT_EQ(validated, (std::vector<int>{1, 2, 3}));
}

// With many micro-batches a step takes long. It is given up, and done again from its beginning.
TEST(RunFolder, SignalsEndALongStep) {
    const TempDir dir;
    const std::string run = dir / "run", same = "--steps 2 --grad-accum 1500 --eval-every 0 --save-every 1";
    ASSERT_EQ(moba(train(same, dir / "whole")).status, 0);
    const Outcome r = while_training(MOBA_PROGRAM " " + train(same, run), run, "sleep 0.1; kill -TERM $p");
    EXPECT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(step_of(run), 1) << r.out;
    ASSERT_EQ(moba("train --resume --out " + run).status, 0);
    EXPECT_EQ(read_text(run + "/latest/model.safetensors"),
              read_text(dir / "whole/latest/model.safetensors"));
}

TEST(RunFolder, GoesOnForMoreSteps) {
    const TempDir dir;
    const std::string constant = "--lr-schedule constant --save-every 0 --steps ";
    ASSERT_EQ(moba(train(constant + "5", dir / "run")).status, 0);
    ASSERT_EQ(moba(train(constant + "9", dir / "whole")).status, 0);
    const Outcome r = moba("train --resume --steps 9 --out " + (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_NE(r.out.find("--steps is 9, was 5; the learning rate follows the new length"), std::string::npos)
        << r.out;
    for (const char* file : {"/latest/model.safetensors", "/latest/state.safetensors"}) {
        EXPECT_EQ(read_text(dir / "run" + file), read_text(dir / "whole" + file)) << "moments and data go on";
    }
    expect_refused("train --resume --steps 3 --out " + (dir / "run"), 1, "has done 9 already");
    // the new length is kept, even when no step was done
    ASSERT_EQ(moba("train --resume --out " + (dir / "run")).status, 0);
    EXPECT_EQ(json::parse(read_text(dir / "run/latest/state.json"))["options"]["steps"], 9);
}

TEST(RunFolder, LockIsHeldUntilItsOwnerIsGone) {
    const TempDir dir;
    FolderLock other;
    {
        FolderLock lock;
        EXPECT_TRUE(lock.take(dir.path()));
        EXPECT_FALSE(other.take(dir.path()));
    }
    EXPECT_TRUE(other.take(dir.path()));
}

}  // namespace

}  // namespace moba

/* The program itself: wrong input gives one clear line and the right exit status, and no data is lost. */
#include "moba/op_table.h"
#include "moba/profile.h"
#include "test/support/check.h"
#include "test/support/program.h"
#include <map>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

TEST(Program, WrongUsageExitsWith2) {
    expect_refused("train --no-such-option 1", 2, "no-such-option");
    expect_refused("train --steps many", 2, "--steps");
    expect_refused("train --steps 0", 2, "--steps");
    expect_refused("train --attention half", 2, "--attention");
    expect_refused("eval", 2, "--model");
    expect_refused("bench nothing", 2, "what");
    expect_refused("sample --model x --prompt a --prompt-ids 1", 2, "--prompt");
    EXPECT_EQ(moba("").status, 2);
    EXPECT_EQ(moba("dance").status, 2);
    EXPECT_EQ(moba("--help").status, 0);
    EXPECT_EQ(moba("--version").out.rfind("moba ", 0), 0u);
    for (const char* command : {"train", "eval", "sample", "bench", "info", "inspect", "plot"}) {
        const Outcome r = moba(std::string(command) + " --help");
        EXPECT_EQ(r.status, 0);
        EXPECT_NE(r.out.find("Usage: moba " + std::string(command)), std::string::npos) << r.out;
    }
}

TEST(Program, DidYouMean) {
    const TempDir dir;
    write_text(dir / "config.json", R"({"blok-size": 16})");
    write_text(dir / "plan.json", R"({"sedes": 2})");
    expect_refused("train --num-steps 60", 2, "--num-steps: there is no such option; did you mean --steps?");
    expect_refused("train --block_size 16", 2, "; did you mean --block-size?");
    expect_refused("train --top-j=3", 2, "; did you mean --top-k?");
    expect_refused("train --qqqq 3", 2, "--qqqq: there is no such option (");
    expect_refused("train --task neddle", 2, "; did you mean needle?");
    expect_refused("train --precision bf61", 2, "bf61 is not one of fp32, bf16; did you mean bf16?");
    expect_refused("train --config " + (dir / "config.json"), 1, "; did you mean block-size?");
    expect_refused("compare --config " + (dir / "plan.json"), 1, "; did you mean seeds?");
    EXPECT_NE(moba("tain").out.find("no such command: tain; did you mean train?"), std::string::npos);
}

TEST(Program, ARunBeginsWithWhatDiffersFromTheDefaults) {
    const TempDir dir;
    const std::string run = "train --task needle --seq-len 64 --batch-size 1 --hidden-size 32 --steps 2 --lr "
                            "0.002 --beta1 0.8 --eval-every 0 --out " +
                            (dir / "run");
    const Outcome few = moba(run), all = moba(run + " --overwrite --verbose");
    ASSERT_EQ(few.status, 0) << few.out;
    for (const char* part :
         {"lr=0.002", "seq-len=64", "Optimizer         beta1=0.8", "schedule --warmup 50"}) {
        EXPECT_NE(few.out.find(part), std::string::npos) << part << "\n" << few.out;
    }
    EXPECT_EQ(few.out.find("beta2="), std::string::npos) << few.out;
    EXPECT_EQ(few.out.find("warning"), std::string::npos) << few.out;
    for (const char* part : {"beta2=0.95", "lr=0.002", "val-share=0.1"}) {
        EXPECT_NE(all.out.find(part), std::string::npos) << part << "\n" << all.out;
    }
    // a folder that holds a run is refused before anything else is printed
    const Outcome again = moba(run);
    EXPECT_EQ(again.status, 1);
    EXPECT_EQ(again.out.rfind("moba: --out ", 0), 0u) << again.out;
    EXPECT_EQ(lines(again.out), 1);
}

TEST(Program, WrongSettingsExitWith1) {
    const TempDir dir;
    const std::string out = " --out " + (dir / "run");
    expect_refused("train --block-size 26" + out, 1, "block_size = 26");
    expect_refused("train --top-k 0" + out, 1, "top_k = 0");
    expect_refused("train --top-k 65" + out, 1, "top_k = 65");
    expect_refused("train --num-heads 3" + out, 1, "num-heads = 3");
    expect_refused("train --num-heads 4 --num-kv-heads 3" + out, 1, "num_kv_heads = 3");
    expect_refused("train --layers moba --attention full" + out, 1, "--layers");
    expect_refused("train --layers moba,half" + out, 1, "'half'");
    expect_refused("train --layers window" + out, 1, "'window'");
    expect_refused("train --layers window:0" + out, 1, "window:0");
    expect_refused("train --full-layers 3" + out, 1, "full-layers = 3");
    expect_refused("train --rope-scaling yarn:2" + out, 1, "rope-scaling");
    expect_refused("train --num-blocks 4" + out, 1, "num_blocks = 4");
    expect_refused("train --pairs 33" + out, 1, "pairs = 33: must be between 1 and 32");
    expect_refused("train --stage-accuracy 0.9" + out, 1, "--stage-accuracy needs --curriculum");
    expect_refused("train --seq-len 8" + out, 1, "8 tokens is too short for");
    expect_refused("train --curriculum 1:2:3" + out, 1, "curriculum");
    // this program may be built with kernels, and the machine may have a GPU
    const Outcome gpu = shell("CUDA_VISIBLE_DEVICES= " MOBA_PROGRAM " train --device gpu" + out);
    EXPECT_EQ(gpu.status, 1);
    EXPECT_EQ(lines(gpu.out), 1) << gpu.out;
    EXPECT_EQ(gpu.out.rfind("moba: --device gpu: ", 0), 0u) << gpu.out;
    EXPECT_NE(gpu.out.find("; use --device cpu"), std::string::npos) << gpu.out;
    expect_refused("train --init-from " + (dir / "nowhere") + out, 1, "no such folder");
    expect_refused("train --resume --out " + (dir / "nowhere"), 1, "no such folder");
    expect_refused("train --out /proc/run", 1, "/proc/run");
    expect_refused("eval --model " + dir.path(), 1, "holds no model");
    EXPECT_FALSE(std::filesystem::exists(dir / "run")) << "no folder remains";
}

TEST(Program, ConfigFile) {
    const TempDir dir;
    const std::string file = dir / "c.json";
    const auto with = [&](const std::string& text) {
        write_text(file, text);
        return "train --config " + file + " --out " + (dir / "run");
    };
    expect_refused(with("{"), 1, "not valid JSON");
    expect_refused(with("[1]"), 1, "must be a JSON object");
    expect_refused(with(R"({"steeps": 3})"), 1, "'steeps' is not an option");
    expect_refused(with(R"({"steps": {"a": 1}})"), 1, "'steps' has no usable value");
    expect_refused(with(R"({"steps": "x"})"), 2, "--steps");
    expect_refused("train --config " + (dir / "none.json"), 1, "none.json");
    expect_refused("train --config " + dir.path(), 1, "folder");
    // names with underscores or hyphens; the command line has priority over the file
    const Outcome r = moba(
        with(
            R"({"seq_len": 48, "batch-size": 2, "steps": 3, "hidden-size": 32, "eval-every": 0, "top-k": 2, "tie-word-embeddings": true})") +
        " --steps 2");
    EXPECT_EQ(r.status, 0) << r.out;
    EXPECT_NE(r.out.find("step 2/2"), std::string::npos) << r.out;
    EXPECT_NE(read_text(dir / "run/latest/config.json").find("\"tie_word_embeddings\": true"),
              std::string::npos);
}

TEST(Program, TrainEvalSampleInfo) {
    const TempDir dir;
    const Outcome t =
        moba(std::string(tiny_run) + "--steps 4 --eval-every 2 --eval-samples 8 --out " + (dir / "run"));
    ASSERT_EQ(t.status, 0) << t.out;
    for (const char* part : {"settings", "parameters", "memory", "workspace", "chance 12%", "step 4/4",
                             "validation at step 4", "done at step 4", "on cpu", "  MFU "}) {
        EXPECT_NE(t.out.find(part), std::string::npos) << part << "\n" << t.out;
    }
    EXPECT_EQ(lines(read_text(dir / "run/log.jsonl")), 4 + 2);
    std::ifstream log(dir / "run/log.jsonl");
    double peak = 0;
    for (std::string line; std::getline(log, line);) {
        const json j = json::parse(line);
        if (j.contains("val_loss")) { continue; }
        EXPECT_GT(j["gflops"], 0) << line;
        if (j["mfu"].is_null()) { continue; }  // faster than the peak, however often that was measured
        const double share = j["mfu"], gflops = j["gflops"];
        EXPECT_TRUE(share > 0 && share <= 1) << line;
        EXPECT_GE(gflops / share, peak * (1 - 1e-6)) << "measured again only if a step seemed faster";
        peak = gflops / share;
    }
    const Outcome e = moba("eval --model " + (dir / "run") +
                           " --seq-len 48,64 --depths 2 --samples 20 --json " + (dir / "e.json"));
    EXPECT_EQ(e.status, 0) << e.out;
    EXPECT_NE(e.out.find("fewer than 1000"), std::string::npos);
    for (const char* part : {"\"low\"", "\"loss_by_position\"", "\"depth\"", "\"chance\": 0.125"}) {
        EXPECT_NE(read_text(dir / "e.json").find(part), std::string::npos) << part;
    }
    // One depth uses the whole sample. The answer lies in the query's own block about as often as in each of
    // the two other blocks, and such questions do not count.
    ASSERT_EQ(moba("eval --model " + (dir / "run") + " --depths 1 --samples 200 --router --json " +
                   (dir / "r.json"))
                  .status,
              0);
    const json router = json::parse(read_text(dir / "r.json"))["lengths"][0]["router"];
    ASSERT_EQ(router.size(), 2u);
    EXPECT_NEAR(router[0]["queries"].get<double>() / 200, 2 / 3., 0.12);
    const Outcome full = moba("eval --attention full --model " + (dir / "run") + " --depths 1 --samples 5");
    EXPECT_NE(full.out.find("2 x full:rope"), std::string::npos) << full.out;
    const auto sample = [](const std::string& arguments) {
        return shell(MOBA_PROGRAM " sample " + arguments + " 2>/dev/null");
    };
    const Outcome s = sample("--model " + (dir / "run/latest") +
                             " --prompt 'k1 v2 n3 k1' --max-new-tokens 3 --temperature 1 --seed 5");
    EXPECT_EQ(s.status, 0) << s.out;
    const std::string ids =
        "--prompt-ids 1,10,19,1 --max-new-tokens 3 --temperature 1 --seed 5 --model " + (dir / "run");
    EXPECT_EQ(s.out, sample(ids).out);
    EXPECT_EQ(s.out, sample(ids + " --no-cache").out);
    EXPECT_NE(moba("sample " + ids).out.find("tokens/s"), std::string::npos);
    const Outcome folded = moba("sample --model " + (dir / "run")),
                  whole = moba("sample --whole-prompt --model " + (dir / "run"));
    for (const char* part : {" noise) ", " [k", "] ", "the answer is"}) {
        EXPECT_NE(folded.out.find(part), std::string::npos) << part << "\n" << folded.out;
    }
    EXPECT_EQ(whole.out.find("noise"), std::string::npos) << whole.out;
    EXPECT_NE(whole.out.find("the answer is"), std::string::npos) << whole.out;
    const Outcome i = moba("info --model " + (dir / "run"));
    for (const char* part : {"step-4", "moba:rope", "block_size 16", "LlamaForCausalLM", "seed 1"}) {
        EXPECT_NE(i.out.find(part), std::string::npos) << part << "\n" << i.out;
    }
    expect_refused("sample --model " + (dir / "run") + " --prompt 'k1 x9'", 1, "'x9' is not a token");
    expect_refused("sample --model " + (dir / "run") + " --prompt-ids 99", 1, "token id 99");
    const std::string before = read_text(dir / "e.json");
    expect_refused("eval --model " + (dir / "run") + " --seq-len 4 --json " + (dir / "e.json"), 1,
                   "--seq-len 4");
    EXPECT_EQ(read_text(dir / "e.json"), before) << "a refused command has changed a file";
    expect_refused("eval --model " + (dir / "run") + " --seq-len 4 --json " + (dir / "f.json"), 1,
                   "--seq-len 4");
    EXPECT_FALSE(std::filesystem::exists(dir / "f.json"));
    std::filesystem::create_symlink(dir / "g.json", dir / "link");
    expect_refused("eval --model " + (dir / "run") + " --seq-len 4 --json " + (dir / "link"), 1,
                   "--seq-len 4");
    EXPECT_TRUE(std::filesystem::is_symlink(dir / "link")) << "a link to a file that does not exist yet";
    EXPECT_EQ(moba("eval --model " + (dir / "run") + " --samples 2 --json /dev/null").status, 0);
    expect_refused("eval --model " + (dir / "run") + " --json " + (dir / "run"), 1, "Is a directory");
    expect_refused("eval --json /proc/no.json --model " + (dir / "run"), 1, "/proc/no.json");
    expect_refused("eval --model " + (dir / "run") + " --top-k 2", 1, "--attention moba");
    expect_refused("eval --model " + (dir / "run") + " --windows 2", 1, "--windows is for texts");
    expect_refused("train --out " + (dir / "run"), 1, "holds a run already");
}

// --init-from takes over the sizes and the attention settings; options can change only the latter.
TEST(Program, InitFrom) {
    const TempDir dir;
    const std::string sizes =
        "--seq-len 48 --batch-size 4 --num-keys 8 --num-values 8 --num-noise 8 --eval-every 0 --steps 2 ";
    ASSERT_EQ(moba(std::string(tiny_run) +
                   "--steps 2 --top-k 1 --block-size 32 --layers window:8:none,moba --gate sink --key-conv 3 "
                   "--out " +
                   (dir / "a"))
                  .status,
              0);
    const auto info = [&](const std::string& run) { return moba("info --model " + (dir / run)).out; };
    ASSERT_EQ(moba("train " + sizes + "--init-from " + (dir / "a") + " --out " + (dir / "b")).status, 0);
    EXPECT_NE(info("b").find("window:8:none, moba:rope"), std::string::npos) << info("b");
    EXPECT_NE(info("b").find("block_size 32, top_k 1, gate sink, key_conv 3"), std::string::npos)
        << info("b");
    ASSERT_EQ(moba("train " + sizes + "--block-size 16 --top-k 2 --layers moba --key-conv 0 --init-from " +
                   (dir / "a") + " --out " + (dir / "c"))
                  .status,
              1)
        << "the weights decide";
    std::filesystem::rename(dir / "a", dir / "moved");
    EXPECT_EQ(moba("train --resume --out " + (dir / "b")).status, 0)
        << "a run that has begun does not need it";
}

// A model folder whose longest sequence is too short for a test of its task.
TEST(Program, SampleOfATestThatDoesNotFit) {
    const TempDir dir;
    ASSERT_EQ(moba("train --task mqar --pairs 4 --num-keys 8 --num-values 8 --hidden-size 16 --seq-len 16 "
                   "--batch-size 1 --steps 1 --warmup 0 "
                   "--eval-every 0 --out " +
                   (dir / "run"))
                  .status,
              0);
    const std::string file = dir / "run/latest/config.json";
    std::string config = read_text(file);
    const std::string key = "\"max_position_embeddings\": ";
    config.replace(config.find(key + "16"), key.size() + 2, key + "15");
    write_text(file, config);
    expect_refused("sample --model " + (dir / "run"), 1, "needs at least 16 tokens");
}

// Prompt and new tokens may use different attention; either of the two may be MoBA.
TEST(Program, DecodeAttention) {
    const TempDir dir;
    ASSERT_EQ(moba(std::string(tiny_run) + "--steps 1 --attention full --out " + (dir / "run")).status, 0);
    const std::string sample = "sample --max-new-tokens 4 --model " + (dir / "run");
    EXPECT_EQ(moba(sample + " --decode-attention full").status, 0);
    EXPECT_EQ(moba(sample + " --decode-attention moba --block-size 16 --top-k 1").status, 0);
    EXPECT_EQ(moba(sample + " --attention moba --block-size 16 --top-k 1 --decode-attention full").status, 0);
    expect_refused(sample + " --decode-attention moba", 1, "--block-size and --top-k must be given");
    expect_refused(sample + " --decode-attention full --no-cache", 2, "--no-cache");
}

TEST(Program, WarnsWhereMobaIsFull) {
    const TempDir dir;
    EXPECT_NE(moba(std::string(tiny_run) + "--steps 1 --top-k 3 --out " + (dir / "run"))
                  .out.find("MoBA is full attention"),
              std::string::npos);
    EXPECT_EQ(
        moba(std::string(tiny_run) + "--steps 1 --out " + (dir / "run2")).out.find("MoBA is full attention"),
        std::string::npos);
}

TEST(Program, LossThatIsNotFiniteStopsAndKeepsTheCheckpoint) {
    const TempDir dir;
    const Outcome r =
        moba(std::string(tiny_run) +
             "--steps 20 --lr 1e25 --warmup 0 --save-every 1 --lr-schedule constant --out " + (dir / "run"));
    EXPECT_EQ(r.status, 1) << r.out;
    EXPECT_NE(r.out.find("is not finite; first bad tensor: "), std::string::npos) << r.out;
    EXPECT_EQ(moba("info --model " + (dir / "run")).status, 0) << "the last good checkpoint is complete";
}

TEST(Program, BenchRuns) {
    const TempDir dir;
    const Outcome a = moba("bench attention --seq-len 512 --block-size 32 --num-heads 2 --num-kv-heads 1 "
                           "--head-dim 16 --repeats 1 --json " +
                           (dir / "a.json"));
    EXPECT_EQ(a.status, 0) << a.out;
    EXPECT_NE(a.out.find("as fast as full attention"), std::string::npos);
    EXPECT_NE(read_text(dir / "a.json").find("\"ratio\""), std::string::npos);
    EXPECT_NE(
        moba("bench attention --attention-impl naive --seq-len 256 --block-size 16 --head-dim 16 --repeats 1")
            .out.find("naive version"),
        std::string::npos);
    EXPECT_EQ(
        moba("bench step --seq-len 64 --hidden-size 32 --num-layers 1 --repeats 1 --block-size 16").status,
        0);
    EXPECT_NE(
        moba(
            "bench decode --seq-len 64 --hidden-size 32 --num-layers 1 --repeats 2 --block-size 16 --top-k 2")
            .out.find("decoding with moba is"),
        std::string::npos);
    EXPECT_EQ(moba("bench op --seq-len 64 --hidden-size 32 --repeats 1").status, 0);
    expect_refused("bench op --op nothing --seq-len 64 --hidden-size 32 --repeats 1", 1, "no such operation");
}

// Every operation has a row, and the figures of a row agree with each other.
TEST(Program, BenchRows) {
    const TempDir dir;
    const std::string head_sizes = " --seq-len 64 --num-heads 2 --head-dim 16 --block-size 16 "
                                   "--top-k 2 --repeats 1 --device cpu --json " +
                                   (dir / "b.json");
    const std::string sizes = head_sizes + " --hidden-size 32";
    const auto rows = [&](const std::string& arguments) {
        const Outcome r = moba("bench " + arguments + (arguments.rfind("op", 0) == 0 ? sizes : head_sizes));
        EXPECT_EQ(r.status, 0) << r.out;
        std::istringstream out(r.out);
        for (std::string line; std::getline(out, line);) { EXPECT_LE(line.size(), 100u) << line; }
        return json::parse(read_text(dir / "b.json"));
    };
    for (const char* precision : {"fp32", "bf16"}) {
        const json all = rows(std::string("op --window 9 --precision ") + precision);
        std::map<std::string, json> found;
        for (const json& row : all["rows"]) {
            found[row["name"]] = row;
            const double ms = row["ms"], gbs = row["gbs"], gflops = row["gflops"];
            EXPECT_TRUE(ms > 0 && gbs > 0 && gflops >= 0) << row;
            EXPECT_NEAR(row["share_of_copy"].get<double>() * all["copy_gbs"].get<double>() / gbs, 1, 1e-9);
            EXPECT_NEAR(row["share_of_peak"].get<double>() * all["peak_gflops"].get<double>(), gflops,
                        1e-9 * gflops);
            EXPECT_TRUE(row["device"] == "cpu" && row["version"] >= 1 && row["best"] == true) << row;
        }
        EXPECT_EQ(found.size(), all["rows"].size()) << "a name twice";
        for (int i = 0; i < (int)Op::count; i++) {
            const auto at = found.lower_bound(op_name((Op)i));
            EXPECT_TRUE(at != found.end() && at->first.rfind(op_name((Op)i), 0) == 0) << op_name((Op)i);
        }
        // numbers of query-key pairs by hand: 64 tokens, 2 heads of 16; 4 blocks of 16, the first sees only
        // itself
        const double full = 64 * 65 / 2, moba = 4 * 136 + 3 * 256, window = 64 * 9 - 36;
        const auto flop = [&](const char* name) {
            return found[name]["gflops"].get<double>() * found[name]["ms"].get<double>() * 1e6;
        };
        EXPECT_NEAR(flop("attention_forward_full"), 4 * 2 * 16 * full, 1);
        EXPECT_NEAR(flop("attention_backward_moba"), 10 * 2 * 16 * moba, 1);
        EXPECT_NEAR(flop("attention_forward_window"), 4 * 2 * 16 * window, 1);
        EXPECT_NEAR(flop("linear_forward_wide"), 2 * 64 * 32 * 88, 1);
        const double width = precision[0] == 'b' ? 2 : 4, norm = found["norm_forward"]["gbs"],
                     norm_ms = found["norm_forward"]["ms"];
        EXPECT_NEAR(norm * norm_ms * 1e6, 2 * width * 64 * 32, 1);
    }
    const json each = rows("op --op attention_forward --kernel-version all")["rows"];
    ASSERT_EQ(each.size(), 4u) << "moba and full, plain and fast";
    for (int i = 0; i < 4; i += 2) {
        EXPECT_TRUE(each[i]["version"] == 1 && each[i + 1]["version"] == 2) << each;
        EXPECT_EQ(each[i + 1]["share_of_best"], 1.0);
        EXPECT_NEAR(each[i]["share_of_best"].get<double>() * each[i]["ms"].get<double>(),
                    each[i + 1]["ms"].get<double>(), 1e-9);
    }
    EXPECT_EQ(rows("op --op linear_forward")["rows"].size(), 2u) << "one version on the CPU";
    EXPECT_EQ(rows("op --kernel-version 2")["rows"].size(), 7u)
        << "the operations with two versions on the CPU";
    const json plain = rows("attention --kernel-version 1");
    EXPECT_EQ(plain["rows"].size(), 6u);
    EXPECT_EQ(plain["rows"][0]["version"], 1);

    expect_refused("bench attention --kernel-version 3" + head_sizes, 1, "attention has no such version");
    expect_refused("bench op --kernel-version two" + sizes, 2, "--kernel-version");
    expect_refused("bench step --kernel-version 1" + sizes, 1, "bench op and bench attention");
    expect_refused("bench decode --op norm" + sizes, 1, "--op is only for bench op");
    expect_refused("bench op --op norm --hidden-size 65536 --seq-len 1000000 --device cpu", 1,
                   "could not be allocated");
    expect_refused("bench op --batch-size 65536 --seq-len 16385", 1, "2^30");
}

// Only the program of `make lab` counts accesses; test/lab/ tests it.
TEST(Program, LabNeedsItsOwnProgram) {
    expect_refused("lab norm", 1, "`make lab` builds the one that can");
    expect_refused("lab norm --card gtx", 2, "h100");
    EXPECT_NE(moba("lab --help").out.find("--card"), std::string::npos);
}

TEST(Program, BenchProfile) {
    const TempDir dir;
    const Outcome profile = moba("bench step --profile --seq-len 64 --hidden-size 32 --num-layers 3 "
                                 "--repeats 2 --block-size 16 --top-k 2 --json " +
                                 (dir / "p.json"));
    EXPECT_EQ(profile.status, 0) << profile.out;
    EXPECT_NE(profile.out.find("a step with full, operation by operation"), std::string::npos) << profile.out;
    const json rows = json::parse(read_text(dir / "p.json"))["rows"];
    EXPECT_EQ(rows.size(), 2u);
    for (const json& row : rows) {
        double share = 0;
        std::map<std::string, int> calls;
        for (const json& op : row["profile"]) {
            EXPECT_TRUE(op["ms"] >= 0 && op["share"] >= 0) << op;
            share += op["share"].get<double>();
            calls[op["name"]] = op["calls"];
        }
        EXPECT_NEAR(share, 1, 1e-9);
        EXPECT_EQ(calls["attention_backward"], 3);
        EXPECT_EQ(calls["gate_forward"], row["name"] == "moba" ? 3 : 0);
        EXPECT_EQ(calls["adamw"], 1);
    }
    expect_refused("bench op --profile", 1, "--profile is only for bench step");
    expect_refused("bench attention --hidden-size 64", 1,
                   "--hidden-size is only for bench step and bench decode");
    expect_refused("bench step --head-dim 64", 1, "--head-dim is only for bench op and bench attention");
    expect_refused("bench decode --batch-size 2", 1, "--batch-size is only for");
    expect_refused("bench op --num-layers 2", 1, "--num-layers is only for bench step and bench decode");
    expect_refused("bench op --no-graph", 1, "--no-graph is only for");
    expect_refused("bench decode --attention-impl naive", 1, "--attention-impl is only for");
    expect_refused("bench op --kernel-version 010", 2, "--kernel-version");
}

}  // namespace

}  // namespace moba

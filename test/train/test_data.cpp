/* Text: token files, windows, their order, and refused input. */
#include "test/support/check.h"
#include "test/support/program.h"
#include "train/data/data.h"
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <sstream>

namespace moba {

using nlohmann::json;

namespace {

// The content of a .bin file with these ids, in the format of llm.c. `count`: number of tokens in the header.
template <class Id>
std::string bin(int32_t magic, int32_t version, const std::vector<Id>& ids, int32_t count = INT32_MIN) {
    std::vector<int32_t> header(256);
    header[0] = magic, header[1] = version, header[2] = count == INT32_MIN ? (int32_t)ids.size() : count;
    return std::string((const char*)header.data(), 1024) +
           std::string((const char*)ids.data(), ids.size() * sizeof(Id));
}

std::vector<int> all_tokens(const TokenFiles& f) {
    std::vector<int> out(f.size());
    f.read(0, out.size(), out.data());
    return out;
}

std::string refusal(const std::vector<std::string>& paths) {
    try {
        const TokenFiles f(paths);
        all_tokens(f);
    } catch (const Error& e) { return e.what(); }
    return "accepted";
}

TEST(TokenFiles, TextIsBytes) {
    const TempDir dir;
    write_text(dir / "a.txt", std::string("ab\xff\0c", 5));
    write_text(dir / "b.txt", "z");
    const TokenFiles f({dir / "a.txt", dir / "b.txt"});
    EXPECT_EQ(all_tokens(f), (std::vector<int>{'a', 'b', 255, 0, 'c', 256, 'z', 256}));
    EXPECT_EQ(f.vocabulary().size, 257);
    std::vector<int> part(3);
    f.read(4, 3, part.data());
    EXPECT_EQ(part, (std::vector<int>{'c', 256, 'z'})) << "across files";
}

TEST(TokenFiles, LlmcFormats) {
    const TempDir dir;
    write_text(dir / "a.bin", bin<uint16_t>(20240520, 1, {50256, 7, 65, 50000}));
    write_text(dir / "b.bin", bin<uint16_t>(20240520, 1, {50256, 8}));
    const TokenFiles gpt2({dir / "a.bin", dir / "b.bin"});
    EXPECT_EQ(all_tokens(gpt2), (std::vector<int>{50256, 7, 65, 50000, 50256, 8}));
    EXPECT_EQ(gpt2.vocabulary().size, 50257);
    EXPECT_EQ(gpt2.vocabulary().end_token, 50256);
    write_text(dir / "c.bin", bin<uint32_t>(20240801, 7, {128000, 100000, 1}));
    const TokenFiles llama({dir / "c.bin"});
    EXPECT_EQ(all_tokens(llama), (std::vector<int>{128000, 100000, 1}));
    EXPECT_EQ(llama.vocabulary().size, 128256);
    // tokens.json has priority over the defaults of the format
    write_text(dir / "tokens.json",
               R"({"vocab_size": 60000, "end_token": 3, "tokenizer": "t/tokenizer.json"})");
    const TokenFiles named({dir / "a.bin"});
    EXPECT_EQ(named.vocabulary().size, 60000);
    EXPECT_EQ(named.vocabulary().tokenizer, dir / "t/tokenizer.json");
}

TEST(TokenFiles, LiesAreRefusedInOneLine) {
    const TempDir dir;
    const auto says = [&](const std::string& content, const std::string& part,
                          const std::string& name = "x.bin") {
        write_text(dir / name, content);
        const std::string text = refusal({dir / name});
        EXPECT_NE(text.find(part), std::string::npos) << text;
        EXPECT_EQ(text.rfind(dir / name, 0), 0u) << "names the file: " << text;
    };
    const std::string good = bin<uint16_t>(20240520, 1, {1, 2, 3});
    says("", "empty");
    says("", "empty", "x.txt");
    says(bin<uint16_t>(1234, 1, {1, 2}), "not a .bin file of tokens");
    says(bin<uint16_t>(20240520, 2, {1, 2}), "version 2");
    says(good.substr(0, good.size() - 1), "holds 2");
    says(good.substr(0, 1024), "holds 0");
    says(good.substr(0, 100), "holds 0");
    says(good.substr(0, 5), "holds 0");
    says(good + "x", "holds 3");
    says(bin<uint16_t>(20240520, 1, {1, 2, 3}, 1 << 30), "1073741824 tokens");
    says(bin<uint16_t>(20240520, 1, {1, 2, 3}, -5), "-5 tokens");
    says(bin<uint16_t>(20240520, 1, {1, 50257}), "token 1 has id 50257");
    says(bin<uint32_t>(20240801, 7, {1, 0xFFFFFFFF}), "token 1 has id 4294967295");
    for (const auto& [start, kind] :
         std::vector<std::pair<std::string, std::string>>{{"\x1f\x8b\x08", "gzip"},
                                                          {"BZh9", "bzip2"},
                                                          {"\xfd\x37zXZ", "xz"},
                                                          {"\x28\xb5\x2f\xfd", "zstd"},
                                                          {"\x04\x22\x4d\x18", "lz4"},
                                                          {"PK\3\4", "zip"},
                                                          {"PAR1", "Parquet"}}) {
        says(start + "...", kind + " file", "x.txt");
    }
    says("version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", "x.txt");
    EXPECT_NE(refusal({dir / "none"}).find("No such file"), std::string::npos);
    EXPECT_NE(refusal({dir.path()}).find("folder"), std::string::npos);
    write_text(dir / "x.bin", good);
    write_text(dir / "x.txt", "text");
    EXPECT_NE(refusal({dir / "x.bin", dir / "x.txt"}).find("another format"), std::string::npos);
    for (const char* json : {"{}", "[]", "{", R"({"vocab_size": 0, "end_token": 0, "tokenizer": ""})",
                             R"({"vocab_size": 10, "end_token": 10, "tokenizer": ""})",
                             R"({"vocab_size": 1e99, "end_token": 0, "tokenizer": ""})",
                             R"({"vocab_size": 10, "end_token": 0, "tokenizer": 7})"}) {
        write_text(dir / "tokens.json", json);
        EXPECT_NE(refusal({dir / "x.bin"}).find("tokens.json"), std::string::npos) << json;
    }
}

// Opening reads only the header: a sparse file of 8 GB, listed twice, opens immediately.
TEST(TokenFiles, LargeFilesOpenImmediately) {
    const TempDir dir;
    const int32_t tokens = 2000000000;
    std::vector<int32_t> header(256);
    header[0] = 20240801, header[1] = 7, header[2] = tokens;
    write_text(dir / "big.bin", std::string((const char*)header.data(), 1024));
    std::filesystem::resize_file(dir / "big.bin", 1024 + 4ull * tokens);
    const TokenFiles f({dir / "big.bin", dir / "big.bin"});
    EXPECT_EQ(f.size(), 2ull * tokens);
    int last[2];
    f.read(2ull * tokens - 2, 2, last);
    EXPECT_EQ(last[1], 0);
}

TEST(Shuffle, IsADifferentPermutationForEveryEpochAndSeed) {
    std::set<std::vector<uint64_t>> seen;
    for (uint64_t n : {1, 2, 5, 64, 1000}) {
        for (uint64_t epoch : {0, 1}) {
            for (uint64_t seed : {1, 2}) {
                std::vector<uint64_t> order(n), sorted;
                for (uint64_t i = 0; i < n; i++) { order[i] = shuffled(seed, epoch, i, n); }
                sorted = order;
                std::sort(sorted.begin(), sorted.end());
                for (uint64_t i = 0; i < n; i++) { ASSERT_EQ(sorted[i], i); }
                if (n >= 64) { EXPECT_TRUE(seen.insert(order).second) << n; }
            }
        }
    }
    // tokens next to each other do not stay close
    int close = 0;
    for (uint64_t i = 0; i + 1 < 1000; i++) {
        const int64_t d = (int64_t)shuffled(1, 0, i, 1000) - (int64_t)shuffled(1, 0, i + 1, 1000);
        close += std::abs(d) <= 2;
    }
    EXPECT_LE(close, 20);
}

TEST(Windows, InOrderCoverEveryTargetOnce) {
    const TempDir dir;
    std::string text;
    for (int i = 0; i < 103; i++) { text += (char)i; }
    write_text(dir / "t", text);
    const TokenFiles files({dir / "t"});  // 104 tokens
    const Windows w(files, 4, 104);
    for (int T : {1, 7, 10, 33, 99, 200}) {
        std::vector<int> targets;
        for (size_t i = 0; i < w.count(T); i++) {
            Batch b;
            w.add(i, T, b);
            ASSERT_LE((int)b.tokens.size(), T);
            for (size_t t = 0; t + 1 < b.tokens.size(); t++) { ASSERT_EQ(b.targets[t], b.tokens[t + 1]); }
            targets.insert(targets.end(), b.targets.begin(), b.targets.end());
        }
        ASSERT_EQ(targets.size(), 99u) << T;
        for (int i = 0; i < 98; i++) { EXPECT_EQ(targets[i], 5 + i); }
    }
}

TEST(Windows, AnEpochShowsEveryPlaceOnceAndTheNextStartsElsewhere) {
    const TempDir dir;
    std::string text;
    for (int i = 0; i < 250; i++) { text += (char)i; }
    write_text(dir / "t", text);
    const TokenFiles files({dir / "t"});
    const Windows w(files, 0, 250);
    const int T = 16;
    const size_t n = w.per_epoch(T);
    EXPECT_EQ(n, 14u);
    std::set<int> shifts;
    for (int epoch = 0; epoch < 40; epoch++) {
        std::set<int> starts;
        for (size_t i = 0; i < n; i++) {
            Batch b;
            w.add_shuffled(1, epoch * n + i, T, b);
            ASSERT_EQ((int)b.tokens.size(), T);
            EXPECT_TRUE(starts.insert(b.tokens[0]).second);
        }
        shifts.insert(*starts.begin());
        EXPECT_EQ(*starts.rbegin() - *starts.begin(), (int)(n - 1) * T) << "side by side";
    }
    EXPECT_GE(shifts.size(), 12u);
}

TEST(Windows, DocumentsAreSequencesOfTheirOwn) {
    Batch b;
    b.add_text({1, 2, 9, 3, 9, 9, 4}, 9);
    b.add_text({9, 5, 6, 9}, 9);
    EXPECT_EQ(b.tokens, (std::vector<int>{1, 2, 9, 3, 9, 9, 9, 5, 6}));
    EXPECT_EQ(b.targets, (std::vector<int>{2, 9, 3, 9, 9, 4, 5, 6, 9}));
    EXPECT_EQ(b.cu_seqlens, (std::vector<int>{0, 2, 4, 5, 6, 9}));
    Batch one;
    one.add_text({3, 9, 4}, 9);  // a document of one token
    EXPECT_EQ(one.cu_seqlens, (std::vector<int>{0, 1, 2}));
}

// ---- the program ----

const char* tiny_text =
    "train --hidden-size 32 --num-layers 2 --seq-len 32 --batch-size 4 --block-size 16 --top-k 1 "
    "--log-every 1000 --warmup 5 --eval-every 0 --embedding-std 0.5 --lr-schedule wsd --weight-decay 0 ";

std::string sentences(int n) {
    std::string text;
    for (int i = 0; i < n; i++) { text += "the cat " + std::to_string(i * 7 % 10) + " sat on the mat. "; }
    return text;
}

// In the output and in the log; in a run of single tokens there is nothing to go on with.
TEST(TextProgram, WritesASampleAtEachValidation) {
    const TempDir dir;
    write_text(dir / "a.txt", sentences(120));
    const std::string run = std::string(tiny_text) + "--data " + (dir / "a.txt") +
                            " --steps 4 --eval-every 2 --eval-samples 4 --overwrite --out " + (dir / "run");
    const Outcome r = moba(run);
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(count(r.out, "\nsample: \""), 2) << r.out;
    std::istringstream log(read_text(dir / "run/log.jsonl"));
    int samples = 0;
    for (std::string line; std::getline(log, line);) {
        const json j = json::parse(line);
        if (!j.contains("val_loss")) { continue; }
        samples++;
        EXPECT_NE(sentences(120).find(j["prompt"].get<std::string>()), std::string::npos) << line;
        EXPECT_FALSE(j["sample"].get<std::string>().empty()) << line;
    }
    EXPECT_EQ(samples, 2);
    const Outcome one = moba(run + " --seq-len 1");
    EXPECT_EQ(one.status, 0) << one.out;
    EXPECT_EQ(count(one.out, "sample: "), 0) << one.out;
}

TEST(TextProgram, TrainEvalSample) {
    const TempDir dir;
    write_text(dir / "a.txt", sentences(120));
    write_text(dir / "b.txt", sentences(80));
    const std::string files = "--data " + (dir / "a.txt") + " " + (dir / "b.txt");
    const Outcome t =
        moba(std::string(tiny_text) + "--epochs 12 --lr 1e-2 --eval-every 1000 --eval-samples 0 --out " +
             (dir / "run") + " " + files);
    ASSERT_EQ(t.status, 0) << t.out;
    EXPECT_NE(t.out.find("vocabulary of 257"), std::string::npos) << t.out;
    EXPECT_NE(t.out.find("epoch 12.0"), std::string::npos) << t.out;
    // eval gives the same loss as the last validation
    const Outcome e = moba("eval --json " + (dir / "e.json") + " --model " + (dir / "run"));
    ASSERT_EQ(e.status, 0) << e.out;
    const size_t at = t.out.rfind("validation at step");
    const std::string loss = t.out.substr(t.out.find("loss", at), 10);  // "loss 0.123"
    EXPECT_NE(e.out.find(loss), std::string::npos) << loss << "\n" << e.out;
    EXPECT_NE(e.out.find("bits per byte"), std::string::npos);
    EXPECT_NE(read_text(dir / "e.json").find("loss_by_position"), std::string::npos);
    EXPECT_EQ(moba("eval --seq-len 16,64 --windows 3 --data " + (dir / "b.txt") + " --model " + (dir / "run"))
                  .status,
              0);
    // the model has learnt the sentence; without the cache it gives the same text
    const std::string sample = "sample --max-new-tokens 18 --prompt 'the cat 7 sat' --model " + (dir / "run");
    const std::string text = shell(MOBA_PROGRAM " " + sample + " 2>/dev/null").out;
    EXPECT_NE(text.find("the cat 7 sat on the mat."), std::string::npos) << text;
    EXPECT_EQ(text, shell(MOBA_PROGRAM " " + sample + " --no-cache 2>/dev/null").out);
    EXPECT_NE(moba("info --model " + (dir / "run")).out.find("a.txt"), std::string::npos);
}

TEST(TextProgram, ResumeIsExact) {
    const TempDir dir;
    write_text(dir / "a.txt", sentences(60));
    const std::string run =
        std::string(tiny_text) + "--steps 60 --save-every 1 --data " + (dir / "a.txt") + " --out ";
    ASSERT_EQ(moba(run + (dir / "whole")).status, 0);
    const Outcome cut =
        shell("(" MOBA_PROGRAM " " + run + (dir / "cut") + " & p=$!; while [ ! -e " + (dir / "cut/latest") +
              " ] && kill -0 $p; do sleep 0.01; done; kill -9 $p; wait $p)");
    EXPECT_NE(cut.status, 0) << "the run ended before it was killed";
    ASSERT_EQ(moba("train --resume --out " + (dir / "cut")).status, 0);
    EXPECT_EQ(read_text(dir / "whole/latest/model.safetensors"),
              read_text(dir / "cut/latest/model.safetensors"));
    std::string other_text = sentences(60);
    other_text[5]++;
    write_text(dir / "a.txt", other_text);
    const Outcome other = moba_errors("train --resume --out " + (dir / "cut"));
    EXPECT_EQ(other.status, 1);
    EXPECT_NE(other.out.find("--data has changed since the training"), std::string::npos) << other.out;
}

// Options on the command line replace those of the file, also if they are lists.
TEST(TextProgram, CommandLineOverridesTheConfigFile) {
    const TempDir dir;
    write_text(dir / "a.txt", sentences(20));
    write_text(dir / "b.txt", sentences(20));
    write_text(dir / "c.json", R"({"data": ")" + (dir / "a.txt") + R"(", "steps": 2})");
    const Outcome r = moba(std::string(tiny_text) + "--config " + (dir / "c.json") + " --data " +
                           (dir / "b.txt") + " --out " + (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    const std::string config = read_text(dir / "run/latest/config.json");
    EXPECT_EQ(config.find("a.txt"), std::string::npos) << config;
    EXPECT_NE(config.find("b.txt"), std::string::npos);
}

// The tokenizer that tokens.json names must exist when the run begins. It is copied into the checkpoints of
// the run.
TEST(TextProgram, Tokenizer) {
    const TempDir dir;
    write_text(dir / "a.bin", bin<uint16_t>(20240520, 1, std::vector<uint16_t>(200, 1)));
    write_text(dir / "tokens.json", R"({"vocab_size": 3, "end_token": 2, "tokenizer": "t.json"})");
    const std::string run =
        std::string(tiny_text) + "--steps 1 --data " + (dir / "a.bin") + " --out " + (dir / "run");
    EXPECT_NE(moba_errors(run).out.find("t.json: No such file"), std::string::npos);
    write_text(dir / "t.json",
               R"({"model": {"vocab": {"H": 0, "\u2581cat": 1}}, "decoder": {"type": "Metaspace"}})");
    ASSERT_EQ(moba(run).status, 0);
    EXPECT_EQ(read_text(dir / "run/latest/tokenizer.json"), read_text(dir / "t.json"));
    const std::string sample = "sample --max-new-tokens 1 --prompt-ids 1,1 --model " + (dir / "run");
    EXPECT_EQ(shell(MOBA_PROGRAM " " + sample + " 2>/dev/null").out.rfind("cat cat", 0), 0u);
    expect_refused("sample --prompt cat --model " + (dir / "run"), 1, "its model: 'unk_token' is missing");
}

// All of a text can be learnt, and then nothing is validated. Names of files may have commas.
TEST(TextProgram, NoValidation) {
    const TempDir dir;
    write_text(dir / "a,b.txt", sentences(10));
    const std::string run = std::string(tiny_text) + "--steps 2 --eval-every 0 --out " + (dir / "run");
    const Outcome r = moba(run + " --val-share 0 --data " + (dir / "a,b.txt"));
    ASSERT_EQ(r.status, 0) << r.out;
    const std::string all = std::to_string(sentences(10).size() + 1);
    EXPECT_NE(r.out.find("text, " + all + " tokens to train on, 0 to validate on"), std::string::npos)
        << r.out;
    EXPECT_EQ(moba("train --resume --out " + (dir / "run")).status, 0) << "the name is stored with its comma";
    expect_refused("train --resume --eval-every 1 --out " + (dir / "run"), 1, "to validate on");
    const std::string eval = "eval --model " + (dir / "run");
    expect_refused(eval, 1, "name a text with --data");
    EXPECT_EQ(moba(eval + " --windows 2 --data " + (dir / "a,b.txt")).status, 0);
    for (const char* idle : {"--samples 5", "--depths 3", "--seed 2"}) {
        expect_refused(eval + " " + idle + " --data " + (dir / "a,b.txt"), 1,
                       std::string(idle).substr(0, std::string(idle).find(' ')) + " is for tasks");
    }
    // too short to leave anything to validate on
    write_text(dir / "short.txt", sentences(10).substr(0, 60));
    EXPECT_EQ(moba(std::string(tiny_text) + "--seq-len 16 --steps 2 --eval-every 0 --val-share 0.01 --data " +
                   (dir / "short.txt") + " --out " + (dir / "short"))
                  .status,
              0);
}

// A prompt longer than a command line can be, as text and as ids, from a file and through a pipe.
TEST(TextProgram, PromptFromAFile) {
    const TempDir dir;
    write_text(dir / "a.txt", sentences(10));
    ASSERT_EQ(moba(std::string(tiny_text) + "--steps 1 --eval-every 0 --data " + (dir / "a.txt") + " --out " +
                   (dir / "run"))
                  .status,
              0);
    const std::string sample = " sample --device cpu --max-new-tokens 3 --model " + (dir / "run") + " ";
    const auto said = [&](const std::string& before, const std::string& prompt) {
        const Outcome r = shell(before + MOBA_PROGRAM + sample + prompt + " 2>" + (dir / "err"));
        EXPECT_EQ(r.status, 0) << read_text(dir / "err");
        return r.out;
    };
    write_text(dir / "short.txt", "the cat\n");
    const std::string text = said("", "--prompt 'the cat\n'");
    EXPECT_EQ(text.rfind("the cat\n", 0), 0u) << text;
    EXPECT_EQ(said("", "--prompt-file " + (dir / "short.txt")), text);
    EXPECT_EQ(said("cat " + (dir / "short.txt") + " | ", "--prompt-file -"), text);
    EXPECT_EQ(said("cat " + (dir / "short.txt") + " | ", "--prompt-file /dev/stdin"), text);
    write_text(dir / "ids.txt", "116, 104\n101 32,99 ,97 0116\n10\n");
    EXPECT_EQ(said("", "--prompt-ids-file " + (dir / "ids.txt")), text);
    EXPECT_EQ(said("cat " + (dir / "ids.txt") + " | ", "--prompt-ids-file -"), text);
    std::string large, ids;
    while (large.size() < 150000) { large += "the dog sat on the mat. "; }
    for (char c : large) { ids += (ids.empty() ? "" : ",") + std::to_string(c); }
    write_text(dir / "large.txt", large);
    write_text(dir / "large.ids", ids);
    const std::string moba16 =
        " --attention moba --block-size 64 --top-k 2 --max-new-tokens 1 --whole-prompt";
    const std::string long_text = said("", "--prompt-file " + (dir / "large.txt") + moba16);
    EXPECT_EQ(long_text.compare(0, large.size(), large), 0) << long_text.size();
    EXPECT_EQ(said("", "--prompt-ids-file " + (dir / "large.ids") + moba16), long_text);
    // usually only the end of a long prompt is printed
    write_text(dir / "middle.txt", large.substr(0, 5000));
    const std::string end = said("", "--prompt-file " + (dir / "middle.txt"));
    EXPECT_EQ(end.rfind("(4600 bytes before this)\n" + large.substr(4600, 400), 0), 0u) << end;

    const auto refused = [&](const std::string& prompt, int status, const std::string& says) {
        expect_refused(sample + prompt, status, says);
    };
    write_text(dir / "empty", "");
    refused("--prompt-file " + (dir / "empty"), 1, "empty: is empty");
    refused("--prompt-file - < /dev/null", 1, "standard input: is empty");
    refused("--prompt-file " + (dir / "none"), 1, "none: No such file");
    refused("--prompt-file " + dir.path(), 1, "is a folder");
    refused("--prompt-ids-file " + (dir / "short.txt"), 1, "short.txt: 'the' is not a token id");
    refused("--prompt-file a --prompt b", 2, "--prompt");
    refused("--prompt-file a --prompt-ids 1", 2, "--prompt");
    refused("--prompt-file a --prompt-ids-file b", 2, "--prompt");
    write_text(dir / "blanks", " ,\n");
    refused("--prompt-ids-file " + (dir / "blanks"), 1, "has no token ids");
    write_text(dir / "beyond", "70000");
    refused("--prompt-ids-file " + (dir / "beyond"), 1, "token id 70000");
    refused("--prompt a --top-k 40 --temperature 1", 1, "--sample-top-k");
    refused("--prompt a --sample-top-k 40", 1, "--sample-top-k goes with a --temperature");
    refused("--prompt a --sample-top-p 0.5", 1, "--sample-top-p goes with a --temperature");
    const std::string inspect =
        "inspect --device cpu --model " + (dir / "run") + " --out " + (dir / "p.html");
    EXPECT_EQ(moba(inspect + " --prompt-file " + (dir / "short.txt")).status, 0);
    expect_refused(inspect + " --prompt-file " + (dir / "short.txt") + " --seed 3", 2, "--seed");
}

TEST(TextProgram, WrongInput) {
    const TempDir dir;
    write_text(dir / "a.txt", sentences(10));
    const auto refused = [&](const std::string& more, const std::string& says, int status = 1) {
        const Outcome r = moba_errors("train --out " + (dir / "run") + " " + more);
        EXPECT_EQ(r.status, status) << r.out;
        EXPECT_NE(r.out.find(says), std::string::npos) << r.out;
        EXPECT_EQ(lines(r.out), 1) << r.out;
    };
    const std::string data = "--data " + (dir / "a.txt");
    refused("--data " + (dir / "none.txt"), "none.txt");
    refused(data + " --task needle", "--task");
    refused(data + " --curriculum 16:2:2:2", "--curriculum");
    refused(data + " --seq-len 4096", "needs at least 4097");
    refused(data + " --val-share 0", "--eval-every 0");
    refused(data + " --pairs 3", "--pairs is a setting of tasks");
    refused("--val-share 0.2", "--val-share needs --data");
    write_text(dir / "empty.txt", "");
    refused("--data " + (dir / "empty.txt"), "empty.txt: is empty");
    refused("--data /dev/null", "/dev/null: is a pipe or a device");
    ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
    refused("--data " + (dir / "pipe"), "pipe: is a pipe or a device");
    refused("--data " + dir.path(), "is a folder");
    refused(data + " --val-share nan", "--val-share", 2);
    refused("--data 'caf\xe9.txt'", "UTF-8");
    refused("--val-data " + (dir / "a.txt"), "--val-data needs --data");
    refused("--epochs 2", "--epochs needs --data");
    EXPECT_FALSE(std::filesystem::exists(dir / "run"));
}

}  // namespace

}  // namespace moba

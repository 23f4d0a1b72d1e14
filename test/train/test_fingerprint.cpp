/* Data that changed since the training is refused by name, wherever the change is; data that only moved is
   accepted. */
#include "test/support/program.h"
#include "train/data/fingerprint.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;

std::string words(int count, int salt) {
    std::string text;
    for (int i = 0; i < count; i++) { text += "word" + std::to_string(i * 7919 % 101 + salt) + " "; }
    return text;
}

void write_shard(const std::string& path, int tokens, int step) {
    std::vector<int32_t> header(256);
    header[0] = 20240520, header[1] = 1, header[2] = tokens;
    std::string bytes((const char*)header.data(), 1024);
    for (int i = 0; i < tokens; i++) {
        const uint16_t id = (uint16_t)(i * step % 256);
        bytes.append((const char*)&id, 2);
    }
    write_text(path, bytes);
}
void write_vocabulary(const std::string& dir, int size, int end, const std::string& tokenizer) {
    write_text(dir + "/tokens.json",
               json({{"vocab_size", size}, {"end_token", end}, {"tokenizer", tokenizer}}).dump());
}

const std::string small = "train --hidden-size 32 --num-layers 1 --seq-len 32 --batch-size 2 --block-size 16 "
                          "--top-k 2 --device cpu --log-every 1000 --eval-samples 4 --warmup 2 ";

uint64_t hash_of(const std::vector<std::string>& paths) { return TokenFiles(paths).content_hash(); }

TEST(Fingerprint, EveryByteCounts) {
    const TempDir dir;
    const std::string text = words(40000, 0);  // several pieces
    write_text(dir / "a", text), write_text(dir / "copy", text);
    const uint64_t hash = hash_of({dir / "a"});
    EXPECT_EQ(hash, hash_of({dir / "copy"}));
    for (size_t at :
         {(size_t)0, (size_t)1001, (size_t)65535, (size_t)65536, text.size() / 2, text.size() - 1}) {
        std::string other = text;
        other[at] ^= 1;
        write_text(dir / "b", other);
        EXPECT_NE(hash, hash_of({dir / "b"})) << "byte " << at;
    }
    write_text(dir / "longer", text + std::string(1, '\0'));
    EXPECT_NE(hash, hash_of({dir / "longer"}));
    write_text(dir / "first", text.substr(0, 1000)), write_text(dir / "rest", text.substr(1000));
    EXPECT_NE(hash, hash_of({dir / "first", dir / "rest"})) << "documents end elsewhere";
    EXPECT_NE(hash_of({dir / "first", dir / "rest"}), hash_of({dir / "rest", dir / "first"}));
}

TEST(Fingerprint, MovedDataGoesOnChangedDataIsRefused) {
    const TempDir dir;
    const std::string text = words(3000, 0), run = dir / "run";
    write_text(dir / "s.txt", text), write_text(dir / "v.txt", words(300, 5));
    ASSERT_EQ(moba(small + "--steps 4 --data " + (dir / "s.txt") + " --val-data " + (dir / "v.txt") +
                   " --out " + run)
                  .status,
              0);
    std::filesystem::create_directory(dir / "new");
    std::filesystem::rename(dir / "s.txt", dir / "new/s.txt");
    expect_refused("train --resume --steps 5 --out " + run, 1, "s.txt: No such file");
    const Outcome moved = moba("train --resume --steps 6 --data " + (dir / "new/s.txt") + " --out " + run);
    ASSERT_EQ(moved.status, 0) << moved.out;
    ASSERT_EQ(moba("train --resume --steps 8 --out " + run).status, 0) << "the new place is remembered";

    std::string other = text;
    other[other.size() / 2] ^= 1;
    write_text(dir / "new/s.txt", other);
    expect_refused("train --resume --steps 9 --out " + run, 1, "--data has changed since the training");
    write_text(dir / "new/s.txt", text);
    write_text(dir / "v.txt", words(300, 6));
    expect_refused("train --resume --steps 9 --out " + run, 1, "--val-data has changed since the training");
    expect_refused("eval --device cpu --seq-len 32 --model " + run, 1, "--val-data has changed");
    EXPECT_EQ(moba("eval --device cpu --seq-len 32 --model " + run + " --data " + (dir / "v.txt")).status, 0)
        << "another text, asked for by name";
}

TEST(Fingerprint, VocabularyEndAndTokenizerAreCompared) {
    const TempDir dir;
    const std::string run = dir / "run", data = dir / "d/train.bin", before = dir / "before.json";
    std::filesystem::create_directory(dir / "d");
    write_shard(data, 3000, 7);
    write_vocabulary(dir / "d", 257, 256, "");
    ASSERT_EQ(moba(small + "--steps 4 --data " + data + " --out " + run).status, 0);
    const std::string resume = "train --resume --steps 5 --out " + run;
    write_vocabulary(dir / "d", 300, 256, "");
    expect_refused(resume, 1, "another vocabulary (257 then, 300 now)");
    write_vocabulary(dir / "d", 257, 10, "");
    expect_refused(resume, 1, "another end token (256 then, 10 now)");
    write_vocabulary(dir / "d", 257, 256, "bytes");
    expect_refused(resume, 1, "another tokenizer");
    write_vocabulary(dir / "d", 257, 256, "");
    EXPECT_EQ(moba(resume).status, 0);
}

TEST(Fingerprint, TokensMustBeOfTheModelsTokenizer) {
    const TempDir dir;
    const auto tokenizer = [&](const std::string& name, const std::string& spelling, int indent) {
        json vocabulary = json::object();
        for (int i = 0; i < 256; i++) { vocabulary[spelling + std::to_string(i)] = i; }
        write_text(dir / name,
                   json({{"model", {{"type", "WordLevel"}, {"vocab", vocabulary}, {"unk_token", "x0"}}},
                         {"decoder", nullptr}})
                       .dump(indent));
        return dir / name;
    };
    const std::string a = tokenizer("a.json", "x", -1), again = tokenizer("again.json", "x", 1),
                      other = tokenizer("other.json", "y", -1);
    const Vocabulary bytes, unknown{257, 256, ""}, of_a{257, 256, a}, of_again{257, 256, again},
        of_other{257, 256, other};
    const auto message = [](const std::string& model, const Vocabulary& v) -> std::string {
        try {
            check_tokenizer(model, v, "here");
            return "";
        } catch (const Error& e) { return e.what(); }
    };
    for (const Vocabulary* v : {&unknown, &of_a, &of_again}) { EXPECT_EQ(message(a, *v), ""); }
    EXPECT_EQ(message("bytes", bytes), "");
    EXPECT_EQ(message("", of_a), "") << "unknown fits everything";
    EXPECT_NE(message(a, bytes).find("encode it with --tokenizer"), std::string::npos);
    EXPECT_NE(message(a, of_other).find("another tokenizer"), std::string::npos);
    EXPECT_NE(message("bytes", of_a).find("the model's tokens are bytes"), std::string::npos);

    // a run that a tokenizer belongs to, and plain text
    std::filesystem::create_directory(dir / "d");
    write_shard(dir / "d/t.bin", 3000, 7);
    write_vocabulary(dir / "d", 257, 256, "../a.json");
    const std::string run = dir / "run";
    const Outcome r = moba(small + "--steps 2 --data " + (dir / "d/t.bin") + " --out " + run);
    ASSERT_EQ(r.status, 0) << r.out;
    write_text(dir / "s.txt", words(3000, 0));
    expect_refused("eval --device cpu --model " + run + " --data " + (dir / "s.txt"), 1, "prepare_text.py");
    expect_refused("train --steps 2 --seq-len 32 --device cpu --init-from " + run + " --data " +
                       (dir / "s.txt") + " --out " + (dir / "tuned"),
                   1, "prepare_text.py");
    EXPECT_EQ(moba("eval --device cpu --seq-len 32 --model " + run + " --data " + (dir / "d/t.bin")).status,
              0);
}

TEST(Fingerprint, AComparisonKeepsItsText) {
    const TempDir dir;
    write_text(dir / "s.txt", words(2000, 0));
    const auto plan = [&](const json& variants) {
        write_text(dir / "plan.json", json({{"base",
                                             {{"hidden-size", 32},
                                              {"num-heads", 1},
                                              {"num-layers", 1},
                                              {"block-size", 16},
                                              {"top-k", 2},
                                              {"steps", 3},
                                              {"seq-len", 32},
                                              {"batch-size", 2},
                                              {"eval-every", 3},
                                              {"eval-samples", 2},
                                              {"device", "cpu"},
                                              {"warmup", 1}}},
                                            {"eval", {{"lengths", {1}}}},
                                            {"tasks", {{{"name", "text"}, {"data", dir / "s.txt"}}}},
                                            {"variants", variants}})
                                          .dump());
    };
    const std::string compare = "compare --config " + (dir / "plan.json") + " --out " + (dir / "out");
    plan({{{"name", "a"}}});
    const Outcome first = moba(compare);
    ASSERT_EQ(first.status, 0) << first.out;
    plan({{{"name", "a"}}, {{"name", "b"}}});
    write_text(dir / "s.txt", words(2000, 3));
    const Outcome changed = moba_errors(compare);
    EXPECT_EQ(changed.status, 1);
    EXPECT_NE(changed.out.find("--data has changed since the training: another content"), std::string::npos)
        << changed.out;
    write_text(dir / "s.txt", words(2000, 0));
    const Outcome same = moba(compare);
    EXPECT_EQ(same.status, 0) << same.out;
}

// The file is cut while a run reads it: one line, and a saved run that goes on when the file is whole again.
TEST(Fingerprint, DataThatShrinksSavesTheRun) {
    const TempDir dir;
    const std::string text = words(30000, 0), run = dir / "run", file = dir / "s.txt";
    write_text(file, text);
    const Outcome r =
        shell("(" MOBA_PROGRAM " " + small + "--steps 1000000 --save-every 0 --eval-every 0 --data " + file +
              " --out " + run + " & p=$!; while [ ! -s " + run +
              "/log.jsonl ] && kill -0 $p; do sleep 0.01; done; truncate -s 1000 " + file + "; wait $p)");
    EXPECT_EQ(r.status, 1) << r.out;
    EXPECT_NE(r.out.find("s.txt: has become shorter"), std::string::npos) << r.out;
    write_text(file, text);
    const json state = json::parse(read_text(run + "/latest/state.json"));
    const int step = state["step"];
    EXPECT_GT(step, 0);
    std::string log = read_text(run + "/log.jsonl");
    EXPECT_EQ(lines(log), step) << "every step that was done is in the log";
    EXPECT_EQ(moba("train --resume --steps " + std::to_string(step + 2) + " --out " + run).status, 0);
}

}  // namespace

}  // namespace moba

/* Fine-tuning a Llama: its files are kept, and what the data brings is added. */
#include "test/support/program.h"
#include "train/files/checkpoint.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;
namespace fs = std::filesystem;

const std::string llama = MOBA_SOURCE_DIR "/test/huggingface/llama2_f32";

json config_of(const std::string& folder) { return json::parse(read_text(folder + "/config.json")); }

// A file of n tokens below `vocabulary`, and its tokens.json.
std::string write_tokens(const TempDir& dir, int n, int vocabulary, int end_token) {
    std::vector<int32_t> header(256);
    header[0] = 20240520, header[1] = 1, header[2] = n;
    std::string shard((const char*)header.data(), 1024);
    for (int i = 0; i < n; i++) {
        const uint16_t id = (uint16_t)(i * 7 % vocabulary);
        shard.append((const char*)&id, 2);
    }
    fs::create_directory(dir / "d");
    write_text(dir / "d/x.bin", shard);
    write_text(dir / "d/tokens.json",
               json({{"vocab_size", vocabulary}, {"end_token", end_token}, {"tokenizer", ""}}).dump());
    return dir / "d/x.bin";
}

Outcome train_on(const std::string& model, const std::string& options) {
    return moba("train --init-from " + model +
                " --seq-len 16 --batch-size 2 --steps 2 --warmup 0 --eval-every 0 --attention full "
                "--device cpu " +
                options);
}

// Also after the run was resumed.
TEST(FineTuning, KeepsWhatTheModelCameWith) {
    const TempDir dir;
    const std::string m = dir / "m", run = dir / "run";
    fs::copy(llama, m);
    json j = config_of(llama);
    j["bos_token_id"] = 1, j["eos_token_id"] = {2, 3}, j["pad_token_id"] = 4, j["my_key"] = {{"a", 1}};
    j["max_position_embeddings"] = 4096;
    write_text(m + "/config.json", j.dump());
    const int V = j["vocab_size"];
    json vocabulary = json::object();
    for (int i = 0; i < V; i++) { vocabulary["w" + std::to_string(i)] = i; }
    write_text(m + "/tokenizer.json",
               json({{"model", {{"type", "WordLevel"}, {"vocab", vocabulary}, {"unk_token", "w0"}}}}).dump());
    write_text(m + "/tokenizer_config.json", R"({"chat_template": "x"})");
    write_text(m + "/generation_config.json", R"({"eos_token_id": [2, 3]})");
    const Outcome r = train_on(m, "--data " + write_tokens(dir, 2000, V, 2) + " --out " + run);
    ASSERT_EQ(r.status, 0) << r.out;
    for (int again = 0; again < 2; again++) {
        const json kept = config_of(run + "/latest");
        EXPECT_EQ(kept["bos_token_id"], 1);
        EXPECT_EQ(kept["eos_token_id"], json({2, 3})) << "the data's end token is one of them";
        EXPECT_EQ(kept["pad_token_id"], 4);
        EXPECT_EQ(kept["my_key"], j["my_key"]);
        EXPECT_EQ(kept["max_position_embeddings"], 4096);
        for (const char* file : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
            EXPECT_EQ(read_text(run + "/latest/" + file), read_text(m + "/" + file)) << file;
        }
        EXPECT_EQ(open_model(run).trained_length, 16) << "eval measures at the length of the training";
        EXPECT_EQ(moba("train --resume --steps 3 --out " + run).status, 0);
    }
    EXPECT_NE(
        moba("sample --device cpu --prompt-ids 5,6 --max-new-tokens 1 --model " + run).out.find("w5 w6"),
        std::string::npos)
        << "its words";
}

// Other programs take the end tokens of generation_config.json alone.
TEST(FineTuning, TheEndTokenOfTheDataIsAdded) {
    const TempDir dir;
    const std::string m = dir / "m", data = write_tokens(dir, 500, 20, 9);
    fs::copy(llama, m);
    const std::pair<json, json> cases[] = {{3, {9, 3}},      {{3, 4}, {9, 3, 4}},  {9, 9},
                                           {{3, 9}, {3, 9}}, {{3.0, 9.0}, {3, 9}}, {nullptr, 9},
                                           {-1, 9}};
    for (const auto& [before, after] : cases) {
        write_text(m + "/generation_config.json", json({{"eos_token_id", before}, {"top_p", 0.5}}).dump());
        const Outcome r = train_on(m, "--overwrite --data " + data + " --out " + (dir / "run"));
        ASSERT_EQ(r.status, 0) << r.out;
        const json generation = json::parse(read_text(dir / "run/latest/generation_config.json"));
        EXPECT_EQ(generation, json({{"eos_token_id", after}, {"top_p", 0.5}})) << before;
    }
    write_text(m + "/generation_config.json", R"({"top_p": 0.5})");
    write_text(m + "/merges.txt", "");  // of a vocabulary of whole words
    ASSERT_EQ(train_on(m, "--overwrite --data " + data + " --out " + (dir / "run")).status, 0);
    EXPECT_EQ(json::parse(read_text(dir / "run/latest/generation_config.json"))["eos_token_id"], 9);
    EXPECT_TRUE(fs::exists(dir / "run/latest/merges.txt"));
}

TEST(FineTuning, ATaskIsNotEndedByTokensOfText) {
    const TempDir dir;
    const std::string m = dir / "m";
    fs::copy(llama, m);
    json j = config_of(llama);
    std::vector<int> all(j["vocab_size"].get<int>());
    for (size_t i = 0; i < all.size(); i++) { all[i] = (int)i; }
    j["eos_token_id"] = all;
    write_text(m + "/config.json", j.dump());
    const Outcome r = train_on(m, "--task needle --num-keys 4 --num-values 4 --num-noise 4 --pairs 1 --out " +
                                      (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(config_of(dir / "run/latest")["eos_token_id"], j["eos_token_id"]);
    EXPECT_NE(moba("sample --device cpu --max-new-tokens 4 --model " + (dir / "run"))
                  .out.find("generated: 3 tokens"),
              std::string::npos)
        << "after the prompt's one";
}

// Training and eval need no text.
TEST(FineTuning, ADecoderThatIsNotKnown) {
    const TempDir dir;
    const std::string m = dir / "m", run = dir / "run", data = write_tokens(dir, 500, 20, 9);
    fs::copy(llama, m);
    const std::string tokenizer = R"({"model": {"vocab": {"H": 0, "cat": 1}}, "decoder": {"type": "CTC"}})";
    write_text(m + "/tokenizer.json", tokenizer);
    write_text(dir / "d/t.json", tokenizer);
    write_text(dir / "d/tokens.json", R"({"vocab_size": 20, "end_token": 9, "tokenizer": "t.json"})");
    const Outcome r = train_on(m, "--data " + data + " --out " + run);
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_EQ(read_text(run + "/latest/tokenizer.json"), tokenizer);
    EXPECT_EQ(moba("eval --device cpu --model " + run).status, 0);
    for (const std::string wants_text : {"sample", "inspect --out x.html"}) {
        expect_refused(wants_text + " --device cpu --prompt-ids 1 --model " + run, 1, "CTC is not supported");
    }
}

}  // namespace

}  // namespace moba

/* moba inspect as a user runs it: the page, the JSON, and refused input. */
#include "test/support/program.h"
#include "train/files/safetensors.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

TEST(Inspect, OfATest) {
    const TempDir dir;
    ASSERT_EQ(
        moba(std::string(tiny_run) + "--num-heads 2 --layers moba,window:8 --steps 2 --out " + (dir / "run"))
            .status,
        0);
    const std::string model = "--model " + (dir / "run") + " --out " + (dir / "p.html");
    const Outcome r = moba("inspect " + model + " --seq-len 60 --depth 0 --json " + (dir / "i.json"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_GE(lines(r.out), 1 + 4 + 1);  // reach, the heads, the page; and the paths, if there are any
    EXPECT_NE(r.out.find("reach the question through the tokens that are read"), std::string::npos) << r.out;
    EXPECT_NE(r.out.find("layer 1 head 1: "), std::string::npos) << r.out;
    const json j = json::parse(read_text(dir / "i.json"));
    EXPECT_EQ(j["layers"], (json{"moba:rope", "window:8:rope"}));
    EXPECT_EQ(j["tokens"].size(), 59u);
    EXPECT_EQ(j["question"], 58);
    EXPECT_EQ(j["source"], 1) << "the value of the pair at the start";
    EXPECT_EQ(j["tokens"][0], j["tokens"][58]) << "the key is asked for";
    EXPECT_EQ(j["tokens"][1], j["answer"]);
    EXPECT_EQ(j["views"].size(), 4u);
    for (int i = 0; i < 4; i++) {
        const json& v = j["views"][i];
        EXPECT_EQ(v["layer"], i / 2);
        EXPECT_EQ(v["head"], i % 2);
        EXPECT_EQ(v["kind"], i < 2 ? "moba" : "window");
        EXPECT_EQ(v["queries"].size(), 59u);
        const json& q = v["queries"][58];
        double sum = 0, full = 0, kept = 0;
        for (size_t n = 0; n < q["weights"].size(); n++) {
            sum += q["weights"][n].get<double>();
            full += q["full_weights"][n].get<double>();
        }
        EXPECT_NEAR(sum, 1, 1e-4);
        EXPECT_NEAR(full, 1, 1e-4);
        EXPECT_EQ(q["own"], 3);
        EXPECT_EQ(v["answer_chosen"],
                  i < 2 ? std::count(q["chosen"].begin(), q["chosen"].end(), 0) > 0 : false);
        kept = v["mass_kept"];
        EXPECT_TRUE(kept > 0 && kept <= 1) << kept;
    }
    ASSERT_TRUE(j["reached"].is_boolean());
    EXPECT_EQ(r.out.find("the answer can reach") != std::string::npos, j["reached"].get<bool>());
    ASSERT_TRUE(j["reached"]) << "the seed is one that is reached";
    EXPECT_FALSE(j["paths"].empty());
    for (const json& path : j["paths"]) {
        EXPECT_EQ(path["hops"].front()["from"], 1);
        EXPECT_EQ(path["hops"].back()["to"], 58);
    }
    const std::string html = read_text(dir / "p.html");
    for (const char* part :
         {"The way of the answer", "Layer 0, moba:rope", "Layer 1, window:8:rope", "id=\"v0m\"", "id=\"v0f\"",
          "id=\"v3m\"", "id=\"v3f\"", "Head 0", "Head 1", "the block with the answer"}) {
        EXPECT_NE(html.find(part), std::string::npos) << part;
    }
    EXPECT_EQ(html.find("http://"), html.find("http://www.w3.org/2000/svg")) << "nothing from the network";
    EXPECT_EQ(html.find("https://"), std::string::npos);

    ASSERT_EQ(
        moba("inspect " + model + " --layer 1 --head 1,1 --attention full --json " + (dir / "i.json")).status,
        0);
    const json one = json::parse(read_text(dir / "i.json"));
    EXPECT_EQ(one["layers"][0], "full:rope");
    EXPECT_EQ(one["views"].size(), 1u);
    EXPECT_EQ(one["views"][0]["head"], 1);
    EXPECT_EQ(moba("inspect " + model + " --prompt-ids 3 --json " + (dir / "i.json")).status, 0)
        << "one token";
    EXPECT_EQ(json::parse(read_text(dir / "i.json"))["question"], json());
    EXPECT_EQ(moba("inspect " + model + " --prompt 'k1 v2 k1'").status, 0);

    expect_refused("inspect --out x.html", 2, "--model");
    expect_refused("inspect " + model + " --prompt k1 --prompt-ids 1", 2, "--prompt");
    expect_refused("inspect " + model + " --prompt k1 --depth 0.5", 2, "--depth");
    expect_refused("inspect " + model + " --prompt-ids 1 --task needle", 2, "--task");
    expect_refused("inspect " + model + " --depth 2", 2, "--depth");
    expect_refused("inspect " + model + " --depth nan", 2, "--depth");
    expect_refused("inspect " + model + " --layer -1", 2, "--layer");
    expect_refused("inspect " + model + " --task dance", 2, "--task");
    expect_refused("inspect " + model + " --layer 0,2", 1, "--layer 2: the model has only 0 to 1");
    expect_refused("inspect " + model + " --head 2", 1, "--head 2: the model has only 0 to 1");
    expect_refused("inspect " + model + " --task mqar", 1,
                   "--task mqar: the model was trained on the task needle");
    expect_refused("inspect " + model + " --seq-len 4", 1, "--seq-len 4: a test of the needle task needs");
    expect_refused("inspect " + model + " --prompt 'k1 x9'", 1, "'x9' is not a token");
    expect_refused("inspect " + model + " --prompt-ids 99", 1, "token id 99");
    expect_refused("inspect " + model + " --top-k 2", 1, "--attention moba");
    expect_refused("inspect " + model + " --json /proc/no.json", 1, "/proc/no.json");
    expect_refused("inspect --out /proc/no.html --model " + (dir / "run"), 1, "/proc/no.html");
    expect_refused("inspect --out '' --model " + (dir / "run"), 1, "--out");
    expect_refused("inspect --model " + (dir / "nowhere"), 1, "no such folder");
}

// The probability of the answer, compared with the logits of moba sample.
TEST(Inspect, ProbabilityOfTheAnswer) {
    const TempDir dir;
    ASSERT_EQ(moba(std::string(tiny_run) + "--steps 2 --out " + (dir / "run")).status, 0);
    const std::string model = " --model " + (dir / "run");
    int wrong = 0;
    for (int seed = 1; seed <= 4; seed++) {
        ASSERT_EQ(moba("inspect" + model + " --seed " + std::to_string(seed) + " --out " + (dir / "p.html") +
                       " --json " + (dir / "i.json"))
                      .status,
                  0);
        const json j = json::parse(read_text(dir / "i.json"));
        std::string ids = j["ids"].dump();
        ids = ids.substr(1, ids.size() - 2);
        ASSERT_EQ(
            moba("sample" + model + " --max-new-tokens 1 --prompt-ids " + ids + " --logits " + (dir / "l"))
                .status,
            0);
        const std::vector<float> logits = Safetensors(dir / "l").floats("logits");
        const size_t V = logits.size() / j["ids"].size();
        const float *last = logits.data() + logits.size() - V, *end = last + V;
        const float answer = last[j["ids"][j["source"].get<int>()].get<int>()];
        double sum = 0;
        for (const float* x = last; x < end; x++) { sum += std::exp(*x - answer); }
        EXPECT_NEAR(j["probability"], 1 / sum, 1e-5);
        EXPECT_EQ(j["right"], answer == *std::max_element(last, end));
        wrong += j["right"] == false;
    }
    EXPECT_GT(wrong, 0) << "the test needs at least one wrong answer";
}

// In tasks where every target is a separate answer, the prompt ends at the last question.
TEST(Inspect, OfATestWithManyQuestions) {
    const TempDir dir;
    ASSERT_EQ(moba("train --task mqar --pairs 4 --num-keys 8 --num-values 8 --hidden-size 16 --seq-len 40 "
                   "--batch-size 1 --steps 1 --warmup 0 --eval-every 0 --out " +
                   (dir / "run"))
                  .status,
              0);
    const std::string model = "--model " + (dir / "run") + " --out " + (dir / "p.html");
    int longest = 0;
    for (int seed = 1; seed <= 5; seed++) {
        ASSERT_EQ(moba("inspect " + model + " --seed " + std::to_string(seed) + " --json " + (dir / "i.json"))
                      .status,
                  0);
        const json j = json::parse(read_text(dir / "i.json"));
        const int question = j["question"], source = j["source"];
        EXPECT_EQ(question, (int)j["tokens"].size() - 1);
        EXPECT_EQ(j["tokens"][question], j["tokens"][source - 1]);
        EXPECT_EQ(j["tokens"][source], j["answer"]);
        longest = std::max(longest, question);
    }
    EXPECT_GT(longest, 24)
        << "of four questions the first is rarely after this position, the last rarely before it";
    expect_refused("inspect " + model + " --depth 0.5", 1, "a test of the mqar task has no depth");
}

TEST(Inspect, OfText) {
    const TempDir dir;
    std::string text;
    for (int i = 0; i < 60; i++) { text += "to be or not to be, "; }
    write_text(dir / "t.txt", text);
    ASSERT_EQ(moba("train --data " + (dir / "t.txt") +
                   " --hidden-size 16 --num-layers 1 --seq-len 48 --batch-size 1 --block-size 16 --top-k 2 "
                   "--steps 1 "
                   "--warmup 0 --eval-every 0 --attention full --out " +
                   (dir / "run"))
                  .status,
              0);
    const std::string model = "--model " + (dir / "run") + " --out " + (dir / "p.html");
    const std::string swap = " --attention moba --block-size 16 --top-k 1 --json " + (dir / "i.json");
    ASSERT_EQ(moba("inspect " + model + swap + " --prompt '<script>a\xc3\xa9</script> and more than 1 block'")
                  .status,
              0);
    const json j = json::parse(read_text(dir / "i.json"));
    EXPECT_EQ(j["tokens"][0], "<");
    EXPECT_EQ(j["tokens"][9], "\\xc3");
    EXPECT_EQ(j["views"][0]["kind"], "moba");
    const std::string html = read_text(dir / "p.html");
    EXPECT_EQ(count(html, "<script>"), 1);
    EXPECT_NE(html.find("&lt;script&gt;a\xc3\xa9&lt;/script&gt;"), std::string::npos);
    expect_refused("inspect " + model, 1, "no prompt");
    expect_refused("inspect " + model + " --prompt a --attention moba", 1,
                   "--block-size and --top-k must be given");
    expect_refused("inspect " + model +
                       " --task needle --seq-len 60 --depth 1 --attention moba --block-size 26 --top-k 1",
                   1, "block_size = 26");
    EXPECT_EQ(moba("inspect " + model + " --task needle --seq-len 60 --depth 1").status, 0)
        << "tokens of bytes can play needle";
    expect_refused("inspect " + model + " --task mqar", 1, "vocabulary of");
    expect_refused("inspect " + model + " --task copying --num-keys 3", 2, "num-keys");
}

}  // namespace

}  // namespace moba

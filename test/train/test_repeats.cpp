/* moba eval --repeats: how far back the same tokens stand, against a search by definition; the losses in
   ranges of that distance; documents, which do not see each other. */
#include "test/support/packed_batch.h"
#include "test/support/program.h"
#include "train/eval/repeats.h"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

std::vector<int> by_definition(const std::vector<int>& tokens, int context) {
    std::vector<int> out(tokens.size());
    for (int t = context - 1; t < (int)tokens.size(); t++) {
        for (int p = t - 1; p >= context - 1 && out[t] == 0; p--) {
            if (std::equal(tokens.begin() + t + 1 - context, tokens.begin() + t + 1,
                           tokens.begin() + p + 1 - context)) {
                out[t] = t - p;
            }
        }
    }
    return out;
}

TEST(Repeats, DistancesByDefinition) {
    for (int vocab : {1, 2, 5}) {
        const std::vector<int> tokens = draw_below(400, (uint32_t)vocab, vocab);
        for (int context : {1, 3, 8, 500}) {
            EXPECT_EQ(repeat_distances(tokens.data(), (int)tokens.size(), context),
                      by_definition(tokens, context))
                << vocab << " " << context;
        }
    }
    EXPECT_EQ(repeat_distances(nullptr, 0, 3), std::vector<int>());
}

TEST(Repeats, Ranges) {
    RepeatLoss loss;
    for (int distance : {0, 1, 64, 65, 256, 257, 1 << 20}) { loss.add(distance, distance + 1); }
    const json want = {{{"from", 0}, {"to", 0}, {"loss", 1.0}, {"count", 1}},
                       {{"from", 1}, {"to", 64}, {"loss", 33.5}, {"count", 2}},
                       {{"from", 65}, {"to", 256}, {"loss", 161.5}, {"count", 2}},
                       {{"from", 257}, {"to", 1024}, {"loss", 258.0}, {"count", 1}},
                       {{"from", (1 << 18) + 1}, {"to", 1 << 20}, {"loss", (1 << 20) + 1.0}, {"count", 1}}};
    EXPECT_EQ(loss.to_json(), want);
    EXPECT_NE(loss.text().find("65 to 256 tokens ago"), std::string::npos) << loss.text();
    EXPECT_NE(loss.text().find("28.6% of the tokens"), std::string::npos) << loss.text();
}

// Two equal documents: in one sequence the second repeats the first; as documents they do not see each other,
// and positions start again.
TEST(Repeats, DocumentsAreSeparate) {
    const TempDir dir;
    std::string text;
    for (int i = 0; i < 40; i++) { text += std::to_string(i * i) + " "; }
    write_text(dir / "a.txt", text + text);
    write_text(dir / "a.jsonl", json{{"text", text}}.dump() + "\n" + json{{"text", text}}.dump() + "\n");
    const std::string sizes =
        " --seq-len 32 --batch-size 2 --hidden-size 16 --num-heads 1 --num-layers 1 "
        "--block-size 16 --top-k 1 --steps 1 --warmup 0 --eval-every 0 --device cpu --out ";
    for (const std::string file : {"a.txt", "a.jsonl"}) {
        ASSERT_EQ(moba("train --data " + (dir / file) + sizes + (dir / "run" + file)).status, 0);
        const Outcome r = moba("eval --model " + (dir / "run" + file) + " --data " + (dir / file) +
                               " --seq-len 512 --repeats 12 --json " + (dir / "e.json"));
        ASSERT_EQ(r.status, 0) << r.out;
        EXPECT_NE(r.out.find("where the last 12 tokens stood before"), std::string::npos) << r.out;
        const json length = json::parse(read_text(dir / "e.json"))["lengths"][0];
        const json &repeats = length["loss_by_repeat"], &positions = length["loss_by_position"];
        const bool whole = file == "a.txt";
        EXPECT_EQ(repeats.size(), whole ? 2u : 1u) << repeats;
        // the last target is the end token; the second document begins with that of the first
        EXPECT_EQ(positions.back()["position"], whole ? 2 * text.size() - 1 : text.size());
        long count = 0;
        for (const json& range : repeats) { count += range["count"].get<long>(); }
        EXPECT_EQ(count, length["tokens"]);
    }
}

}  // namespace

}  // namespace moba

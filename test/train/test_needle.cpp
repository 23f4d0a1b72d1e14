/* The needle task: looking up the key is always right, guessing is right by chance, and the pairs lie at any
   position. */
#include "test/support/check.h"
#include "train/tasks/task.h"
#include <map>
#include <set>

namespace moba {

namespace {

const TaskSettings two_tokens{
    .pairs = 5, .questions = 3, .value_tokens = 2, .num_keys = 16, .num_values = 8, .num_noise = 8};

/* Looks up the keys of every question in the context, and answers with the largest of their values. Returns
   the errors, and the number of pairs in the context. */
int oracle_errors(const Sample& s, const Task& task, int* pairs = nullptr) {
    const TaskSettings& set = task.settings();
    const int first_synonym = set.num_keys + set.num_values + set.num_noise;
    size_t first = 0;
    while (first < s.targets.size() && s.targets[first] == ignored) { first++; }
    first -= set.needles * set.key_tokens - 1;
    std::map<std::vector<int>, size_t> value_of;  // key -> place of its value
    for (size_t t = 0; t < first; t++) {
        if (s.tokens[t] >= set.num_keys) { continue; }
        const std::vector<int> key(&s.tokens[t], &s.tokens[t] + set.key_tokens);
        EXPECT_TRUE(value_of.emplace(key, t + set.key_tokens).second) << "a key stands there once";
        t += set.key_tokens + set.value_tokens - 1;
    }
    if (pairs) { *pairs = (int)value_of.size(); }
    int errors = 0;
    for (size_t t = first; t < s.tokens.size(); t += set.value_tokens) {
        size_t answer = 0;
        for (int n = 0; n < set.needles; n++) {
            std::vector<int> key;
            for (int i = 0; i < set.key_tokens; i++) {
                const int token = s.tokens[t++] - (set.synonyms ? first_synonym : 0);
                EXPECT_TRUE(token >= 0 && token < set.num_keys);
                key.push_back(token);
            }
            EXPECT_EQ(value_of.count(key), 1u) << "the key is in the context";
            if (n == 0 || s.tokens[value_of[key]] > s.tokens[answer]) { answer = value_of[key]; }
        }
        for (int i = 0; i < set.value_tokens; i++) {
            errors += s.targets[t - 1 + i] != s.tokens[answer + i];
            EXPECT_EQ(s.tokens[s.sources[t - 1 + i]], s.targets[t - 1 + i]);
        }
        EXPECT_EQ(s.targets[t - 1 + set.value_tokens], ignored);
    }
    return errors;
}

TEST(Needle, OracleIsAlwaysRight) {
    // RULER's S-NIAH is one pair without decoys
    for (const TaskSettings& given :
         {TaskSettings{}, two_tokens, TaskSettings{.pairs = 1}, TaskSettings{.pairs = 1, .num_keys = 1},
          TaskSettings{.key_tokens = 3, .num_keys = 2}, TaskSettings{.synonyms = 1},
          TaskSettings{.key_tokens = 2, .synonyms = 1, .num_keys = 5}, TaskSettings{.needles = 3},
          TaskSettings{.pair_every = 8}}) {
        const auto made = make_task(given, "");
        const Task& task = *made;
        const TaskSettings& settings = task.settings();
        Sample s;
        for (int i = 0; i < 2000; i++) {
            Rng rng(1, Purpose::synthetic, i);
            const int T = task.shortest(settings.pairs) + rng.below(60);
            task.draw(rng, T, settings.pairs, s);
            ASSERT_EQ((int)s.tokens.size(), T);
            ASSERT_EQ(s.targets.size(), s.tokens.size());
            ASSERT_EQ(oracle_errors(s, task), 0);
            const int T_test = task.shortest_test() + rng.below(60);
            task.draw_test(rng, T_test, rng.uniform(), s);
            ASSERT_EQ((int)s.tokens.size(), T_test);
            ASSERT_EQ(oracle_errors(s, task), 0);
        }
    }
}

// One pair for every 16 tokens, and not fewer than asked for; keys of two tokens, as there are only 20.
TEST(Needle, DecoysGrowWithTheLength) {
    const auto task = make_task({.pair_every = 16, .key_tokens = 2, .num_keys = 20}, "");
    EXPECT_EQ(task->longest(), 401 * 16 - 1);
    Sample s;
    for (int T : {40, 79, 80, 1000, task->longest()}) {
        Rng rng(7, Purpose::synthetic, T);
        int pairs = 0;
        task->draw_test(rng, T, 0.5, s);
        EXPECT_EQ(oracle_errors(s, *task, &pairs), 0);
        EXPECT_EQ(pairs, std::max(4, T / 16));
        task->draw(rng, T, 4, s);
        EXPECT_EQ(oracle_errors(s, *task, &pairs), 0);
        EXPECT_EQ(pairs, std::max(4, T / 16));
    }
    EXPECT_THROW(check_test_length(*task, task->longest() + 1, "T"), Error);
    EXPECT_THROW(make_task({.pair_every = 3}, ""), Error) << "pairs would not fit";
    EXPECT_THROW(make_task({.pairs = 2, .needles = 3}, ""), Error);
    EXPECT_THROW(make_task({.value_tokens = 2, .needles = 2}, ""), Error);
    EXPECT_THROW(make_task({.synonyms = 2}, ""), Error);
}

// The best guess at the largest of three values is the largest value.
TEST(Needle, ChanceOfTheLargestValue) {
    const auto task = make_task({.needles = 3, .num_values = 4}, "");
    EXPECT_DOUBLE_EQ(task->chance(), 1 - 27.0 / 64);
    Sample s;
    int right = 0;
    for (int i = 0; i < 20000; i++) {
        Rng rng(2, Purpose::synthetic, i);
        task->draw_test(rng, 64, 0.5, s);
        right += s.targets[62] == 32 + 3;
    }
    EXPECT_NEAR(right / 20000.0, task->chance(), 4 * std::sqrt(task->chance() / 20000));
}

TEST(Needle, ConstantGuessIsChance) {
    const auto made = make_task({}, "");
    const Task& task = *made;
    Sample s;
    int right = 0, asked = 0;
    for (int i = 0; i < 20000; i++) {
        Rng rng(2, Purpose::synthetic, i);
        task.draw_test(rng, 64, 0.5, s);
        right += s.targets[62] == 32 + 7;
        asked += s.targets[62] != ignored;
    }
    EXPECT_EQ(asked, 20000);
    EXPECT_NEAR((double)right / asked, task.chance(), 4 * std::sqrt(task.chance() / asked));
    EXPECT_DOUBLE_EQ(make_task(two_tokens, "")->chance(), 1.0 / 64);
}

TEST(Needle, EveryOffsetHappensAndBordersAreStraddled) {
    const auto made = make_task({}, "");
    const Task& task = *made;
    std::set<int> starts;
    Sample s;
    for (int i = 0; i < 4000; i++) {
        Rng rng(3, Purpose::synthetic, i);
        task.draw(rng, 64, 4, s);
        for (int t = 0; t < 64 - 8; t++) {
            if (s.tokens[t] < 32) { starts.insert(t); }
        }
    }
    EXPECT_EQ(starts.size(), 55u);  // 0 to 54: a pair of two tokens within the first 56
    EXPECT_TRUE(starts.count(15) && starts.count(31) && starts.count(47))
        << "key in one block, value in the next";
}

TEST(Needle, ContextHoldsDistinctKeysAndDisjointAlphabets) {
    const auto made = make_task({}, "");
    const Task& task = *made;
    Sample s;
    for (int i = 0; i < 500; i++) {
        Rng rng(4, Purpose::synthetic, i);
        task.draw_test(rng, 100, 0.3, s);
        std::map<int, int> seen;
        int keys = 0, values = 0;
        for (int t = 0; t < 98; t++) {
            ASSERT_TRUE(s.tokens[t] >= 0 && s.tokens[t] < task.vocab_size());
            if (s.tokens[t] < 32) {
                keys++;
                EXPECT_EQ(++seen[s.tokens[t]], 1);
                EXPECT_TRUE(s.tokens[t + 1] >= 32 && s.tokens[t + 1] < 64) << "a value follows its key";
            } else {
                values += s.tokens[t] < 64;
            }
        }
        EXPECT_EQ(keys, 4);  // one target, three distractors
        EXPECT_EQ(values, 4);
    }
}

TEST(Needle, DepthPlacesTheTarget) {
    const auto made = make_task({}, "");
    const Task& task = *made;
    Sample s;
    for (double depth : {0.0, 0.25, 0.5, 1.0}) {
        double off = 0;
        for (int i = 0; i < 200; i++) {
            Rng rng(5, Purpose::synthetic, i);
            task.draw_test(rng, 256, depth, s);
            int at = 0;
            while (s.tokens[at] != s.tokens[254]) { at++; }
            off = std::max(off, std::fabs(at - depth * 252));
        }
        EXPECT_LE(off, 1.5) << depth;  // the target is placed between two items
    }
}

// With several keys in a question, the answer lies at the depth.
TEST(Needle, DepthPlacesTheLargestValue) {
    const auto task = make_task({.needles = 3}, "");
    std::set<int> first;
    for (int i = 0; i < 200; i++) {
        Sample s;
        Rng rng(6, Purpose::synthetic, i);
        task->draw_test(rng, 256, 0.5, s);
        EXPECT_EQ(oracle_errors(s, *task), 0);
        EXPECT_NEAR(s.sources[254], 126, 2);
        for (int n = 0; n < 3; n++) {
            if (s.tokens[252 + n] == s.tokens[s.sources[254] - 1]) { first.insert(n); }
        }
    }
    EXPECT_EQ(first.size(), 3u) << "the key of the answer is anywhere in the question";
}

TEST(Needle, SameSeedSameSamplesOtherSeedOthers) {
    const auto made = make_task({}, "");
    const Task& task = *made;
    Sample a, b, c;
    Rng r1(9, Purpose::train_data, 3), r2(9, Purpose::train_data, 3), r3(9, Purpose::eval_data, 3);
    task.draw(r1, 64, 4, a);
    task.draw(r2, 64, 4, b);
    task.draw(r3, 64, 4, c);
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_NE(a.tokens, c.tokens);
}

TEST(Needle, TokensHaveNames) {
    const auto made = make_task({}, "");
    const Task& task = *made;
    for (int id = 0; id < task.vocab_size(); id++) { EXPECT_EQ(task.token_id(task.token_name(id)), id); }
    EXPECT_THROW(task.token_id("k99"), Error);
    EXPECT_THROW(make_task({.pairs = 40}, ""), Error) << "more pairs than keys";
}

}  // namespace

}  // namespace moba

/* The tasks other than needle: following the rule is always right, guessing is right by chance, and `depth`
   sets the position of what is asked for. */
#include "test/support/check.h"
#include "train/tasks/task.h"
#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

namespace moba {

namespace {

// The token that should follow token t, from tokens 0 to t alone.
using Oracle = std::function<int(const Task&, const std::vector<int>& tokens, int t)>;

// Training samples and tests of several lengths: the oracle must agree with every target that counts.
void expect_oracle(const TaskSettings& settings, int answers, const Oracle& oracle) {
    const auto task = make_task(settings, "");
    const int pairs = task->settings().pairs;
    Sample s;
    for (int i = 0; i < 600; i++) {
        Rng rng(1, Purpose::synthetic, i);
        const bool test = i % 2;
        const int shortest = test ? task->shortest_test() : task->shortest(pairs);
        const int T = i < 20 ? shortest : shortest + rng.below(200);
        if (test) {
            task->draw_test(rng, T, rng.uniform(), s);
        } else {
            task->draw(rng, T, pairs, s);
        }
        ASSERT_EQ((int)s.tokens.size(), T);
        ASSERT_EQ(s.targets.size(), s.tokens.size());
        ASSERT_EQ(s.sources.size(), s.tokens.size());
        int counted = 0;
        for (int t = 0; t < T; t++) {
            ASSERT_TRUE(s.tokens[t] >= 0 && s.tokens[t] < task->vocab_size());
            ASSERT_EQ(s.sources[t] < 0, s.targets[t] == ignored);
            if (s.targets[t] == ignored) { continue; }
            ASSERT_LT(s.sources[t], t);
            ASSERT_EQ(s.tokens[s.sources[t]], s.targets[t]) << "at " << t;
            counted++;
            ASSERT_EQ(s.targets[t], oracle(*task, s.tokens, t))
                << token_text(*task, s.tokens.data(), s.tokens.size()) << " at " << t;
        }
        ASSERT_GT(counted, 0);
        if (test) { ASSERT_EQ(counted, answers); }
    }
}

// A constant answer is right about as often as chance() says.
void expect_chance(const TaskSettings& settings, int T, int guess) {
    const auto task = make_task(settings, "");
    Sample s;
    int right = 0, asked = 0;
    for (int i = 0; i < 20000 && asked < 20000; i++) {
        Rng rng(2, Purpose::synthetic, i);
        task->draw_test(rng, T, 0.5, s);
        for (int target : s.targets) {
            if (target == ignored) { continue; }
            asked++;
            right += target == guess;
            if (task->one_answer()) { break; }  // only the first token of an answer
        }
    }
    const double p = task->settings().name == "tracking" ? 1.0 / task->settings().num_keys
                     : task->settings().num_values       ? 1.0 / task->settings().num_values
                                                         : task->chance();
    EXPECT_NEAR((double)right / asked, p, 4 * std::sqrt(p / asked));
}

int position(const std::vector<int>& tokens, int wanted, int from = 0) {
    return (int)(std::find(tokens.begin() + from, tokens.end(), wanted) - tokens.begin());
}

// ---- mqar ----

const TaskSettings small_mqar{.name = "mqar", .pairs = 8, .num_keys = 50, .num_values = 40};

int mqar_oracle(const Task&, const std::vector<int>& tokens, int t) {
    for (int p = 0; p < 8; p++) {
        if (tokens[2 * p] == tokens[t]) { return tokens[2 * p + 1]; }
    }
    return -2;
}

TEST(Mqar, Oracle) { expect_oracle(small_mqar, 8, mqar_oracle); }

// Pairs and questions anywhere: the first place of a key holds its pair.
TEST(Mqar, Spread) {
    TaskSettings settings = small_mqar;
    settings.spread = 1;
    const Oracle oracle = [](const Task&, const std::vector<int>& tokens, int t) {
        return tokens[position(tokens, tokens[t]) + 1];
    };
    expect_oracle(settings, 8, oracle);
    settings.pair_every = 20;
    const auto task = make_task(settings, "");
    EXPECT_EQ(task->longest(), 41 * 20 - 1);
    Sample s;
    double pairs = 0, questions = 0;
    for (int i = 0; i < 300; i++) {
        Rng rng(5, Purpose::synthetic, i);
        task->draw(rng, 400, 8, s);
        for (int t = 0; t < 400; t++) {
            if (s.targets[t] == ignored) { continue; }
            ASSERT_EQ(s.targets[t], oracle(*task, s.tokens, t));
            questions += t, pairs += s.sources[t];
        }
    }
    // the smaller and the larger of two random places
    EXPECT_NEAR(pairs / (300 * 20), 400 / 3.0, 4);
    EXPECT_NEAR(questions / (300 * 20), 800 / 3.0, 4);
}

TEST(Mqar, Chance) {
    expect_chance(small_mqar, 64, 50 + 7);
    EXPECT_DOUBLE_EQ(make_task(small_mqar, "")->chance(), 1.0 / 40);
    EXPECT_EQ(make_task({.name = "mqar"}, "")->vocab_size(), 8192) << "Zoology's";
}

// The power law of Zoology: for the first question drawn, gap g of n has probability (g+1)^(a-1) / sum,
// about.
TEST(Mqar, GapsFollowThePowerLaw) {
    const auto task = make_task({.name = "mqar", .pairs = 1, .num_keys = 4, .num_values = 4}, "");
    const int T = 66, space = 32, n = 40000;
    std::vector<double> count(space), weight(space);
    Sample s;
    for (int i = 0; i < n; i++) {
        Rng rng(3, Purpose::synthetic, i);
        task->draw(rng, T, 1, s);
        int at = 0;
        while (s.targets[at] == ignored) { at++; }
        ASSERT_EQ(at % 2, 0);
        count[(at - 2) / 2]++;
    }
    double sum = 0;
    for (int g = 0; g < space; g++) { sum += weight[g] = std::pow(g + 1, 0.01 - 1); }
    for (int g = 0; g < space; g++) {
        const double p = weight[g] / sum;
        EXPECT_NEAR(count[g] / n, p, 4.5 * std::sqrt(p * (1 - p) / n)) << "gap " << g;
    }
}

TEST(Mqar, AllQuestionsDiffer) {
    const auto task = make_task(small_mqar, "");
    Sample s;
    for (int i = 0; i < 200; i++) {
        Rng rng(4, Purpose::synthetic, i);
        task->draw(rng, 32, 8, s);  // the shortest sequence: every position is used
        std::set<int> keys;
        for (int t = 16; t < 32; t += 2) {
            EXPECT_NE(s.targets[t], ignored);
            keys.insert(s.tokens[t]);
        }
        EXPECT_EQ(keys.size(), 8u);
    }
}

// ---- induction ----

const TaskSettings small_induction{.name = "induction", .num_noise = 10};

int induction_oracle(const Task& task, const std::vector<int>& tokens, int) {
    return tokens[position(tokens, task.token_id("!")) + 1];
}

TEST(Induction, Oracle) { expect_oracle(small_induction, 1, induction_oracle); }
TEST(Induction, Chance) { expect_chance(small_induction, 40, 3); }

TEST(Induction, DepthPlacesTheTrigger) {
    const auto task = make_task(small_induction, "");
    Sample s;
    for (double depth : {0.0, 0.5, 1.0}) {
        Rng rng(5, Purpose::synthetic, 0);
        task->draw_test(rng, 102, depth, s);
        EXPECT_EQ(position(s.tokens, 10), (int)(98 * depth));
        EXPECT_EQ(s.tokens[100], 10);
    }
}

// ---- selective copying ----

const TaskSettings small_copying{.name = "copying", .pairs = 5, .num_values = 7, .num_noise = 3};

int copying_oracle(const Task& task, const std::vector<int>& tokens, int t) {
    const int mark = position(tokens, task.token_id(">"));
    std::vector<int> data;
    for (int i = 0; i < mark; i++) {
        if (tokens[i] < 7) { data.push_back(tokens[i]); }
    }
    return data.size() == 5 ? data[t - mark] : -2;
}

TEST(Copying, Oracle) { expect_oracle(small_copying, 5, copying_oracle); }
TEST(Copying, Chance) {
    expect_chance(small_copying, 40, 3);
    EXPECT_DOUBLE_EQ(make_task(small_copying, "")->chance(), std::pow(1.0 / 7, 5));
}

TEST(Copying, DepthPlacesTheData) {
    const auto task = make_task(small_copying, "");
    Sample s;
    for (int i = 0; i < 50; i++) {
        for (double depth : {0.0, 1.0}) {
            Rng rng(6, Purpose::synthetic, i);
            task->draw_test(rng, 106, depth, s);  // a context of 100 tokens
            for (int t = 0; t < 100; t++) {
                if (s.tokens[t] < 7) { EXPECT_TRUE(depth == 0 ? t < 25 : t >= 75) << t; }
            }
        }
    }
}

// ---- variable tracking ----

const TaskSettings small_tracking{.name = "tracking",
                                  .pairs = 3,
                                  .questions = 2,
                                  .hops = 2,
                                  .num_keys = 12,
                                  .num_values = 5,
                                  .num_noise = 4};

// Follows the chain of assignments: the variable that was assigned the token asked for, then the variable
// that was assigned that one, ...
int tracking_oracle(const Task& task, const std::vector<int>& tokens, int t) {
    const int equals = task.token_id("=");
    for (int i = 1; i + 1 < t; i++) {
        if (tokens[i] == equals && tokens[i + 1] == tokens[t]) { return tokens[i - 1]; }
    }
    return -2;
}

TEST(Tracking, Oracle) { expect_oracle(small_tracking, 3, tracking_oracle); }
TEST(Tracking, Chance) {
    expect_chance(small_tracking, 80, 3);
    EXPECT_DOUBLE_EQ(make_task(small_tracking, "")->chance(), std::pow(1.0 / 12, 3));
}

TEST(Tracking, AssignmentsComeInOrderAndDepthPlacesTheFirst) {
    const auto task = make_task(small_tracking, "");
    Sample s;
    for (int i = 0; i < 300; i++) {
        Rng rng(7, Purpose::synthetic, i);
        const double depth = i % 3 / 2.0;
        task->draw_test(rng, 200, depth, s);
        const int asked = position(s.tokens, task->token_id("?"));
        int given = s.tokens[asked + 1], last = -1;
        for (int link = 0; link < 3; link++) {
            const int key = s.tokens[asked + 2 + link];
            const int at = position(s.tokens, key);
            ASSERT_EQ(s.tokens[at + 1], task->token_id("="));
            ASSERT_EQ(s.tokens[at + 2], given);
            ASSERT_GT(at, last);
            if (link == 0 && depth == 0) { EXPECT_EQ(at, 0); }
            if (link == 2 && depth == 1) { EXPECT_EQ(at, asked - 3); }
            last = at;
            given = key;
        }
    }
}

// One question, as in tests.
TEST(Tracking, TrainingAsksOnceByDefault) {
    const auto task = make_task({.name = "tracking"}, "");
    EXPECT_EQ(task->settings().questions, 1);
    EXPECT_EQ(task->shortest(2), task->shortest_test());
    EXPECT_LT(make_task(small_tracking, "")->shortest_test(), make_task(small_tracking, "")->shortest(3));
}

// ---- all ----

TEST(Tasks, NamesAndSettingsGoBothWays) {
    for (const std::string& name : task_names()) {
        const auto task = make_task({.name = name}, "");
        for (int id = 0; id < std::min(task->vocab_size(), 200); id++) {
            EXPECT_EQ(task->token_id(task->token_name(id)), id);
        }
        const auto back = make_task(task_from_json(task_to_json(task->settings()), ""), "");
        Sample a, b;
        Rng r1(8, Purpose::synthetic, 1), r2(8, Purpose::synthetic, 1);
        const int T = task->shortest(task->settings().pairs) + 10;
        task->draw(r1, T, task->settings().pairs, a);
        back->draw(r2, T, task->settings().pairs, b);
        EXPECT_EQ(a.tokens, b.tokens);
        EXPECT_EQ(a.targets, b.targets);
    }
}

TEST(Tasks, BadSettingsAreRefused) {
    const TaskSettings bad[] = {{.name = "chess"},
                                {.name = "mqar", .pairs = 9, .num_keys = 8},
                                {.name = "mqar", .num_values = 1},
                                {.name = "induction", .num_noise = 1},
                                {.name = "copying", .pairs = -1},
                                {.name = "tracking", .pairs = 11},
                                {.name = "tracking", .hops = 65},
                                {.name = "tracking", .hops = 40},
                                {.name = "mqar", .questions = 3},
                                {.name = "needle", .hops = 3},
                                {.name = "needle", .spread = 1},
                                {.name = "mqar", .key_tokens = 2},
                                {.name = "induction", .num_keys = 3}};
    for (const TaskSettings& s : bad) { EXPECT_THROW(make_task(s, ""), Error) << s.name; }
}

}  // namespace

}  // namespace moba

/* Tasks: generated samples, for training without text. Samples are drawn from seeded random streams, so
   sample number i of a purpose is the same on every machine, and nothing is stored. A table in docs/usage.md
   says what each task asks and where it was published.

   Tokens come from four alphabets that do not overlap, in this order: keys k0.., values v0.., noise n0.., and
   the marks of the task. */
#pragma once
#include "moba/core/philox.h"
#include "moba/ops/loss.h"
#include <algorithm>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moba {

struct Sample {
    std::vector<int> tokens;   // (T)
    std::vector<int> targets;  // targets[i]: the token that should follow tokens[i], or `ignored`
    std::vector<int> sources;  // sources[i] < i: the place that shows targets[i]; -1 where it is ignored
};

/* The settings of a task; 0 = the default of that task. */
struct TaskSettings {
    std::string name = "needle";
    int pairs = 0;         // things to remember: pairs, tokens to copy, or chains
    int pair_every = 0;    // one pair for every so many tokens, if that is more than `pairs` (needle, mqar)
    int questions = 0;     // in a training sample; 0 in needle = as many as pairs
    int key_tokens = 0;    // of one key (needle)
    int value_tokens = 0;  // of one value (needle)
    int needles = 0;       // keys that one question names (needle)
    int synonyms = 0;      // 1: questions name keys by other tokens (needle)
    int spread = 0;        // 1: pairs and questions anywhere (mqar)
    int hops = 0;          // assignments after the first one of a chain (tracking)
    int num_keys = 0, num_values = 0, num_noise = 0;
};

class Task {
  public:
    virtual ~Task() = default;
    const TaskSettings& settings() const { return s_; }
    int vocab_size() const { return s_.num_keys + s_.num_values + s_.num_noise + (int)marks_.size(); }
    std::string token_name(int id) const;
    bool is_noise(int id) const {
        return id >= s_.num_keys + s_.num_values && id < s_.num_keys + s_.num_values + s_.num_noise;
    }
    int token_id(const std::string& name) const;  // throws Error

    virtual double chance() const = 0;          // probability that one guess at the answer is right
    virtual int shortest(int pairs) const = 0;  // fewest tokens of a training sample with this many pairs
    virtual int shortest_test() const { return shortest(s_.pairs); }
    virtual int longest() const { return 1 << 30; }   // for which there are enough different keys
    virtual int most_pairs() const = 0;               // that the alphabets allow
    virtual bool has_depth() const { return true; }   // whether a test can place what is asked for
    virtual bool one_answer() const { return true; }  // all targets are one answer; else each is an answer

    /* Draws a training sample of T tokens with this many pairs. */
    virtual void draw(Rng&, int T, int pairs, Sample&) const = 0;
    /* Draws a test of T tokens. depth in [0, 1] places what is asked for, 0 = at the start; where
       has_depth(), the question is at the end. */
    virtual void draw_test(Rng&, int T, double depth, Sample&) const = 0;

  protected:
    Task(const TaskSettings& s, std::vector<std::string> marks) : s_(s), marks_(std::move(marks)) {}
    int questions(int pairs) const { return s_.questions ? s_.questions : pairs; }
    // Of a sample of T tokens, at least `pairs`; and the longest sample that has at most `most`.
    int pairs_at(int T, int pairs) const {
        return s_.pair_every ? std::max(pairs, T / s_.pair_every) : pairs;
    }
    int longest_of(int most) const {
        return s_.pair_every ? (int)std::min<int64_t>(((int64_t)most + 1) * s_.pair_every - 1, 1 << 30)
                             : 1 << 30;
    }
    int value(int i) const { return s_.num_keys + i; }
    int mark(int i) const { return s_.num_keys + s_.num_values + s_.num_noise + i; }
    int draw_value(Rng& rng) const { return value(rng.below(s_.num_values)); }
    int draw_noise(Rng& rng) const { return s_.num_keys + s_.num_values + rng.below(s_.num_noise); }

  private:
    TaskSettings s_;
    std::vector<std::string> marks_;
};

/* Throw Error if a test, or any sample, of T tokens cannot be drawn; `what` is how the message names T. */
void check_test_length(const Task&, int T, const std::string& what);
void check_longest(const Task&, int T, const std::string& what);

/* `where` is the beginning of error messages. Throws Error on an unknown task, and on a setting that the task
   does not have or that is out of range. */
std::unique_ptr<Task> make_task(const TaskSettings&, const std::string& where);
std::vector<std::string> task_names();

nlohmann::json task_to_json(const TaskSettings&);
TaskSettings task_from_json(const nlohmann::json&, const std::string& where);

/* Tokens as text: their names with blanks between them. */
std::string token_text(const Task&, const int* tokens, size_t count);

// ---- shared by the tasks ----

using TaskMaker = std::unique_ptr<Task> (*)(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_needle(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_mqar(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_induction(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_copying(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_tracking(TaskSettings, const std::string& where);

/* Returns the value, or `fallback` when it is 0; throws Error outside lo..hi. */
int checked(const char* option, int value, int fallback, int lo, int hi, const std::string& where);
/* Draws `count` different numbers below n, in random order. */
std::vector<int> draw_distinct(Rng&, int n, int count);
/* Appends tokens that are no targets. */
void add_tokens(Sample&, const std::vector<int>& tokens);
/* Appends the tokens found at these places of the sample, each one the target of the token before it. */
void add_answer(Sample&, const std::vector<int>& sources);

}  // namespace moba

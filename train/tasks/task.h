/* Tasks: where samples come from when they are not text. Each draws from a seeded stream, so sample number i of a purpose
   is the same on every machine, and nothing is stored. README.md has a table of what each asks and where it comes from.

   Tokens are made of four alphabets that do not overlap, in this order: keys k0.., values v0.., noise n0.., and the
   task's own marks. */
#pragma once
#include "moba/core/philox.h"
#include "moba/ops/loss.h"
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moba {

struct Sample {
    std::vector<int> tokens;   // T of them
    std::vector<int> targets;  // targets[i]: the token that should follow tokens[i], or `ignored`
    std::vector<int> sources;  // sources[i] < i: where the sample tells targets[i]; -1 where it is ignored
};

/* Numbers of a task; 0 = the task's own default. */
struct TaskSettings {
    std::string name = "needle";
    int pairs = 0;      // things to remember: pairs, tokens to copy, chains
    int questions = 0;  // asked in a training sample; 0 in needle = as many as pairs
    int value_tokens = 0;
    int hops = 0;
    int num_keys = 0, num_values = 0, num_noise = 0;
};

class Task {
  public:
    virtual ~Task() = default;
    const TaskSettings& settings() const { return s_; }
    int vocab_size() const { return s_.num_keys + s_.num_values + s_.num_noise + (int)marks_.size(); }
    std::string token_name(int id) const;
    int token_id(const std::string& name) const;  // throws Error

    virtual double chance() const = 0;          // that one guess at the answer is right
    virtual int shortest(int pairs) const = 0;  // tokens that a training sample needs
    virtual int shortest_test() const { return shortest(s_.pairs); }
    virtual int most_pairs() const = 0;
    virtual bool has_depth() const { return true; }   // what is asked for can be placed
    virtual bool one_answer() const { return true; }  // else each target is an answer of its own

    /* A training sample of T tokens with this many pairs. */
    virtual void draw(Rng&, int T, int pairs, Sample&) const = 0;
    /* A test: T tokens, the question at the end; depth in [0, 1] places what is asked for, 0 = at the start. */
    virtual void draw_test(Rng&, int T, double depth, Sample&) const = 0;

  protected:
    Task(const TaskSettings& s, std::vector<std::string> marks) : s_(s), marks_(std::move(marks)) {}
    int questions(int pairs) const { return s_.questions ? s_.questions : pairs; }
    int value(int i) const { return s_.num_keys + i; }
    int mark(int i) const { return s_.num_keys + s_.num_values + s_.num_noise + i; }
    int draw_value(Rng& rng) const { return value(rng.below(s_.num_values)); }
    int draw_noise(Rng& rng) const { return s_.num_keys + s_.num_values + rng.below(s_.num_noise); }

  private:
    TaskSettings s_;
    std::vector<std::string> marks_;
};

/* `where` stands before messages. Throws Error on numbers that cannot be. */
std::unique_ptr<Task> make_task(const TaskSettings&, const std::string& where);
std::vector<std::string> task_names();

nlohmann::json task_to_json(const TaskSettings&);
TaskSettings task_from_json(const nlohmann::json&, const std::string& where);

/* What a sample reads like: token names with blanks between them. */
std::string token_text(const Task&, const int* tokens, size_t count);

// ---- what the tasks share ----

using TaskMaker = std::unique_ptr<Task> (*)(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_needle(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_mqar(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_induction(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_copying(TaskSettings, const std::string& where);
std::unique_ptr<Task> make_tracking(TaskSettings, const std::string& where);

/* The value, or `fallback` when it is 0; throws Error outside lo..hi. */
int checked(const char* option, int value, int fallback, int lo, int hi, const std::string& where);
/* `count` different numbers below n, in random order. */
std::vector<int> draw_distinct(Rng&, int n, int count);
/* Adds tokens to a sample: as they are, or those of the places named, each wanted after the one before it. */
void add_tokens(Sample&, const std::vector<int>& tokens);
void add_answer(Sample&, const std::vector<int>& sources);

}  // namespace moba

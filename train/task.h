/* Tasks: where training and evaluation samples come from. Each draws from a seeded stream, so sample number i of a
   purpose is the same on every machine, and nothing is stored. */
#pragma once
#include "moba/loss.h"
#include "moba/philox.h"
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

struct Sample {
    std::vector<int> tokens;   // T of them
    std::vector<int> targets;  // targets[i]: the token that should follow tokens[i], or `ignored`
};

class Task {
  public:
    virtual ~Task() = default;
    virtual std::string name() const = 0;
    virtual int vocab_size() const = 0;
    virtual double chance() const = 0;            // that one guess at the answer is right
    virtual int shortest(int pairs) const = 0;    // tokens that a training sample needs
    virtual nlohmann::json settings() const = 0;  // what make_task() needs to make it again
    virtual std::string token_name(int id) const = 0;

    /* A training sample of T tokens with this many pairs. */
    virtual void draw(Rng&, int T, int pairs, Sample&) const = 0;
    /* A test: T tokens, one question at the end; depth in [0, 1] places what is asked for, 0 = at the start. */
    virtual void draw_test(Rng&, int T, double depth, Sample&) const = 0;

    int token_id(const std::string& name) const;  // throws Error
};

/* settings: an object with "name" and the task's own numbers; missing ones take their defaults. */
std::unique_ptr<Task> make_task(const nlohmann::json& settings, const std::string& where);
std::vector<std::string> task_names();

/* What a sample reads like: token names with blanks between them. */
std::string token_text(const Task&, const int* tokens, size_t count);

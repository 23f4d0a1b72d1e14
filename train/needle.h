/* The needle task: key-value pairs hidden among noise, asked for by key at the end.

   A sample of T tokens: first a context that holds `pairs` pairs (a key, then value_tokens value tokens) at any offset, in
   random order, all keys different, noise everywhere else; then `questions` times a key and its value. Keys are drawn
   with replacement (without it, the last questions can be answered by elimination). Only values after a question count.
   A test has one question: one target, the other pairs are decoys.
   Alphabets do not overlap: keys k0.., values v0.., noise n0... */
#pragma once
#include "train/task.h"

struct NeedleSettings {
    int pairs = 4;      // of a test: one target and pairs-1 decoys
    int questions = 0;  // of a training sample; 0 = as many as pairs
    int value_tokens = 1;
    int num_keys = 32, num_values = 32, num_noise = 32;
};

class NeedleTask : public Task {
  public:
    NeedleTask(const NeedleSettings&, const std::string& where);
    std::string name() const override { return "needle"; }
    int vocab_size() const override { return s_.num_keys + s_.num_values + s_.num_noise; }
    double chance() const override;
    int shortest(int pairs) const override;
    nlohmann::json settings() const override;
    std::string token_name(int id) const override;
    void draw(Rng&, int T, int pairs, Sample&) const override;
    void draw_test(Rng&, int T, double depth, Sample&) const override;

  private:
    struct Pair {
        int key;
        std::vector<int> value;
    };
    std::vector<Pair> draw_pairs(Rng&, int count) const;
    int questions(int pairs) const { return s_.questions ? s_.questions : pairs; }
    NeedleSettings s_;
};

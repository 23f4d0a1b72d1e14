/* Multi-query associative recall: many pairs, many questions.

   Source   Arora et al. 2023 (Zoology), arXiv:2312.04927, section 4 and appendix; the published generator
            with random_non_queries
   A sample of T tokens: first `pairs` key-value pairs, all keys and all values different; then each key once
   more, as a question, at place 2*pairs + 2*gap. Gaps are drawn without replacement with p(g) ~ a
   (g+1)^(a-1), a = 0.01: most questions come soon after the pairs, a few come late. All other places hold
   random tokens of the whole vocabulary. The answer is the target of the question; the next token of the
   sample itself is random. Zoology's vocabulary of 8192 is 4096 keys and 4096 values.

   With `spread`, pairs and questions are anywhere: each key has two random places, the pair at the first and
   the question at the second. No random token is then one of the sample's keys: in a long sample these would
   appear by chance. With pair_every, the number of pairs grows with T. */
#include "train/tasks/task.h"
#include <algorithm>

namespace moba {

namespace {

class Mqar : public Task {
  public:
    explicit Mqar(const TaskSettings& s) : Task(s, {}) {}
    double chance() const override { return 1.0 / settings().num_values; }
    int shortest(int pairs) const override { return 4 * pairs; }
    int most_pairs() const override { return std::min(settings().num_keys, settings().num_values); }
    int longest() const override { return longest_of(most_pairs()); }
    bool has_depth() const override { return false; }
    bool one_answer() const override { return false; }
    void draw(Rng&, int T, int pairs, Sample&) const override;
    void draw_test(Rng& rng, int T, double, Sample& out) const override {
        draw(rng, T, settings().pairs, out);
    }
};

/* Draws `count` numbers below n without replacement, number g with weight (g+1)^(a-1), in the order drawn.
   Sorting all numbers by -log(uniform) / weight and taking the first ones does exactly this (Efraimidis &
   Spirakis 2006). */
std::vector<int> draw_gaps(Rng& rng, int n, int count) {
    const double a = 0.01;
    std::vector<std::pair<double, int>> order(n);
    for (int g = 0; g < n; g++) { order[g] = {-std::log(rng.uniform()) / std::pow(g + 1, a - 1), g}; }
    std::partial_sort(order.begin(), order.begin() + count, order.end());
    std::vector<int> out;
    for (int i = 0; i < count; i++) { out.push_back(order[i].second); }
    return out;
}

void Mqar::draw(Rng& rng, int T, int given, Sample& out) const {
    const int pairs = pairs_at(T, given);
    const std::vector<int> keys = draw_distinct(rng, settings().num_keys, pairs);
    const std::vector<int> values = draw_distinct(rng, settings().num_values, pairs);
    std::vector<int> place(pairs), question(pairs);  // of the keys
    if (settings().spread) {
        const std::vector<int> slots = draw_distinct(rng, T / 2, 2 * pairs);
        for (int p = 0; p < pairs; p++) {
            place[p] = 2 * std::min(slots[2 * p], slots[2 * p + 1]);
            question[p] = 2 * std::max(slots[2 * p], slots[2 * p + 1]);
        }
    } else {
        const std::vector<int> gaps = draw_gaps(rng, (T - 2 * pairs) / 2, pairs);
        for (int p = 0; p < pairs; p++) {
            place[p] = 2 * p;
            question[p] = 2 * pairs + 2 * gaps[p];
        }
    }
    out.tokens.resize(T);
    out.targets.assign(T, ignored);
    out.sources.assign(T, -1);
    std::vector<bool> taken(vocab_size());
    for (int key : keys) { taken[key] = settings().spread; }
    for (int& t : out.tokens) {
        do { t = rng.below(vocab_size()); } while (taken[t]);
    }
    for (int p = 0; p < pairs; p++) {
        out.tokens[place[p]] = out.tokens[question[p]] = keys[p];
        out.tokens[place[p] + 1] = out.targets[question[p]] = value(values[p]);
        out.sources[question[p]] = place[p] + 1;
    }
}

}  // namespace

std::unique_ptr<Task> make_mqar(TaskSettings s, const std::string& where) {
    s.num_keys = checked("num-keys", s.num_keys, 4096, 2, 1 << 20, where);
    s.num_values = checked("num-values", s.num_values, 4096, 2, 1 << 20, where);
    s.pairs = checked("pairs", s.pairs, 16, 1, std::min(s.num_keys, s.num_values), where);
    s.spread = checked("spread", s.spread, 0, 0, 1, where);
    if (s.pair_every) { s.pair_every = checked("pair-every", s.pair_every, 0, 4, 1 << 30, where); }
    return std::make_unique<Mqar>(s);
}

}  // namespace moba

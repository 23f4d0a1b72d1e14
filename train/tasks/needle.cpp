/* The needle task: key-value pairs hidden among noise; questions at the end name a key and ask for its value.

   A sample of T tokens: first a context that holds `pairs` pairs (a key, then value_tokens value tokens) at
   any offset, in random order, all keys different, noise everywhere else; then `questions` times a key and
   its value. The keys asked for are drawn with replacement: without it, the last questions could be answered
   by elimination. Only the values after a question are targets. A test has one question, about one pair; the
   other pairs are decoys. */
#include "train/tasks/task.h"

namespace moba {

namespace {

class Needle : public Task {
  public:
    explicit Needle(const TaskSettings& s) : Task(s, {}) {}
    double chance() const override { return std::pow(1.0 / settings().num_values, settings().value_tokens); }
    int shortest(int pairs) const override { return (pairs + questions(pairs)) * width(); }
    int shortest_test() const override { return (settings().pairs + 1) * width(); }
    int most_pairs() const override { return settings().num_keys; }
    void draw(Rng&, int T, int pairs, Sample&) const override;
    void draw_test(Rng&, int T, double depth, Sample&) const override;

  private:
    struct Pair {
        std::vector<int> tokens;  // key and value
        int place = 0;            // position of the key in the sample
    };
    int width() const { return 1 + settings().value_tokens; }
    std::vector<Pair> draw_pairs(Rng&, int count) const;
    static void add_pair(Sample&, Pair&);
    void ask(Sample&, const Pair&) const;
};

std::vector<Needle::Pair> Needle::draw_pairs(Rng& rng, int count) const {
    std::vector<Pair> pairs;
    for (int key : draw_distinct(rng, settings().num_keys, count)) {
        pairs.push_back({{key}});
        for (int i = 0; i < settings().value_tokens; i++) { pairs.back().tokens.push_back(draw_value(rng)); }
    }
    return pairs;
}

void Needle::add_pair(Sample& s, Pair& p) {
    p.place = (int)s.tokens.size();
    add_tokens(s, p.tokens);
}

void Needle::ask(Sample& s, const Pair& p) const {
    std::vector<int> value;
    for (int i = 1; i < width(); i++) { value.push_back(p.place + i); }
    add_tokens(s, {p.tokens[0]});
    add_answer(s, value);
}

void Needle::draw(Rng& rng, int T, int num_pairs, Sample& out) const {
    std::vector<Pair> pairs = draw_pairs(rng, num_pairs);
    const int context = T - questions(num_pairs) * width();
    // The context is a sequence of items. An item is a pair or one token of noise; the pairs may be any of
    // the items.
    const int items = context - num_pairs * (width() - 1);
    std::vector<int> place(items, -1);
    const std::vector<int> chosen = draw_distinct(rng, items, num_pairs);
    for (int p = 0; p < num_pairs; p++) { place[chosen[p]] = p; }
    out = {};
    for (int p : place) {
        if (p < 0) {
            add_tokens(out, {draw_noise(rng)});
        } else {
            add_pair(out, pairs[p]);
        }
    }
    for (int q = 0; q < questions(num_pairs); q++) { ask(out, pairs[rng.below(num_pairs)]); }
}

void Needle::draw_test(Rng& rng, int T, double depth, Sample& out) const {
    const int context = T - width();
    std::vector<Pair> pairs = draw_pairs(rng, settings().pairs);  // pairs[0] is the target
    const int wanted = (int)std::lround(depth * (context - width()));
    // items of the context, without the target pair
    const int others = context - width() - (settings().pairs - 1) * (width() - 1);
    std::vector<int> place(others, 0);
    const std::vector<int> chosen = draw_distinct(rng, others, settings().pairs - 1);
    for (int p = 1; p < settings().pairs; p++) { place[chosen[p - 1]] = p; }
    out = {};
    bool placed = false;
    for (int i = 0; i <= others; i++) {
        if (!placed && (i == others || (int)out.tokens.size() >= wanted)) {
            add_pair(out, pairs[0]);
            placed = true;
        }
        if (i == others) { break; }
        if (place[i] == 0) {
            add_tokens(out, {draw_noise(rng)});
        } else {
            add_pair(out, pairs[place[i]]);
        }
    }
    ask(out, pairs[0]);
}

}  // namespace

std::unique_ptr<Task> make_needle(TaskSettings s, const std::string& where) {
    s.num_keys = checked("num-keys", s.num_keys, 32, 1, 1 << 20, where);
    s.num_values = checked("num-values", s.num_values, 32, 2, 1 << 20, where);
    s.num_noise = checked("num-noise", s.num_noise, 32, 1, 1 << 20, where);
    s.pairs = checked("pairs", s.pairs, 4, 1, s.num_keys, where);
    s.questions = checked("questions", s.questions, 0, 0, 1 << 16, where);
    s.value_tokens = checked("value-tokens", s.value_tokens, 1, 1, 64, where);
    return std::make_unique<Needle>(s);
}

}  // namespace moba

/* The needle task: key-value pairs hidden among noise; questions at the end name a key and ask for its value.

   Source   MK-NIAH of RULER, Hsieh et al. 2024, arXiv:2404.06654, in tokens; synonyms: after NoLiMa,
            Modarressi et al. 2025, arXiv:2502.05167
   A sample of T tokens: first a context that holds `pairs` pairs (key_tokens key tokens, then value_tokens
   value tokens) at any offset, in random order, all keys different, noise everywhere else; then `questions`
   times a key and its value. The keys asked for are drawn with replacement: without it, the last questions
   could be answered by elimination. Only the values after a question are targets. A test has one question,
   about one pair; the other pairs are decoys.

   Harder:  pair_every   a context of T tokens has T / pair_every pairs, if that is more than `pairs`
            key_tokens   keys of several tokens; decoys then share tokens with the key
            synonyms     a question names each key token k by another token s, always the same one. No token
                         of the question is in the context, so its meaning must be learnt
            needles      a question names several keys; the answer is the largest of their values. In a test,
                         depth places the pair with this value */
#include "train/tasks/task.h"
#include <set>

namespace moba {

namespace {

class Needle : public Task {
  public:
    Needle(const TaskSettings& s, std::vector<std::string> synonyms) : Task(s, std::move(synonyms)) {}
    double chance() const override {
        const double values = settings().num_values;
        return settings().needles > 1 ? 1 - std::pow(1 - 1 / values, settings().needles)  // the largest value
                                      : std::pow(1 / values, settings().value_tokens);
    }
    int shortest(int pairs) const override { return shortest_of(pairs, questions(pairs)); }
    int shortest_test() const override { return shortest_of(settings().pairs, 1); }
    int longest() const override { return longest_of(most_pairs()); }
    int most_pairs() const override { return keys_of(settings()); }
    void draw(Rng&, int T, int pairs, Sample&) const override;
    void draw_test(Rng&, int T, double depth, Sample&) const override;

    // The number of different keys, at most 2^24.
    static int keys_of(const TaskSettings& s) {
        return (int)std::min(std::pow((double)s.num_keys, s.key_tokens), (double)(1 << 24));
    }

  private:
    struct Pair {
        std::vector<int> tokens;  // key and value
        int place = 0;            // position of the key in the sample
    };
    int width() const { return settings().key_tokens + settings().value_tokens; }
    int question_width() const {
        return settings().needles * settings().key_tokens + settings().value_tokens;
    }
    // pair_every is at least twice the width, so pairs fill at most half of a sample.
    int shortest_of(int pairs, int asked) const {
        const int64_t questions = (int64_t)asked * question_width(),
                      all = (int64_t)pairs * width() + questions;
        return (int)std::min<int64_t>(std::max(all, settings().pair_every ? 2 * questions : 0), 1 << 30);
    }
    std::vector<std::vector<int>> draw_keys(Rng&, int count) const;
    std::vector<Pair> draw_pairs(Rng&, int count) const;
    static void add_pair(Sample&, Pair&);
    void ask(Sample&, const std::vector<const Pair*>& asked, const Pair* answer) const;
};

std::vector<std::vector<int>> Needle::draw_keys(Rng& rng, int count) const {
    std::vector<std::vector<int>> keys;
    if (settings().key_tokens == 1) {
        for (int key : draw_distinct(rng, settings().num_keys, count)) { keys.push_back({key}); }
        return keys;
    }
    std::set<std::vector<int>> drawn;
    while ((int)keys.size() < count) {
        std::vector<int> key;
        for (int i = 0; i < settings().key_tokens; i++) { key.push_back(rng.below(settings().num_keys)); }
        if (drawn.insert(key).second) { keys.push_back(key); }
    }
    return keys;
}

std::vector<Needle::Pair> Needle::draw_pairs(Rng& rng, int count) const {
    std::vector<Pair> pairs;
    for (std::vector<int>& key : draw_keys(rng, count)) {
        pairs.push_back({std::move(key)});
        for (int i = 0; i < settings().value_tokens; i++) { pairs.back().tokens.push_back(draw_value(rng)); }
    }
    return pairs;
}

void Needle::add_pair(Sample& s, Pair& p) {
    p.place = (int)s.tokens.size();
    add_tokens(s, p.tokens);
}

void Needle::ask(Sample& s, const std::vector<const Pair*>& asked, const Pair* answer) const {
    const int key_tokens = settings().key_tokens;
    for (const Pair* p : asked) {
        for (int i = 0; i < key_tokens; i++) {
            add_tokens(s, {settings().synonyms ? mark(p->tokens[i]) : p->tokens[i]});
        }
    }
    std::vector<int> value;
    for (int i = key_tokens; i < width(); i++) { value.push_back(answer->place + i); }
    add_answer(s, value);
}

void Needle::draw(Rng& rng, int T, int given, Sample& out) const {
    const int num_pairs = pairs_at(T, given);
    std::vector<Pair> pairs = draw_pairs(rng, num_pairs);
    const int context = T - questions(given) * question_width();
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
    for (int q = 0; q < questions(given); q++) {
        std::vector<const Pair*> asked;
        while ((int)asked.size() < std::min(settings().needles, num_pairs)) {
            const Pair* p = &pairs[rng.below(num_pairs)];
            if (std::find(asked.begin(), asked.end(), p) == asked.end()) { asked.push_back(p); }
        }
        while ((int)asked.size() < settings().needles) { asked.push_back(asked[0]); }
        ask(out, asked, *std::max_element(asked.begin(), asked.end(), [](const Pair* a, const Pair* b) {
                return a->tokens.back() < b->tokens.back();
            }));
    }
}

void Needle::draw_test(Rng& rng, int T, double depth, Sample& out) const {
    const int context = T - question_width(), num_pairs = pairs_at(T, settings().pairs);
    std::vector<Pair> pairs = draw_pairs(rng, num_pairs);
    // pairs[0] is at the wanted depth and has the answer
    for (int i = 1; i < settings().needles; i++) {
        int &answer = pairs[0].tokens.back(), &other = pairs[i].tokens.back();
        if (other > answer) { std::swap(answer, other); }
    }
    const int wanted = (int)std::lround(depth * (context - width()));
    // items of the context, without that pair
    const int others = context - width() - (num_pairs - 1) * (width() - 1);
    std::vector<int> place(others, 0);
    const std::vector<int> chosen = draw_distinct(rng, others, num_pairs - 1);
    for (int p = 1; p < num_pairs; p++) { place[chosen[p - 1]] = p; }
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
    std::vector<const Pair*> asked;
    for (int i = 0; i < settings().needles; i++) { asked.push_back(&pairs[i]); }
    if (asked.size() > 1) { std::swap(asked[0], asked[rng.below((int)asked.size())]); }
    ask(out, asked, &pairs[0]);
}

}  // namespace

std::unique_ptr<Task> make_needle(TaskSettings s, const std::string& where) {
    s.num_keys = checked("num-keys", s.num_keys, 32, 1, 1 << 20, where);
    s.num_values = checked("num-values", s.num_values, 32, 2, 1 << 20, where);
    s.num_noise = checked("num-noise", s.num_noise, 32, 1, 1 << 20, where);
    s.key_tokens = checked("key-tokens", s.key_tokens, 1, 1, 8, where);
    s.pairs = checked("pairs", s.pairs, 4, 1, Needle::keys_of(s), where);
    s.questions = checked("questions", s.questions, 0, 0, 1 << 16, where);
    s.value_tokens = checked("value-tokens", s.value_tokens, 1, 1, 64, where);
    s.synonyms = checked("synonyms", s.synonyms, 0, 0, 1, where);
    s.needles = checked("needles", s.needles, 1, 1, std::min(16, s.pairs), where);
    if (s.needles > 1 && s.value_tokens > 1) {
        throw Error(where + "needles = " + std::to_string(s.needles) +
                    ": the largest value must be one token, but " +
                    "value-tokens = " + std::to_string(s.value_tokens));
    }
    if (s.pair_every) {
        s.pair_every =
            checked("pair-every", s.pair_every, 0, 2 * (s.key_tokens + s.value_tokens), 1 << 30, where);
    }
    std::vector<std::string> synonyms;
    for (int i = 0; s.synonyms && i < s.num_keys; i++) { synonyms.push_back("s" + std::to_string(i)); }
    return std::make_unique<Needle>(s, std::move(synonyms));
}

}  // namespace moba

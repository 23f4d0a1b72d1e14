/* Variable tracking: which variables hold this value, directly or through others?

   Source   Hsieh et al. 2024 (RULER), arXiv:2404.06654, "Variable Tracking", in tokens
   A chain: k1 = v, k2 = k1, k3 = k2, ...: one assignment of a value, then `hops` more assignments. An
   assignment is three tokens (k = v).
   A sample of T tokens: a context with `pairs` chains, all variables and values different, their assignments
   mixed (each chain stays in order) and hidden among noise; then `questions` times a mark (?) and a value,
   answered by all variables of its chain in order. The values asked for are drawn with replacement. A test
   has one question; depth places the first assignment of its chain. By default training has one question,
   too: a model trained on second questions, which stand later, fails when the first question stands there
   (LOG.md, 2026-11-27). */
#include "train/tasks/task.h"
#include <algorithm>

namespace moba {

namespace {

class Tracking : public Task {
  public:
    explicit Tracking(const TaskSettings& s) : Task(s, {"=", "?"}) {}
    double chance() const override { return std::pow(1.0 / settings().num_keys, length()); }
    int shortest(int pairs) const override {
        return 3 * pairs * length() + questions(pairs) * (2 + length());
    }
    int shortest_test() const override { return 3 * settings().pairs * length() + 2 + length(); }
    int most_pairs() const override {
        return std::min(settings().num_values, settings().num_keys / length());
    }
    void draw(Rng& rng, int T, int pairs, Sample& out) const override {
        draw_chains(rng, T, pairs, questions(pairs), -1, out);
    }
    void draw_test(Rng& rng, int T, double depth, Sample& out) const override {
        draw_chains(rng, T, settings().pairs, 1, depth, out);
    }

  private:
    int length() const { return settings().hops + 1; }  // variables in a chain

    // For each chain, the items of the context that hold its assignments, ascending. depth < 0: anywhere;
    // else depth places the first assignment of chain 0.
    std::vector<std::vector<int>> draw_places(Rng& rng, int items, int pairs, double depth) const {
        std::vector<int> free(items);
        for (int i = 0; i < items; i++) { free[i] = i; }
        std::vector<std::vector<int>> places(pairs);
        // Adds `count` of the free items, counted from number `from` on, to a chain.
        const auto take = [&](std::vector<int>& chain, int from, int count) {
            const int rest = (int)free.size() - from;
            for (int i : draw_distinct(rng, rest, count)) { chain.push_back(free[from + i]); }
            std::sort(chain.begin(), chain.end());
            for (int i : chain) { free.erase(std::remove(free.begin(), free.end(), i), free.end()); }
        };
        for (int c = 0; c < pairs; c++) {
            if (c == 0 && depth >= 0) {
                const int first = (int)std::lround(depth * (items - length()));
                places[c].push_back(first);
                take(places[c], first + 1, length() - 1);
            } else {
                take(places[c], 0, length());
            }
        }
        return places;
    }

    void draw_chains(Rng& rng, int T, int pairs, int asked, double depth, Sample& out) const {
        const std::vector<int> keys = draw_distinct(rng, settings().num_keys, pairs * length());
        const std::vector<int> values = draw_distinct(rng, settings().num_values, pairs);
        const int context = T - asked * (2 + length());
        const int items = context - 2 * pairs * length();  // an item is an assignment or one token of noise
        const auto places = draw_places(rng, items, pairs, depth);
        std::vector<int> link(items, -1);  // chain * length + position in the chain; -1 = noise
        for (int c = 0; c < pairs; c++) {
            for (int i = 0; i < length(); i++) { link[places[c][i]] = c * length() + i; }
        }
        std::vector<int> positions(pairs * length());  // in the sample, of each variable's assignment
        out = {};
        for (int i : link) {
            if (i < 0) {
                add_tokens(out, {draw_noise(rng)});
            } else {
                positions[i] = (int)out.tokens.size();
                add_tokens(out, {keys[i], mark(0), i % length() ? keys[i - 1] : value(values[i / length()])});
            }
        }
        for (int q = 0; q < asked; q++) {
            const int c = depth >= 0 ? 0 : rng.below(pairs);
            add_tokens(out, {mark(1), value(values[c])});
            add_answer(out, {positions.begin() + c * length(), positions.begin() + (c + 1) * length()});
        }
    }
};

}  // namespace

std::unique_ptr<Task> make_tracking(TaskSettings s, const std::string& where) {
    s.hops = checked("hops", s.hops, 2, 1, 64, where);
    s.num_keys = checked("num-keys", s.num_keys, 32, 2, 1 << 20, where);
    s.num_values = checked("num-values", s.num_values, 32, 1, 1 << 20, where);
    s.num_noise = checked("num-noise", s.num_noise, 32, 1, 1 << 20, where);
    if (s.num_keys <= s.hops) {
        throw Error(where + "num-keys = " + std::to_string(s.num_keys) + ": must be at least " +
                    std::to_string(s.hops + 1) + ", the number of variables in a chain of " +
                    std::to_string(s.hops) + " hops");
    }
    s.pairs = checked("pairs", s.pairs, 2, 1, std::min(s.num_values, s.num_keys / (s.hops + 1)), where);
    s.questions = checked("questions", s.questions, 1, 1, 1 << 16, where);
    return std::make_unique<Tracking>(s);
}

}  // namespace moba

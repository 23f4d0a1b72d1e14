/* Selective copying: remember the data tokens among noise, and repeat them in order.

   Source   Gu & Dao 2023 (Mamba), arXiv:2312.00752, 4.1.1, after Arjovsky et al. 2016, arXiv:1511.06464
   A sample of T tokens: a context with `pairs` data tokens at random places among noise, a mark (>), then the
   data tokens in their order. In a test, all data tokens lie within one quarter of the context; depth places
   that quarter. */
#include "train/tasks/task.h"
#include <algorithm>

namespace moba {

namespace {

class Copying : public Task {
  public:
    explicit Copying(const TaskSettings& s) : Task(s, {">"}) {}
    double chance() const override { return std::pow(1.0 / settings().num_values, settings().pairs); }
    int shortest(int pairs) const override { return 2 * pairs + 1; }
    int most_pairs() const override { return 1 << 20; }
    void draw(Rng& rng, int T, int pairs, Sample& out) const override {
        draw_within(rng, 0, T - 1 - pairs, T, pairs, out);
    }
    void draw_test(Rng& rng, int T, double depth, Sample& out) const override {
        const int pairs = settings().pairs, context = T - 1 - pairs;
        const int width = std::max(pairs, ceil_div(context, 4));
        draw_within(rng, (int)std::lround(depth * (context - width)), width, T, pairs, out);
    }

  private:
    void draw_within(Rng& rng, int begin, int width, int T, int pairs, Sample& out) const {
        std::vector<int> places = draw_distinct(rng, width, pairs);
        std::sort(places.begin(), places.end());
        for (int& p : places) { p += begin; }
        out = {};
        for (int t = 0; t < T - 1 - pairs; t++) {
            const bool here = std::binary_search(places.begin(), places.end(), t);
            add_tokens(out, {here ? draw_value(rng) : draw_noise(rng)});
        }
        add_tokens(out, {mark(0)});
        add_answer(out, places);
    }
};

}  // namespace

std::unique_ptr<Task> make_copying(TaskSettings s, const std::string& where) {
    s.num_values = checked("num-values", s.num_values, 16, 2, 1 << 20, where);
    s.num_noise = checked("num-noise", s.num_noise, 1, 1, 1 << 20, where);
    s.pairs = checked("pairs", s.pairs, 16, 1, 1 << 16, where);
    return std::make_unique<Copying>(s);
}

}  // namespace moba

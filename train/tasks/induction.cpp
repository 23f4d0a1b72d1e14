/* Induction heads: which token followed the trigger the last time?

   Source   Olsson et al. 2022, arXiv:2209.11895; in the form of Gu & Dao 2023 (Mamba), arXiv:2312.00752,
            section 4.1.2
   A sample of T tokens: random tokens of a small alphabet with one trigger (!) among them, and the trigger
   again at the end. The answer is the token that followed the first trigger. */
#include "train/tasks/task.h"

namespace moba {

namespace {

class Induction : public Task {
  public:
    explicit Induction(const TaskSettings& s) : Task(s, {"!"}) {}
    double chance() const override { return 1.0 / settings().num_noise; }
    int shortest(int) const override { return 4; }
    int most_pairs() const override { return 1; }
    void draw(Rng& rng, int T, int, Sample& out) const override {
        const double depth = rng.uniform();
        draw_test(rng, T, depth, out);
    }
    void draw_test(Rng& rng, int T, double depth, Sample& out) const override {
        const int context = T - 2, at = (int)std::lround(depth * (context - 2));
        out = {};
        for (int t = 0; t < context; t++) { add_tokens(out, {t == at ? mark(0) : draw_noise(rng)}); }
        add_tokens(out, {mark(0)});
        add_answer(out, {at + 1});
    }
};

}  // namespace

std::unique_ptr<Task> make_induction(TaskSettings s, const std::string& where) {
    s.num_noise = checked("num-noise", s.num_noise, 16, 2, 1 << 20, where);
    s.pairs = checked("pairs", s.pairs, 1, 1, 1, where);
    return std::make_unique<Induction>(s);
}

}  // namespace moba

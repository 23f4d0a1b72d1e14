/* A step that is recorded once and run again: the bits of the step that is launched kernel by kernel. */
#include "test/model_case.h"

namespace {

using namespace model_case;

// Tokens and targets of their own for every step; the same lengths, as many targets, not at the same places.
Data data_of(int step, const std::vector<int>& long_lengths, int vocab) {
    Data d = data(long_lengths, vocab);
    d.tokens = draw_below(d.cu.back(), 10 + step, vocab);
    std::rotate(d.targets.begin(), d.targets.begin() + step, d.targets.end());
    return d;
}

template <class E>
void set_batch(Model<E>& model, const Data& d, int step) {
    const StepState s{3, (uint32_t)step, 0, d.scale, 1e-2 / step};
    model.set_batch(d.tokens.data(), d.targets.data(), d.cu, s);
}
template <class E>
void launch_step(Model<E>& model) {
    model.zero_gradients();
    model.forward(true);
    model.loss(true);
    model.backward();
    model.update();
}

template <class E>
struct Result {
    std::vector<acc_t<E>> losses;
    std::vector<int> correct;
    double norm;
    std::vector<double> weights, moments;
    bool operator==(const Result&) const = default;
};
template <class E>
Result<E> result(Model<E>& model) {
    Result<E> r;
    model.read_losses(r.losses, r.correct);
    r.norm = model.gradient_norm();
    r.weights = all(model, Model<E>::Kind::weight);
    r.moments = all(model, Model<E>::Kind::moment2);
    return r;
}

template <class E>
void expect_same_step() {
    const GraphOps& graphs = *find_memory(Device::gpu)->graphs;
    const std::vector<int> long_lengths{70, 1, 40};
    const auto cases = variety();
    for (auto [c, dropout] : {cases[2], cases[4]}) {  // all kinds of layers; dropout
        c.hidden_size = 32, c.head_dim = 16, c.intermediate_size = 48;
        const ModelSizes sizes{.training = true, .dropout = dropout};
        Model<E> launched = make<E>(c, long_lengths, sizes, Device::gpu),
                 recorded = make<E>(c, long_lengths, sizes, Device::gpu);
        CUgraphExec_st* graph = nullptr;
        for (int step = 1; step <= 3; step++) {
            const Data d = data_of(step, long_lengths, c.vocab_size);
            set_batch(launched, d, step);
            launch_step(launched);
            set_batch(recorded, d, step);
            if (step == 1) {
                launch_step(recorded);
                const Result<E> before = result(recorded);
                graphs.begin(recorded.ctx());
                launch_step(recorded);
                graph = graphs.end(recorded.ctx());
                EXPECT_TRUE(result(recorded) == before) << "recording has run something";
            } else {
                graphs.replay(recorded.ctx(), graph);
            }
            EXPECT_TRUE(result(recorded) == result(launched)) << type_name<E>() << " step " << step;
        }
        graphs.release(graph);
        expect_intact(recorded);
    }
}

TEST(KernelsGraph, ARecordedStepIsTheStep) { expect_same_step<float>(), expect_same_step<bf16>(); }

}  // namespace

/* A step that is recorded once and run again: the bits of the step that is launched kernel by kernel. */
#include "moba/recording.h"
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

/* Batches of two shapes, and of one shape but for the number of targets: what is replayed, and that the bits are those of the
   passes that are launched; several micro-batches in a step. */
template <class E>
void expect_recording() {
    Config c = variety()[2].first;
    c.hidden_size = 32, c.head_dim = 16, c.intermediate_size = 48;
    const std::vector<int> lengths{40, 30}, others{35, 35};
    const ModelSizes sizes{.training = true};
    Model<E> launched = make<E>(c, lengths, sizes, Device::gpu),
             recorded = make<E>(c, lengths, sizes, Device::gpu);
    Recording<E> always(launched, false), passes(recorded, true);
    const struct {
        const std::vector<int>& lengths;
        bool fewer_targets, replayed;
    } batches[] = {{lengths, false, false}, {lengths, false, true}, {lengths, false, true},
                   {others, false, false},  {lengths, false, true}, {others, false, false},
                   {others, false, true},   {others, true, false},  {others, true, true},
                   {lengths, false, false}, {lengths, false, true}};
    int step = 0;
    for (const auto& b : batches) {
        Data d = data_of(++step, b.lengths, c.vocab_size);
        if (b.fewer_targets) {
            *std::find_if(d.targets.begin(), d.targets.end(), [](int t) { return t != ignored; }) = ignored;
        }
        const auto take = [&](Model<E>& model, Recording<E>& r) {
            set_batch(model, d, step);
            if (step % 2) { model.zero_gradients(); }  // two micro-batches in a step
            r.run();
            if (step % 2 == 0) { model.update(); }
        };
        take(launched, always);
        take(recorded, passes);
        EXPECT_EQ(passes.replayed(), b.replayed) << "batch " << step;
        EXPECT_FALSE(always.replayed());
        EXPECT_TRUE(result(recorded) == result(launched)) << type_name<E>() << " batch " << step;
        const auto sums = recorded.step_result(), want = launched.step_result();
        EXPECT_EQ(sums.loss, want.loss);
        EXPECT_EQ(sums.correct, want.correct);
    }
    expect_intact(recorded);
}

TEST(KernelsGraph, PassesAreReplayedWhereTheShapeIsTheSame) {
    expect_recording<float>(), expect_recording<bf16>();
}

// A step is launched and read with a single stop; recorded, it is a handful of launches.
TEST(KernelsGraph, OneStopInAStep) {
    const auto cases = variety();
    const std::vector<int> lengths{40, 30};
    Model<float> model = make<float>(cases[2].first, lengths, {.training = true}, Device::gpu);
    Recording<float> passes(model, true);
    const auto counts = find_memory(Device::gpu)->counts;
    DeviceCounts before, after;
    for (int step = 1; step <= 3; step++) {
        before = counts();
        set_batch(model, data_of(step, lengths, cases[2].first.vocab_size), step);
        model.zero_gradients();
        passes.run();
        model.update();
        model.step_result();
        after = counts();
        EXPECT_EQ(after.stops - before.stops, 1u);
        EXPECT_EQ(after.uploads - before.uploads, 5u);
    }
    EXPECT_TRUE(passes.replayed());
    EXPECT_LE(after.launches - before.launches, 8u);
}

}  // namespace

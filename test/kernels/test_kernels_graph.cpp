/* A recorded and replayed step has the same bits as a step whose kernels are launched one by one. */
#include "test/support/model_case.h"

namespace moba {

namespace {

using namespace model_case;

// Every step has other tokens; the lengths and the number of targets are equal, but not the positions of the
// targets.
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
    model.forward(Pass::training);
    model.loss(Pass::training);
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
    const GraphOps& graphs = *find_device(Device::gpu)->graphs;
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
                EXPECT_TRUE(result(recorded) == before) << "recording must not run anything";
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

/* Batches of two shapes, batches that differ only in the number of targets, and full attention for one: which
   of them are replayed, and that the bits are those of launched passes. A step has two micro-batches. */
template <class E>
void expect_recording() {
    Config c = variety()[2].first;
    c.hidden_size = 32, c.head_dim = 16, c.intermediate_size = 48;
    const std::vector<int> lengths{40, 30}, others{35, 35};
    const ModelSizes sizes{.training = true, .full_too = true};
    Model<E> launched = make<E>(c, lengths, sizes, Device::gpu),
             recorded = make<E>(c, lengths, sizes, Device::gpu);
    launched.set_graph(false);
    const struct {
        const std::vector<int>& lengths;
        bool fewer_targets, replayed, full = false;
    } batches[] = {{lengths, false, false}, {lengths, false, true}, {lengths, false, true},
                   {others, false, false},  {lengths, false, true}, {others, false, false},
                   {others, false, true},   {others, true, false},  {others, true, true},
                   {lengths, false, false}, {lengths, false, true}, {lengths, false, false, true},
                   {lengths, false, true}};
    int step = 0;
    for (const auto& b : batches) {
        Data d = data_of(++step, b.lengths, c.vocab_size);
        if (b.fewer_targets) {
            *std::find_if(d.targets.begin(), d.targets.end(), [](int t) { return t != ignored; }) = ignored;
        }
        const auto run = [&](Model<E>& model) {
            set_batch(model, d, step);
            model.set_full(b.full);
            if (step % 2) { model.zero_gradients(); }  // a step has two micro-batches
            const bool replayed = model.training_passes();
            if (step % 2 == 0) { model.update(); }
            return replayed;
        };
        EXPECT_FALSE(run(launched));
        EXPECT_EQ(run(recorded), b.replayed) << "batch " << step;
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

// Launching a step and reading its result stops the host only once; a replayed step needs only a few
// launches.
TEST(KernelsGraph, OneStopInAStep) {
    const auto cases = variety();
    const std::vector<int> lengths{40, 30};
    Model<float> model = make<float>(cases[2].first, lengths, {.training = true}, Device::gpu);
    const auto counts = find_device(Device::gpu)->counts;
    DeviceCounts before, after;
    bool replayed = false;
    for (int step = 1; step <= 3; step++) {
        before = counts();
        set_batch(model, data_of(step, lengths, cases[2].first.vocab_size), step);
        model.zero_gradients();
        replayed = model.training_passes();
        model.update();
        model.step_result();
        after = counts();
        EXPECT_EQ(after.stops - before.stops, 1u);
        EXPECT_EQ(after.uploads - before.uploads, 5u);
    }
    EXPECT_TRUE(replayed);
    EXPECT_LE(after.launches - before.launches, 8u);
}

/* Decoding gives the same logits recorded and not recorded: at the length where a longer recording is made,
   with convolved keys, a window, MoBA and full attention, and after the attention was changed. A replayed
   token is one launch. */
template <class E>
void expect_recorded_decoding() {
    Config c = variety()[2].first;
    c.hidden_size = 32, c.head_dim = 16, c.intermediate_size = 48, c.num_layers = 2;
    c.key_conv = 3;
    c.layers = parse_layers("window:32:rope,moba:none", 2);
    const int prompt = 1020, T = 1040;
    const auto counts = find_device(Device::gpu)->counts;
    const auto model_of = [&] {
        return make<E>(c, {prompt}, {.max_position = T, .cache_tokens = T}, Device::gpu);
    };
    Model<E> launched = model_of(), recorded = model_of();
    launched.set_graph(false);
    const Data d = data({T}, c.vocab_size);
    for (Model<E>* m : {&launched, &recorded}) {
        m->set_batch(d.tokens.data(), nullptr, {0, prompt}, {});
        m->forward();
    }
    std::vector<acc_t<E>> got, want;
    for (int t = prompt; t < T; t++) {
        if (t == 1034) {
            for (Model<E>* m : {&launched, &recorded}) { m->set_decode_attention(AttentionKind::full); }
        }
        launched.decode(d.tokens[t]);
        launched.read_logits(0, 1, want);
        const size_t before = counts().launches;
        recorded.decode(d.tokens[t]);
        const size_t launches = counts().launches - before;
        // a token is launched and then the next one recorded: at the beginning, when 1025 tokens no longer
        // fit the recording, and when the attention changes
        const bool fresh = t < 1022 || t == 1024 || t == 1025 || t == 1034 || t == 1035;
        EXPECT_EQ(launches > 1, fresh) << launches << " launches for token " << t;
        recorded.read_logits(0, 1, got);
        EXPECT_TRUE(got == want) << type_name<E>() << " token " << t;
    }
    expect_intact(recorded);
}

TEST(KernelsGraph, RecordedDecodingIsDecoding) {
    expect_recorded_decoding<float>(), expect_recorded_decoding<bf16>();
}

}  // namespace

}  // namespace moba

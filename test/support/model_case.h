/* Shared by the tests of the model: small configurations, data, and one pass over the data. */
#pragma once
#include "moba/model.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace model_case {

inline Config small(const std::string& layers, int num_layers = 2) {
    Config c;
    c.vocab_size = 13;
    c.hidden_size = 10;
    c.num_layers = num_layers;
    c.num_heads = 2;
    c.num_kv_heads = 1;
    c.head_dim = 6;
    c.intermediate_size = 14;
    c.layers = parse_layers(layers, num_layers);
    c.top_k = 2;
    return c;
}

struct Data {
    std::vector<int> tokens, targets, cu{0};
    double scale;  // 1 / number of targets that are not ignored
};
inline Data data(const std::vector<int>& lengths, int vocab) {
    Data d;
    for (int n : lengths) { d.cu.push_back(d.cu.back() + n); }
    d.tokens = draw_below(d.cu.back(), 1, vocab);
    d.targets = draw_below(d.cu.back(), 2, vocab);
    for (int m = 2; m < d.cu.back(); m += 5) { d.targets[m] = ignored; }
    d.scale =
        1.0 / (double)std::count_if(d.targets.begin(), d.targets.end(), [](int t) { return t != ignored; });
    return d;
}

template <class E>
Model<E> make(const Config& c, const std::vector<int>& lengths, ModelSizes sizes = {.training = true},
              Device device = Device::cpu) {
    sizes.max_seqs = std::max(sizes.max_seqs, (int)lengths.size());
    int M = 0;
    for (int n : lengths) { M += n, sizes.max_position = std::max(sizes.max_position, n); }
    sizes.max_tokens = std::max(sizes.max_tokens, M);
    Model<E> model(c, sizes, device);
    model.allocate();
    model.init_weights(7);
    return model;
}

const StepState state{3, 1, 0, 0, 1e-3};

// Returns the sum of the batch's losses times `scale`. With `backward` the gradients are added to those of
// earlier passes.
template <class E>
double pass(Model<E>& model, const Data& d, bool backward, uint32_t micro_batch = 0) {
    StepState s = state;
    s.micro_batch = micro_batch, s.loss_scale = d.scale;
    model.set_batch(d.tokens.data(), d.targets.data(), d.cu, s);
    model.forward(Pass::training);
    model.loss(backward ? Pass::training : Pass::inference);
    if (backward) { model.backward(); }
    std::vector<acc_t<E>> losses;
    std::vector<int> correct;
    model.read_losses(losses, correct);
    double sum = 0;
    for (auto x : losses) { sum += (double)x * d.scale; }
    return sum;
}

template <class E>
std::vector<double> all(const Model<E>& model, typename Model<E>::Kind kind) {
    std::vector<double> out;
    std::vector<acc_t<E>> part;
    for (const ParamInfo& p : model.params()) {
        model.read_param(kind, p, part);
        out.insert(out.end(), part.begin(), part.end());
    }
    return out;
}

template <class E>
std::vector<acc_t<E>> logits(Model<E>& model, const Data& d, bool training = true) {
    std::vector<acc_t<E>> out;
    model.set_batch(d.tokens.data(), training ? d.targets.data() : nullptr, d.cu, state);
    model.forward();
    model.read_logits(0, d.cu.back(), out);
    return out;
}

// Only the `asked` tokens have a target. `part` computes its last layer for these alone, `whole` for all: the
// losses are equal.
template <class E>
void expect_losses_of(const std::vector<int>& asked, Model<E>& whole, Model<E>& part, const Data& d,
                      double tolerance) {
    std::vector<int> targets(d.tokens.size(), ignored), correct, correct_part;
    for (int t : asked) { targets[t] = d.tokens[t]; }
    std::vector<acc_t<E>> want, got;
    for (Model<E>* model : {&whole, &part}) {
        model->set_batch(d.tokens.data(), targets.data(), d.cu, state);
        model->forward();
        model->loss(Pass::inference);
    }
    whole.read_losses(want, correct), part.read_losses(got, correct_part);
    expect_error("losses", relative_error(got, want), tolerance);
    EXPECT_EQ(correct, correct_part);
}

using D = Model<double>;
const std::vector<int> lengths{37, 1, 20};

inline void expect_intact(const auto& model) {
    std::string broken;
    EXPECT_TRUE(model.guards_intact(&broken)) << broken;
    EXPECT_EQ(model.first_not_finite(), "");
}

inline void expect_all_rows(const auto* table) {
    ASSERT_NE(table, nullptr);
    void* row[sizeof *table / sizeof(void*)];
    static_assert(sizeof row == sizeof *table);
    std::memcpy(row, table, sizeof row);
    EXPECT_EQ(std::count(std::begin(row), std::end(row), nullptr), 0);
}
template <class E>
void expect_filled(Device d) {
    expect_all_rows(find_ops<E>(d)), expect_all_rows(find_workspaces<E>(d));
    DeviceOps memory = *find_device(d);
    static const GraphOps none{};
    if (d == Device::cpu) { memory.graphs = &none; }  // the CPU cannot record graphs
    expect_all_rows(&memory);
}

// Configurations that together use every layer kind and option.
inline std::vector<std::pair<Config, float>> variety() {
    std::vector<std::pair<Config, float>> out;
    out.push_back({small("moba,full"), 0.f});
    Config window = small("window:7:rope,moba:none", 3);
    window.gate = Gate::max, window.key_conv = 5;  // not used in the first layer: it is a window
    out.push_back({window, 0.f});
    // key convolution with GQA, two block sizes, a choice by quarters of blocks and shared by query heads
    Config conv = small("moba,full:none,window:5");
    conv.gate = Gate::lse, conv.shared_gate = true, conv.key_conv = 3, conv.num_heads = 4,
    conv.num_kv_heads = 2, conv.num_block_sizes = 2, conv.block_size = 32;
    conv.num_layers = 3, conv.layers = parse_layers("moba,full:none,window:5", 3);
    out.push_back({conv, 0.f});
    Config tied = small("moba");
    tied.tie_word_embeddings = true, tied.gate = Gate::sink, tied.top_k = 3,
    tied.rope_scaling = {RopeType::linear, 2};
    out.push_back({tied, 0.f});
    Config dropped = small("moba,full");
    dropped.key_conv = 5;
    out.push_back({dropped, 0.3f});
    return out;
}

}  // namespace model_case

}  // namespace moba

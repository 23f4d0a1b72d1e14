/* The profile: every operation of a step is counted and timed, and the results are the same as without a
   profile. */
#include "moba/profile.h"
#include "test/support/model_case.h"
#include "train/core/progress.h"
#include <map>

namespace moba {

namespace {

using namespace model_case;

std::map<std::string, int> calls_of(const Profile& p) {
    std::map<std::string, int> out;
    for (int i = 0; i < (int)Op::count; i++) {
        if (p.rows[i].calls) { out[op_name((Op)i)] = p.rows[i].calls; }
        EXPECT_EQ(p.rows[i].ms > 0, p.rows[i].calls > 0) << op_name((Op)i);
    }
    return out;
}

Config config() {
    Config c = small("moba,full,window:8,moba:none", 4);
    c.hidden_size = 64, c.intermediate_size = 128, c.head_dim = 32, c.key_conv = 3;
    return c;
}

template <class E>
void steps(Model<E>& model, const Data& d, int count) {
    for (int i = 1; i <= count; i++) {
        model.zero_gradients();
        pass(model, d, true);
        model.update({3, (uint32_t)i, 0, d.scale, 1e-3});
    }
}

template <class E>
void expect_profiled() {
    const Config c = config();
    const std::vector<int> two{300, 200};
    const Data d = data(two, c.vocab_size);
    const ModelSizes sizes{.training = true, .dropout = 0.1f};
    Model<E> profiled = make<E>(c, two, sizes), plain = make<E>(c, two, sizes);
    const int n = 5;
    Profile p;
    profiled.set_profile(&p);
    const double begin = now_ms();
    steps(profiled, d, n);
    const double ms = now_ms() - begin;
    steps(plain, d, n);
    EXPECT_EQ(all(profiled, Model<E>::Kind::weight), all(plain, Model<E>::Kind::weight));
    // 4 layers: 2 of them moba, 3 with key convolution, 3 with RoPE, 2 with both; dropout also on the
    // embedding; not all targets count
    const std::map<std::string, int> want{{"embedding_forward", 1},
                                          {"embedding_backward", 1},
                                          {"norm_forward", 1},
                                          {"residual_norm_forward", 2 * 4},
                                          {"norm_backward", 2 * 4 + 1},
                                          {"linear_forward", 4 * 4},
                                          {"linear_forward_wide", 1},
                                          {"linear_backward_input", 4 * 4 + 1},
                                          {"linear_backward_weight", 4 * 4 + 1},
                                          {"qkv_split", 4},
                                          {"qkv_join", 4},
                                          {"rope_forward", 2},
                                          {"rope_backward", 2},
                                          {"key_conv_forward", 3},
                                          {"key_conv_backward", 3},
                                          {"gate_forward", 2},
                                          {"gate_lists", 2},
                                          {"attention_forward", 4},
                                          {"attention_delta", 4},
                                          {"attention_backward", 4},
                                          {"swiglu_forward", 4},
                                          {"swiglu_backward", 4},
                                          {"residual_forward", 1},
                                          {"residual_backward", 2 * 4 + 1},
                                          {"gather_rows", 1},
                                          {"scatter_rows", 1},
                                          {"loss_forward_backward", 1},
                                          {"loss_sums", 1},
                                          {"square_sums", 1},
                                          {"grad_norm", 1},
                                          {"adamw", 1}};
    std::map<std::string, int> per_step = calls_of(p);
    for (auto& [name, calls] : per_step) {
        EXPECT_EQ(calls % n, 0) << name;
        calls /= n;
    }
    EXPECT_EQ(per_step, want);
    double sum = 0;
    for (const auto& r : p.rows) { sum += r.ms; }
    EXPECT_LE(sum, ms);
    EXPECT_GT(sum, 0);
    profiled.set_profile(nullptr);
    const std::map<std::string, int> before = calls_of(p);
    steps(profiled, d, 1);
    EXPECT_EQ(calls_of(p), before) << "no profile is set any more";
}

TEST(Profile, EveryOperationOfAStep) { expect_profiled<float>(), expect_profiled<bf16>(); }

TEST(Profile, Decoding) {
    Model<float> model = make<float>(config(), {40}, {.max_position = 50, .cache_tokens = 50});
    Profile p;
    logits(model, data({40}, 13), false);
    model.set_profile(&p);
    model.decode(1);
    const std::map<std::string, int> calls = calls_of(p);
    EXPECT_EQ(calls.at("cache_rows"), 2 * 4 + 3);
    EXPECT_EQ(calls.at("cache_means"), 4);
    EXPECT_EQ(calls.at("decode_attention"), 4);
    EXPECT_EQ(calls.count("attention_forward"), 0u);
}

// Without a profile the operations of the CPU are called directly.
TEST(Profile, NoneMeansDirectCalls) {
    EXPECT_EQ(find_profiled_ops<float>(Device::cpu, nullptr), find_ops<float>(Device::cpu));
    Profile p;
    EXPECT_NE(find_profiled_ops<float>(Device::cpu, &p), find_ops<float>(Device::cpu));
}

}  // namespace

}  // namespace moba

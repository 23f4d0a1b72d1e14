/* Every kernel against the CPU: every version, both element types, sizes that fill packs and sizes that do
   not. */
#include "moba/ops/adamw.h"
#include "moba/ops/embedding.h"
#include "moba/ops/key_conv.h"
#include "moba/ops/linear.h"
#include "moba/ops/norm.h"
#include "moba/ops/qkv.h"
#include "moba/ops/residual.h"
#include "moba/ops/rope.h"
#include "moba/ops/rows.h"
#include "moba/ops/slots.h"
#include "moba/ops/swiglu.h"
#include "test/support/kernel_case.h"

namespace moba {

namespace {

using namespace kernel_case;

// Positions of packed sequences of this length.
std::vector<int> positions(int M, int length) {
    std::vector<int> p;
    for (int m = 0; m < M; m++) { p.push_back(m % length); }
    return p;
}

// What a test says when a kernel is wrong.
TEST(KernelCase, NamesTheFirstWrongElement) {
    const Output want{"y", {2, 3, 4}, std::vector<double>(24, 1)};
    Output got = want;
    got.values[17] = 0.5, got.values[20] = NAN;
    EXPECT_EQ(wrong_elements(got, want, 0.1),
              "shape (2, 3, 4), 2 of 24 elements, the first at [1, 1, 1]: got 0.5, wanted 1");
}

TEST(Kernels, Rope) {
    for (const auto& [s, versions] :
         {std::pair{RopeShape{5, 3, 6}, 1},
          {{70, 2, 64}, 2},
          {{33, 1, 16}, 2},
          {{1, 1, 2}, 1},
          {{3, 70, 64}, 2},     // more heads than a block has threads
          {{150, 1, 2}, 1}}) {  // only 64 tokens in a block, although it could have 256 threads
        for (bool backward : {false, true}) {
            expect_kernels(backward ? "rope backward" : "rope", versions, [&, s = s](auto& on) {
                using E = element<decltype(on)>;
                using A = wide<decltype(on)>;
                const size_t n = (size_t)s.M * s.H * s.D;
                std::vector<double> f;
                for (int i = 0; i < s.D / 2; i++) { f.push_back(std::pow(10000.0, -2.0 * i / s.D)); }
                std::vector<A> table(rope_table_size(70000, s.D));
                rope_fill_table(table.data(), f, 70000);
                std::vector<int> position = positions(s.M, 50);
                position[0] = 69999;
                E* y = on.template output<E>("y", {s.M, s.H, s.D});
                const E* x = on.input(n, 1);
                const int* at = on.constant(position);
                const A* angles = on.constant(table);
                if (backward) {
                    CALL(rope_backward, E, y, x, at, angles, s);
                } else {
                    CALL(rope_forward, E, y, x, at, angles, s);
                }
            });
        }
    }
}

// With and without rotation, grouped heads, sizes that only version 1 supports; and join.
TEST(Kernels, Qkv) {
    for (const auto& [s, versions] : {std::pair{QkvShape{5, 3, 1, 6, true, true}, 1},
                                      {QkvShape{70, 4, 2, 64, true, true}, 2},
                                      {QkvShape{33, 2, 2, 16, false, false}, 2},
                                      {QkvShape{33, 6, 2, 32, true, false}, 2},
                                      {QkvShape{1, 1, 1, 2, false, true}, 1}}) {
        expect_kernels("qkv", versions, [s = s](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const size_t n = (size_t)s.M * s.heads() * s.D, of_q = (size_t)s.M * s.H * s.D,
                         of_k = (size_t)s.M * s.G * s.D;
            std::vector<double> f;
            for (int i = 0; i < s.D / 2; i++) { f.push_back(std::pow(10000.0, -2.0 * i / s.D)); }
            std::vector<A> table(rope_table_size(100, s.D));
            rope_fill_table(table.data(), f, 100);
            const int* at = on.constant(positions(s.M, 50));
            const A* angles = on.constant(table);
            E *q = on.template output<E>("q", {s.M, s.H, s.D}),
              *k = on.template output<E>("k", {s.M, s.G, s.D}),
              *v = on.template output<E>("v", {s.M, s.G, s.D});
            CALL(qkv_split, E, q, k, v, on.input(n, 1), at, angles, s);
            CALL(qkv_join, E, on.template output<E>("joined", {s.M, s.heads(), s.D}), on.input(of_q, 2),
                 on.input(of_k, 3), on.input(of_k, 4), at, angles, s);
        });
    }
}

TEST(Kernels, Norm) {
    for (const auto& [s, versions] : {std::pair{NormShape{1, 1, 1e-5f}, 2},
                                      {{70, 33, 1e-5f}, 2},
                                      {{130, 64, 1e-5f}, 3},
                                      {{16500, 3, 1e-5f}, 2},  // 254 partial sums of 65 rows
                                      {{3, 520, 1e-6f}, 3}}) {
        expect_kernels("norm", versions, [s = s](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const size_t n = (size_t)s.M * s.C;
            const E *x = on.input(n, 1, 3), *w = on.input(s.C, 2), *dy = on.input(n, 3);
            E* y = on.template output<E>("y", {s.M, s.C});
            A* rstd = on.template output<A>("rstd", s.M);
            CALL(norm_forward, E, y, rstd, x, w, s);
            E* dx = on.template inout<E>("dx", {s.M, s.C}, as<E>(draw<bf16>(n, 4)));
            A* dw = on.template inout<A>("dw", as<A>(draw<float>(s.C, 5)));
            WORKSPACE(norm, E, s);
            CALL(norm_backward, E, dx, dw, dy, x, w, rstd, s);
        });
    }
}

TEST(Kernels, SwiGlu) {
    for (const auto& [n, versions] : {std::pair<size_t, int>{1, 1}, {1003, 1}, {4096, 2}}) {
        expect_kernels("swiglu", versions, [n = n](auto& on) {
            using E = element<decltype(on)>;
            const E *gate = on.input(n, 1, 3), *up = on.input(n, 2), *dy = on.input(n, 3);
            CALL(swiglu_forward, E, on.template output<E>("y", n), gate, up, (SwigluShape{1, (int)n, n}));
            E *dgate = on.template output<E>("dgate", n), *dup = on.template output<E>("dup", n);
            CALL(swiglu_backward, E, dgate, dup, dy, gate, up, (SwigluShape{1, (int)n, n}));
        });
    }
}

// Gate and up side by side in a row: rows that fill packs, rows that do not, and few rows with more columns
// than a block has threads.
TEST(Kernels, SwiGluRowsApart) {
    for (const auto& [M, F, versions] : {std::tuple{33, 37, 1}, {65, 48, 2}, {2, 2112, 2}, {300, 8, 2}}) {
        expect_kernels("swiglu", versions, [M = M, F = F](auto& on) {
            using E = element<decltype(on)>;
            const size_t n = (size_t)M * F;
            const SwigluShape s{M, F, 2 * (size_t)F};
            const E *both = on.input(2 * n, 1, 3), *dy = on.input(n, 3);
            CALL(swiglu_forward, E, on.template output<E>("y", {M, F}), both, both + F, s);
            E* in_place = on.template inout<E>("d", {M, 2 * F}, as<E>(draw<bf16>(2 * n, 1, 3)));
            CALL(swiglu_backward, E, in_place, in_place + F, dy, in_place, in_place + F, s);
        });
    }
}

const StepState dropout_state{0x123456789ABCull, 7, 2, 0, 0};

TEST(Kernels, Residual) {
    for (const auto& [n, versions] : {std::pair<size_t, int>{1, 1}, {1003, 1}, {4096, 2}}) {
        for (float p : {0.f, 0.3f}) {
            expect_kernels("residual", versions, [n = n, p](auto& on) {
                using E = element<decltype(on)>;
                const DropoutShape s{n, p, 3, DropoutSite::mlp};
                const StepState* state = on.constant(std::vector<StepState>{dropout_state});
                const E *x = on.input(n, 1), *b = on.input(n, 2);
                CALL(residual_forward, E, on.template output<E>("y", n), x, b, state, s);
                CALL(residual_forward, E, on.template output<E>("y without x", n), nullptr, b, state, s);
                CALL(residual_backward, E, on.template output<E>("db", n), b, state, s);
            });
        }
    }
}

// The rows of a rank: some tokens of the batch.
TEST(Kernels, ResidualOfSomeTokens) {
    const std::vector<int> token = {9, 2, 3, 30, 0, 4};
    const int M = (int)token.size();
    for (const auto& [C, versions] : {std::pair{7, 1}, {12, 1}, {64, 2}}) {
        expect_kernels("residual of some tokens", versions, [&, C = C](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const size_t n = (size_t)M * C;
            const DropoutShape s{n, 0.3f, 3, DropoutSite::mlp, on.constant(token), C};
            const StepState* state = on.constant(std::vector<StepState>{dropout_state});
            const E *x = on.input(n, 1), *b = on.input(n, 2), *w = on.input(C, 3);
            CALL(residual_forward, E, on.template output<E>("y", n), x, b, state, s);
            CALL(residual_backward, E, on.template output<E>("db", n), b, state, s);
            CALL(residual_norm_forward, E, on.template output<E>("sum", n), on.template output<E>("norm", n),
                 on.template output<A>("rstd", M), x, b, w, state, s, {M, C, 1e-5f});
        });
    }
}

TEST(Kernels, ResidualNorm) {
    for (const auto& [s, versions] : {std::pair{NormShape{1, 1, 1e-5f}, 2},
                                      {{70, 33, 1e-5f}, 2},
                                      {{130, 64, 1e-5f}, 3},
                                      {{3, 520, 1e-6f}, 3}}) {
        for (float p : {0.f, 0.3f}) {
            expect_kernels("residual norm", versions, [s = s, p](auto& on) {
                using E = element<decltype(on)>;
                using A = wide<decltype(on)>;
                const size_t n = (size_t)s.M * s.C;
                const DropoutShape d{n, p, 3, DropoutSite::mlp};
                const StepState* state = on.constant(std::vector<StepState>{dropout_state});
                const E *x = on.input(n, 1, 3), *b = on.input(n, 2), *w = on.input(s.C, 3);
                CALL(residual_norm_forward, E, on.template output<E>("y", {s.M, s.C}),
                     on.template output<E>("norm", {s.M, s.C}), on.template output<A>("rstd", s.M), x, b, w,
                     state, d, s);
                E* over = on.template inout<E>("y over x", {s.M, s.C}, as<E>(draw<bf16>(n, 4)));
                CALL(residual_norm_forward, E, over, on.template output<E>("norm over x", {s.M, s.C}),
                     on.template output<A>("rstd over x", s.M), over, b, w, state, d, s);
            });
        }
    }
}

// The fused operation has the same bits as the two operations, so that recomputation in the backward pass
// gives what the forward pass computed.
template <class E>
void expect_fused_bits() {
    for (int C : {33, 64, 520}) {
        for (float p : {0.f, 0.3f}) {
            const NormShape s{70, C, 1e-5f};
            const size_t n = (size_t)s.M * s.C;
            const DropoutShape d{n, p, 1, DropoutSite::attention};
            for (int version = 2; version <= (C == 33 ? 2 : 3); version++) {
                const auto run = [&](bool fused) {
                    DeviceRun<true, E, E> on(version);
                    const StepState* state = on.constant(std::vector<StepState>{dropout_state});
                    const E *x = on.input(n, 1), *b = on.input(n, 2), *w = on.input(s.C, 3);
                    E *y = on.template output<E>("y", n), *norm = on.template output<E>("norm", n);
                    auto* rstd = on.template output<acc_t<E>>("rstd", s.M);
                    if (fused) {
                        residual_norm_forward_gpu<E>(on.ctx, y, norm, rstd, x, b, w, state, d, s);
                    } else {
                        Ctx residual = on.ctx;
                        residual.kernel_version = version - 1;
                        residual_forward_gpu<E>(residual, y, x, b, state, d);
                        norm_forward_gpu<E>(on.ctx, norm, rstd, y, w, s);
                    }
                    return on.results();
                };
                EXPECT_EQ(run(true), run(false)) << type_name<E>() << " C=" << C << " version " << version;
            }
        }
    }
}
TEST(Kernels, ResidualNormIsTheTwo) { expect_fused_bits<float>(), expect_fused_bits<bf16>(); }

TEST(Kernels, Slots) {
    for (const auto& [s, versions] :
         {std::pair{SlotsShape{5, 3, 4, 6}, 1}, {{1, 1, 1, 64}, 2}, {{70, 2, 3, 128}, 2}}) {
        expect_kernels("slots", versions, [s = s](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            std::vector<int> used = draw_below((size_t)s.H * s.M, 1, s.K);
            for (int& n : used) { n++; }
            const int* slots = on.constant(used);
            const E* part = on.input((size_t)s.H * s.M * s.K * s.D, 1);
            const A* lse = on.constant(as<A>(draw<float>((size_t)s.H * s.M * s.K, 2, 5)));
            CALL(merge_slots, E, on.template output<E>("out", {s.M, s.H, s.D}),
                 on.template output<A>("lse", {s.H, s.M}), part, lse, slots, s);
            CALL(sum_slots, E, on.template output<E>("dq", {s.M, s.H, s.D}), part, slots, s);
        });
    }
}

TEST(Kernels, PutRows) {
    for (const auto& [C, versions] : {std::pair{7, 1}, {64, 2}}) {
        expect_kernels("put rows", versions, [C = C](auto& on) {
            using E = element<decltype(on)>;
            const std::vector<int> row = {9, 0, 40, 3, 8};
            E* y = on.template inout<E>("y", {41, C}, as<E>(draw<bf16>(41 * C, 1)));
            CALL(put_rows, E, y, on.input(5 * C, 2), on.constant(row), {5, 41, C});
            E* sum = on.template inout<E>("sum", {41, C}, as<E>(draw<bf16>(41 * C, 3)));
            CALL(add_rows, E, sum, on.input(5 * C, 4), on.constant(row), {5, 41, C});
        });
    }
}

TEST(Kernels, Rows) {
    const std::vector<int> row{0, 3, 4, 17, 40};
    // less than a warp; rows of whole warps; more packs than a block has threads
    for (const auto& [C, versions] : {std::pair{7, 1}, {64, 2}, {45, 1}, {300, 1}, {2112, 2}}) {
        expect_kernels("rows", versions, [&, C = C](auto& on) {
            using E = element<decltype(on)>;
            const RowsShape s{5, 41, C};
            const E* x = on.input((size_t)s.M * C, 1);
            const int* rows = on.constant(row);
            E* y = on.template output<E>("y", {s.R, C});
            CALL(gather_rows, E, y, x, rows, s);
            CALL(scatter_rows, E, on.template output<E>("dx", {s.M, C}), y, rows, s);
        });
    }
}

TEST(Kernels, Embedding) {
    // few tokens, so most rows are hit many times; and many tokens, of which most never occur
    for (const auto& [s, versions] : {std::pair{EmbeddingShape{1, 1, 1}, 1},
                                      {{300, 33, 7}, 1},
                                      {{130, 64, 1000}, 2},
                                      {{2100, 8, 70000}, 2}}) {
        const std::vector<int> tokens = draw_below(s.M, 1, s.V);
        expect_kernels("embedding", versions, [&, s = s](auto& on) {
            using E = element<decltype(on)>;
            const int* token = on.constant(tokens);
            CALL(embedding_forward, E, on.template output<E>("y", {s.M, s.C}), token,
                 on.input((size_t)s.V * s.C, 2), s);
        });
        expect_kernels("embedding backward", 2, [&, s = s](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const int* token = on.constant(tokens);
            A* dw = on.template inout<A>("dw", {s.V, s.C}, as<A>(draw<float>((size_t)s.V * s.C, 3)));
            if (on.gpu) { on.workspace(embedding_workspace_bytes_gpu(s)); }
            CALL(embedding_backward, E, dw, token, on.input((size_t)s.M * s.C, 4), s);
        });
    }
}

TEST(Kernels, KeyConv) {
    for (const KeyConvShape s :
         {KeyConvShape{1, 1, 3}, {70, 33, 5}, {520, 16, 3}, {16500, 2, 3}, {40, 300, 8}}) {
        expect_kernels("key convolution", 1, [s](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const size_t n = (size_t)s.M * s.C;
            const E *k = on.input(n, 1), *w = on.input((size_t)s.C * s.W, 2), *dy = on.input(n, 3);
            const int* position = on.constant(positions(s.M, 27));
            CALL(key_conv_forward, E, on.template output<E>("y", {s.M, s.C}), k, w, position, s);
            WORKSPACE(key_conv, E, s);
            E* dk = on.template output<E>("dk", {s.M, s.C});
            A* dw = on.template inout<A>("dw", {s.C, s.W}, as<A>(draw<float>((size_t)s.C * s.W, 4)));
            CALL(key_conv_backward, E, dk, dw, dy, k, w, position, s);
        });
    }
}

// Rounding to bf16 gives the same bits on the GPU and the CPU, also for ties, overflow, zeros and NaN. Tested
// for single values (version 1), for pairs (version 2), and for arbitrary floats (AdamW's copy of the
// weights).
TEST(Kernels, Bf16HasTheBitsOfTheCpu) {
    std::vector<bf16> special;
    for (uint16_t bits : {0x0000, 0x0001, 0x007f, 0x0080, 0x3b80, 0x3b81, 0x3c00, 0x3c40, 0x3f80, 0x3f81,
                          0x7b00, 0x7b80, 0x7f7f, 0x7f80, 0x7fc0, 0x7f81}) {
        for (int sign : {0, 0x8000}) {
            special.emplace_back();
            special.back().bits = (uint16_t)(bits | sign);
        }
    }
    std::vector<bf16> x, b;
    for (bf16 one : special) {
        for (bf16 other : special) { x.push_back(one), b.push_back(other); }
    }
    const size_t n = x.size();
    const DropoutShape s{n, 0, 0, DropoutSite::mlp};
    std::vector<bf16> want(n), got(n);
    residual_forward_cpu<bf16>({}, want.data(), x.data(), b.data(), &dropout_state, s);
    for (int version : {1, 2}) {
        DeviceRun<true, bf16, bf16> on(version);
        bf16* y = on.output<bf16>("y", n);
        residual_forward_gpu<bf16>(on.ctx, y, on.constant(x), on.constant(b),
                                   on.constant(std::vector<StepState>{dropout_state}), s);
        gpu_device.to_host({}, got.data(), y, n * sizeof(bf16));
        for (size_t i = 0; i < n; i++) {
            EXPECT_EQ(got[i].bits, want[i].bits)
                << (float)x[i] << " + " << (float)b[i] << " version " << version;
        }
    }
    std::vector<float> w(4000, NAN);
    for (size_t i = 1; i < w.size(); i++) {
        const uint32_t u = (uint32_t)(i * 1073789u) & 0xff7fffff;  // clears an exponent bit: always finite
        std::memcpy(&w[i], &u, 4);
    }
    DeviceRun<true, bf16, bf16> on(0);
    const std::vector<float> zero(w.size());
    bf16* low = on.output<bf16>("low", w.size());
    adamw_gpu<bf16>(on.ctx, on.inout<float>("w", w), low, on.inout<float>("m", zero),
                    on.inout<float>("v", zero), on.constant(zero), on.constant(std::vector<float>{0}),
                    on.constant(std::vector<ParamRange>{{0, w.size(), 0, 0}}), 1,
                    on.constant(std::vector<StepState>{{0, 1, 0, 0, 0}}), {w.size(), 0.9, 0.99, 1e-8, 0});
    std::vector<bf16> low_of(w.size());
    gpu_device.to_host({}, low_of.data(), low, w.size() * sizeof(bf16));
    for (size_t i = 0; i < w.size(); i++) { ASSERT_EQ(low_of[i].bits, bf16(w[i]).bits) << w[i]; }
}

// The GPU's sigmoid uses a reciprocal that is not rounded to nearest. Its documented error is 3e-7; two
// products add to it.
TEST(Kernels, SigmoidIsAsCloseAsItSays) {
    std::vector<float> x;
    for (double at = -80; at <= 80; at += 1.0 / 61) { x.push_back((float)at); }
    DeviceRun<true, float, float> on(1);
    float* y = on.output<float>("y", x.size());
    swiglu_forward_gpu<float>(on.ctx, y, on.constant(x), on.constant(std::vector<float>(x.size(), 1)),
                              {1, (int)x.size(), x.size()});
    const std::vector<double> got = on.results()[0].values;
    double worst = 0;
    for (size_t i = 0; i < x.size(); i++) {
        if (x[i] == 0) { continue; }
        worst = std::max(worst, std::fabs(got[i] / (x[i] / (1 + std::exp(-(double)x[i]))) - 1));
    }
    expect_error("x sigmoid(x), relative to each", worst, 4.2e-7);
}

TEST(Kernels, Linear) {
    // Version 4, cuBLASLt, exists only on a real GPU, and only it needs a workspace.
    const int versions = linear_workspace_bytes_gpu<float>({}) ? 4 : 3;
    // one row as in decoding, odd widths, widths that allow wide loads
    for (const LinearShape s :
         {LinearShape{1, 1, 1}, {1, 33, 65}, {1, 64, 96}, {70, 33, 65}, {33, 130, 20}, {129, 64, 96}}) {
        expect_kernels("linear", versions, [s](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const E *x = on.input((size_t)s.M * s.I, 1), *w = on.input((size_t)s.O * s.I, 2),
                    *dy = on.input((size_t)s.M * s.O, 3);
            WORKSPACE(linear, E, s);
            E* y = on.template output<E>("y", {s.M, s.O});
            A* logits = on.template output<A>("y wide", {s.M, s.O});
            if constexpr (std::decay_t<decltype(on)>::gpu) {
                linear_forward_gpu<E, E>(on.ctx, y, x, w, s);
                linear_forward_gpu<E, A>(on.ctx, logits, x, w, s);
            } else {
                linear_forward_cpu<E, E>(on.ctx, y, x, w, s);
                linear_forward_cpu<E, A>(on.ctx, logits, x, w, s);
            }
            E* dx = on.template output<E>("dx", {s.M, s.I});
            CALL(linear_backward_input, E, dx, dy, w, s);
            A* dw = on.template inout<A>("dw", {s.O, s.I}, as<A>(draw<float>((size_t)s.O * s.I, 5)));
            CALL(linear_backward_weight, E, dw, dy, x, s);
        });
    }
}

TEST(Kernels, Device) {
    const std::string name = gpu_device.name();
    EXPECT_TRUE(name == "simulated GPU" || name.rfind("NVIDIA", 0) == 0) << name;
    gpu_device.synchronize({});
    gpu_device.range_begin("outer"), gpu_device.range_begin("inner");
    gpu_device.range_end(), gpu_device.range_end();

    const std::vector<float> want = draw<float>(1000, 1);
    std::vector<float> got(1000);
    const size_t bytes = got.size() * sizeof(float);
    char *a = gpu_device.allocate(bytes), *b = gpu_device.allocate(bytes);
    gpu_device.to_device({}, a, want.data(), bytes);
    gpu_device.copy({}, b, a, bytes);
    gpu_device.to_host({}, got.data(), b, bytes);
    EXPECT_EQ(got, want);

    Ctx ctx;
    ctx.device = Device::gpu;
    float* x = (float*)a;
    for (ctx.kernel_version = 0; ctx.kernel_version <= 2; ctx.kernel_version++) {
        swiglu_forward_gpu(ctx, (float*)b, x, x, {1, 100, 100});
    }
    EXPECT_THROW(swiglu_forward_gpu(ctx, (float*)b, x, x, {1, 100, 100}), Error) << "there is no version 3";
    ctx.kernel_version = 2;
    EXPECT_THROW(swiglu_forward_gpu(ctx, (float*)b, x, x, {1, 99, 99}), Error) << "packs do not fit";
    gpu_device.release(a, bytes), gpu_device.release(b, bytes);
}

}  // namespace

}  // namespace moba

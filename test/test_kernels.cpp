/* Every kernel against the CPU, every version, both element types; sizes that fit a pack and sizes that do not. */
#include "moba/adamw.h"
#include "moba/dropout.h"
#include "moba/embedding.h"
#include "moba/key_conv.h"
#include "moba/linear.h"
#include "moba/loss.h"
#include "moba/mlp.h"
#include "moba/norm.h"
#include "moba/rope.h"
#include "moba/rows.h"
#include "test/kernel_case.h"

namespace {

using namespace kernel_case;

template <class R>
using element = typename std::decay_t<R>::E;
template <class R>
using wide = typename std::decay_t<R>::A;

// Positions of packed sequences: 0.. again and again.
std::vector<int> positions(int M, int length) {
    std::vector<int> p;
    for (int m = 0; m < M; m++) { p.push_back(m % length); }
    return p;
}

TEST(Kernels, Rope) {
    for (const auto& [s, versions] :
         {std::pair{RopeShape{5, 3, 6}, 1}, {{70, 2, 64}, 2}, {{33, 1, 16}, 2}, {{1, 1, 2}, 1}}) {
        for (bool backward : {false, true}) {
            expect_kernels(backward ? "rope backward" : "rope", versions, [&, s = s](auto& room) {
                using E = element<decltype(room)>;
                using A = wide<decltype(room)>;
                const size_t n = (size_t)s.M * s.H * s.D;
                std::vector<double> f;
                for (int i = 0; i < s.D / 2; i++) { f.push_back(std::pow(10000.0, -2.0 * i / s.D)); }
                std::vector<A> table(rope_table_size(70000, s.D));
                rope_fill_table(table.data(), f, 70000);
                std::vector<int> position = positions(s.M, 50);
                position[0] = 69999;
                E* y = room.template output<E>("y", n);
                const E* x = room.input(n, 1);
                const int* at = room.constant(position);
                const A* angles = room.constant(table);
                if (backward) {
                    CALL(rope_backward, E, y, x, at, angles, s);
                } else {
                    CALL(rope_forward, E, y, x, at, angles, s);
                }
            });
        }
    }
}

TEST(Kernels, Norm) {
    for (const auto& [s, versions] : {std::pair{NormShape{1, 1, 1e-5f}, 2},
                                      {{70, 33, 1e-5f}, 2},
                                      {{130, 64, 1e-5f}, 3},
                                      {{16500, 3, 1e-5f}, 2},  // 254 partial sums of 65 rows
                                      {{3, 520, 1e-6f}, 3}}) {
        expect_kernels("norm", versions, [s = s](auto& room) {
            using E = element<decltype(room)>;
            using A = wide<decltype(room)>;
            const size_t n = (size_t)s.M * s.C;
            const E *x = room.input(n, 1, 3), *w = room.input(s.C, 2), *dy = room.input(n, 3);
            E* y = room.template output<E>("y", n);
            A* rstd = room.template output<A>("rstd", s.M);
            CALL(norm_forward, E, y, rstd, x, w, s);
            E* dx = room.template inout<E>("dx", as<E>(draw<bf16>(n, 4)));
            A* dw = room.template inout<A>("dw", as<A>(draw<float>(s.C, 5)));
            WORKSPACE(norm, E, s);
            CALL(norm_backward, E, dx, dw, dy, x, w, rstd, s);
        });
    }
}

TEST(Kernels, SwiGlu) {
    for (const auto& [n, versions] : {std::pair<size_t, int>{1, 1}, {1003, 1}, {4096, 2}}) {
        expect_kernels("swiglu", versions, [n = n](auto& room) {
            using E = element<decltype(room)>;
            const E *gate = room.input(n, 1, 3), *up = room.input(n, 2), *dy = room.input(n, 3);
            CALL(swiglu_forward, E, room.template output<E>("y", n), gate, up, n);
            E *dgate = room.template output<E>("dgate", n), *dup = room.template output<E>("dup", n);
            CALL(swiglu_backward, E, dgate, dup, dy, gate, up, n);
        });
    }
}

const StepState dropout_state{0x123456789ABCull, 7, 2, 0, 0};

TEST(Kernels, Residual) {
    for (const auto& [n, versions] : {std::pair<size_t, int>{1, 1}, {1003, 1}, {4096, 2}}) {
        for (float p : {0.f, 0.3f}) {
            expect_kernels("residual", versions, [n = n, p](auto& room) {
                using E = element<decltype(room)>;
                const DropoutShape s{n, p, 3, DropoutSite::mlp};
                const StepState* state = room.constant(std::vector<StepState>{dropout_state});
                const E *x = room.input(n, 1), *b = room.input(n, 2);
                CALL(residual_forward, E, room.template output<E>("y", n), x, b, state, s);
                CALL(residual_forward, E, room.template output<E>("y without x", n), nullptr, b, state, s);
                CALL(residual_backward, E, room.template output<E>("db", n), b, state, s);
            });
        }
    }
}

TEST(Kernels, ResidualNorm) {
    for (const auto& [s, versions] : {std::pair{NormShape{1, 1, 1e-5f}, 2},
                                      {{70, 33, 1e-5f}, 2},
                                      {{130, 64, 1e-5f}, 3},
                                      {{3, 520, 1e-6f}, 3}}) {
        for (float p : {0.f, 0.3f}) {
            expect_kernels("residual norm", versions, [s = s, p](auto& room) {
                using E = element<decltype(room)>;
                using A = wide<decltype(room)>;
                const size_t n = (size_t)s.M * s.C;
                const DropoutShape d{n, p, 3, DropoutSite::mlp};
                const StepState* state = room.constant(std::vector<StepState>{dropout_state});
                const E *x = room.input(n, 1, 3), *b = room.input(n, 2), *w = room.input(s.C, 3);
                CALL(residual_norm_forward, E, room.template output<E>("y", n),
                     room.template output<E>("norm", n), room.template output<A>("rstd", s.M), x, b, w, state,
                     d, s);
                E* over = room.template inout<E>("y over x", as<E>(draw<bf16>(n, 4)));
                CALL(residual_norm_forward, E, over, room.template output<E>("norm over x", n),
                     room.template output<A>("rstd over x", s.M), over, b, w, state, d, s);
            });
        }
    }
}

// Fused or one after the other: the same bits, so that what a backward pass computes again is what was there.
template <class E>
void expect_fused_bits() {
    for (int C : {33, 64, 520}) {
        for (float p : {0.f, 0.3f}) {
            const NormShape s{70, C, 1e-5f};
            const size_t n = (size_t)s.M * s.C;
            const DropoutShape d{n, p, 1, DropoutSite::attention};
            for (int version = 2; version <= (C == 33 ? 2 : 3); version++) {
                const auto run = [&](bool fused) {
                    Room<true, E, E> room(version);
                    const StepState* state = room.constant(std::vector<StepState>{dropout_state});
                    const E *x = room.input(n, 1), *b = room.input(n, 2), *w = room.input(s.C, 3);
                    E *y = room.template output<E>("y", n), *norm = room.template output<E>("norm", n);
                    auto* rstd = room.template output<acc_t<E>>("rstd", s.M);
                    if (fused) {
                        residual_norm_forward_gpu<E>(room.ctx, y, norm, rstd, x, b, w, state, d, s);
                    } else {
                        Ctx residual = room.ctx;
                        residual.version = version - 1;
                        residual_forward_gpu<E>(residual, y, x, b, state, d);
                        norm_forward_gpu<E>(room.ctx, norm, rstd, y, w, s);
                    }
                    return room.results();
                };
                EXPECT_EQ(run(true), run(false)) << type_name<E>() << " C=" << C << " version " << version;
            }
        }
    }
}
TEST(Kernels, ResidualNormIsTheTwo) { expect_fused_bits<float>(), expect_fused_bits<bf16>(); }

TEST(Kernels, Rows) {
    const std::vector<int> row{0, 3, 4, 17, 40};
    for (const auto& [C, versions] : {std::pair{7, 1}, {64, 2}}) {
        expect_kernels("rows", versions, [&, C = C](auto& room) {
            using E = element<decltype(room)>;
            const RowsShape s{5, 41, C};
            const E* x = room.input((size_t)s.M * C, 1);
            const int* rows = room.constant(row);
            E* y = room.template output<E>("y", (size_t)s.R * C);
            CALL(gather_rows, E, y, x, rows, s);
            CALL(scatter_rows, E, room.template output<E>("dx", (size_t)s.M * C), y, rows, s);
        });
    }
}

TEST(Kernels, Embedding) {
    // few tokens, so most rows are hit many times; and many, of which most are never seen
    for (const auto& [s, versions] : {std::pair{EmbeddingShape{1, 1, 1}, 1},
                                      {{300, 33, 7}, 1},
                                      {{130, 64, 1000}, 2},
                                      {{2100, 8, 70000}, 2}}) {
        const std::vector<int> tokens = draw_below(s.M, 1, s.V);
        expect_kernels("embedding", versions, [&, s = s](auto& room) {
            using E = element<decltype(room)>;
            const int* token = room.constant(tokens);
            CALL(embedding_forward, E, room.template output<E>("y", (size_t)s.M * s.C), token,
                 room.input((size_t)s.V * s.C, 2), s);
        });
        expect_kernels("embedding backward", 2, [&, s = s](auto& room) {
            using E = element<decltype(room)>;
            using A = wide<decltype(room)>;
            const int* token = room.constant(tokens);
            A* dw = room.template inout<A>("dw", as<A>(draw<float>((size_t)s.V * s.C, 3)));
            if (room.gpu) { room.workspace(embedding_workspace_bytes_gpu(s)); }
            CALL(embedding_backward, E, dw, token, room.input((size_t)s.M * s.C, 4), s);
        });
    }
}

TEST(Kernels, KeyConv) {
    for (const KeyConvShape s :
         {KeyConvShape{1, 1, 3}, {70, 33, 5}, {520, 16, 3}, {16500, 2, 3}, {40, 300, 8}}) {
        expect_kernels("key convolution", 1, [s](auto& room) {
            using E = element<decltype(room)>;
            using A = wide<decltype(room)>;
            const size_t n = (size_t)s.M * s.C;
            const E *k = room.input(n, 1), *w = room.input((size_t)s.C * s.W, 2), *dy = room.input(n, 3);
            const int* position = room.constant(positions(s.M, 27));
            CALL(key_conv_forward, E, room.template output<E>("y", n), k, w, position, s);
            WORKSPACE(key_conv, E, s);
            E* dk = room.template output<E>("dk", n);
            A* dw = room.template inout<A>("dw", as<A>(draw<float>((size_t)s.C * s.W, 4)));
            CALL(key_conv_backward, E, dk, dw, dy, k, w, position, s);
        });
    }
}

TEST(Kernels, Loss) {
    for (const LossShape s : {LossShape{1, 1}, {33, 7}, {20, 257}, {5, 3001}, {3, 9001}}) {
        for (bool gradient : {false, true}) {
            expect_kernels("loss", 2, [s, gradient](auto& room) {
                using E = element<decltype(room)>;
                using A = wide<decltype(room)>;
                const size_t n = (size_t)s.M * s.V;
                std::vector<float> z = draw<float>(n, 1, 4);
                for (float& x : z) { x = std::round(x); }  // ties for the largest
                std::vector<int> target = draw_below(s.M, 2, s.V);
                for (int m = 1; m < s.M; m += 3) { target[m] = ignored; }
                A* loss = room.template output<A>("loss", s.M);
                int* correct = room.int_output("correct", s.M);
                E* dz = gradient ? room.template output<E>("dz", n) : nullptr;
                CALL(loss_forward_backward, E, loss, correct, dz, room.constant(as<A>(z)),
                     room.constant(target), room.constant(std::vector<StepState>{{0, 0, 0, 0.25, 0}}), s);
            });
        }
    }
}

// dz may take the place of z.
TEST(Kernels, LossInPlace) {
    const LossShape s{9, 300};
    auto run = [&](auto& room) {
        using A = wide<decltype(room)>;
        A* z = room.template inout<A>("dz", as<A>(draw<float>((size_t)s.M * s.V, 1, 4)));
        A* loss = room.template output<A>("loss", s.M);
        int* correct = room.int_output("correct", s.M);
        CALL(loss_forward_backward, A, loss, correct, z, z, room.constant(draw_below(s.M, 2, s.V)),
             room.constant(std::vector<StepState>{{0, 0, 0, 0.25, 0}}), s);
    };
    expect_kernels_of<float>("loss in place", 2, run);
}

TEST(Kernels, AdamW) {
    const size_t n = 18000;
    for (bool finite : {true, false}) {  // a norm that is not finite changes nothing
        expect_kernels("adamw", 1, [=](auto& room) {
            using E = element<decltype(room)>;
            using A = wide<decltype(room)>;
            const auto positive = [&](uint64_t stream) {
                std::vector<float> v = draw<float>(n, stream);
                for (float& x : v) { x *= x; }
                return as<A>(v);
            };
            std::vector<float> gradient = draw<float>(n, 1);
            // Chunks with several tensors, with one that began before, with none; a gap at the end.
            const std::vector<ParamRange> ranges{{0, 100, 3, 0},
                                                 {128, 1, 1, 0.1f},
                                                 {192, 9000, 0.5f, 0.1f},
                                                 {9200, 3000, 2, 0},
                                                 {17000, 900, 1, 0.2f}};
            for (size_t r = 0; r < ranges.size(); r++) {
                const size_t next = r + 1 < ranges.size() ? ranges[r + 1].begin : n;
                std::fill(gradient.begin() + ranges[r].begin + ranges[r].count, gradient.begin() + next, 0.f);
            }
            if (!finite) { gradient[5] = INFINITY; }
            const A* g = room.constant(as<A>(gradient));
            A* w = room.template inout<A>("w", as<A>(draw<float>(n, 2)));
            E* w_low = !std::decay_t<decltype(room)>::low
                           ? nullptr
                           : room.template inout<E>("w_low", as<E>(draw<float>(n, 2)));
            A* m = room.template inout<A>("m", as<A>(draw<float>(n, 3)));
            A* v = room.template inout<A>("v", positive(4));
            A* norm = finite ? room.template output<A>("norm", 1) : room.constant(std::vector<A>{A(0)});
            WORKSPACE(grad_norm, A, n);
            CALL(grad_norm, A, norm, g, n);
            CALL(adamw, E, w, w_low, m, v, g, norm, room.constant(ranges), (int)ranges.size(),
                 room.constant(std::vector<StepState>{{0, 5, 0, 0, 1e-2}}),
                 AdamWShape{n, 0.9, 0.999, 1e-8, 1});
        });
    }
}

TEST(Kernels, Linear) {
    // Version 4, cuBLASLt, is on a real GPU only, and alone asks for a workspace.
    const int versions = linear_workspace_bytes_gpu<float>({}) ? 4 : 3;
    // one row as decoding has it, odd widths, widths for wide loads
    for (const LinearShape s :
         {LinearShape{1, 1, 1}, {1, 33, 65}, {1, 64, 96}, {70, 33, 65}, {33, 130, 20}, {129, 64, 96}}) {
        expect_kernels("linear", versions, [s](auto& room) {
            using E = element<decltype(room)>;
            using A = wide<decltype(room)>;
            const E *x = room.input((size_t)s.M * s.I, 1), *w = room.input((size_t)s.O * s.I, 2),
                    *dy = room.input((size_t)s.M * s.O, 3);
            WORKSPACE(linear, E, s);
            E* y = room.template output<E>("y", (size_t)s.M * s.O);
            A* logits = room.template output<A>("y wide", (size_t)s.M * s.O);
            if constexpr (std::decay_t<decltype(room)>::gpu) {
                linear_forward_gpu<E, E>(room.ctx, y, x, w, s);
                linear_forward_gpu<E, A>(room.ctx, logits, x, w, s);
            } else {
                linear_forward_cpu<E, E>(room.ctx, y, x, w, s);
                linear_forward_cpu<E, A>(room.ctx, logits, x, w, s);
            }
            E* dx = room.template output<E>("dx", (size_t)s.M * s.I);
            CALL(linear_backward_input, E, dx, dy, w, s, false);
            E* added = room.template inout<E>("dx added", as<E>(draw<bf16>((size_t)s.M * s.I, 4)));
            CALL(linear_backward_input, E, added, dy, w, s, true);
            A* dw = room.template inout<A>("dw", as<A>(draw<float>((size_t)s.O * s.I, 5)));
            CALL(linear_backward_weight, E, dw, dy, x, s);
        });
    }
}

TEST(Kernels, Device) {
    const std::string name = name_gpu();
    EXPECT_TRUE(name == "simulated GPU" || name.rfind("NVIDIA", 0) == 0) << name;
    synchronize_gpu({});
    range_begin_gpu("outer"), range_begin_gpu("inner");
    range_end_gpu(), range_end_gpu();

    const std::vector<float> want = draw<float>(1000, 1);
    std::vector<float> got(1000);
    const size_t bytes = got.size() * sizeof(float);
    char *a = allocate_gpu(bytes), *b = allocate_gpu(bytes);
    to_device_gpu({}, a, want.data(), bytes);
    copy_gpu({}, b, a, bytes);
    to_host_gpu({}, got.data(), b, bytes);
    EXPECT_EQ(got, want);

    Ctx ctx;
    ctx.device = Device::gpu;
    float* x = (float*)a;
    for (ctx.version = 0; ctx.version <= 2; ctx.version++) { swiglu_forward_gpu(ctx, (float*)b, x, x, 100); }
    EXPECT_THROW(swiglu_forward_gpu(ctx, (float*)b, x, x, 100), Error) << "there is no version 3";
    ctx.version = 2;
    EXPECT_THROW(swiglu_forward_gpu(ctx, (float*)b, x, x, 99), Error) << "packs do not fit";
    release_gpu(a, bytes), release_gpu(b, bytes);
}

}  // namespace

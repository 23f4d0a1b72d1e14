/* Every kernel against the CPU, every version, both element types; sizes that fit a pack and sizes that do not. */
#include "moba/adamw.h"
#include "moba/dropout.h"
#include "moba/embedding.h"
#include "moba/gate.h"
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
            room.workspace(std::max(norm_workspace_bytes<E>(s), (size_t)s.M * s.C * sizeof(A)));
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

TEST(Kernels, Residual) {
    for (const auto& [n, versions] : {std::pair<size_t, int>{1, 1}, {1003, 1}, {4096, 2}}) {
        for (float p : {0.f, 0.3f}) {
            expect_kernels("residual", versions, [n = n, p](auto& room) {
                using E = element<decltype(room)>;
                const DropoutShape s{n, p, 3, DropoutSite::mlp};
                const StepState* state =
                    room.constant(std::vector<StepState>{{0x123456789ABCull, 7, 2, 0, 0}});
                const E *x = room.input(n, 1), *b = room.input(n, 2);
                CALL(residual_forward, E, room.template output<E>("y", n), x, b, state, s);
                CALL(residual_forward, E, room.template output<E>("y without x", n), nullptr, b, state, s);
                CALL(residual_backward, E, room.template output<E>("db", n), b, state, s);
            });
        }
    }
}

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

// Small whole numbers make scores exact in any order: the choice is the CPU's, ties included, in every gate and block size.
template <class E>
void expect_same_choice(const std::vector<int>& lengths, int S, int levels, GateShape s, int most) {
    const Batch batch(lengths, S, levels);
    const int M = batch.seqs.num_tokens;
    const size_t slots = routing_slots(M, levels, s);
    const std::vector<int>& table = batch.table;
    auto run = [&](auto& room) {
        int* chosen = room.int_output("chosen", slots);
        const int* there = room.constant(table);
        const E* q = room.constant(draw_integers<E>((size_t)M * s.H * s.D, 1, most));
        const E* k = room.constant(draw_integers<E>((size_t)M * s.G * s.D, 2, most));
        const Sequences seqs = rebase(batch.seqs, table.data(), there);
        const Routing r{chosen, nullptr, nullptr};
        if constexpr (std::decay_t<decltype(room)>::gpu) {
            room.workspace(gate_workspace_bytes_gpu<E>(M, (int)lengths.size(), S, levels, s));
            gate_forward_gpu<E>(room.ctx, r, q, k, seqs, s);
        } else {
            room.workspace(gate_workspace_bytes<E>(M, (int)lengths.size(), S, levels, s));
            gate_forward_cpu<E>(room.ctx, r, q, k, seqs, s);
        }
    };
    EXPECT_EQ((run_in<true, E, E>(0, run)), (run_in<false, E, E>(0, run)))
        << "S = " << S << ", K = " << s.K << ", " << type_name<E>();
}

TEST(Kernels, GateChoice) {
    for (const Gate gate : {Gate::topk, Gate::recent, Gate::sink}) {
        for (const auto& [S, K, levels, most] :
             {std::tuple{16, 1, 1, 3}, {16, 3, 1, 1}, {16, 3, 1, 0}, {64, 2, 2, 2}, {16, 64, 1, 2}}) {
            const GateShape s{4, 2, 18, K, gate};
            expect_same_choice<float>({200, 1, 37, 64}, S, levels, s, most);
            expect_same_choice<bf16>({200, 1, 37, 64}, S, levels, s, most);
        }
    }
}

// A mean that is NaN ranks last, an infinite one first.
TEST(Kernels, GateRanksNaNLast) {
    const Batch batch({80}, 16);
    const GateShape s{1, 1, 2, 2, Gate::topk};
    std::vector<float> q(160, 1.f), k(160, 0.f);
    k[0] = NAN, k[2 * 20] = -5;  // blocks 0 and 1; 2 and 3 score 0
    auto run = [&](auto& room) {
        int* chosen = room.int_output("chosen", routing_slots(80, 1, s));
        const Sequences seqs = rebase(batch.seqs, batch.table.data(), room.constant(batch.table));
        room.workspace(1 << 20);
        if constexpr (std::decay_t<decltype(room)>::gpu) {
            gate_forward_gpu<float>(room.ctx, {chosen, nullptr, nullptr}, room.constant(q), room.constant(k),
                                    seqs, s);
        } else {
            gate_forward_cpu<float>(room.ctx, {chosen, nullptr, nullptr}, room.constant(q), room.constant(k),
                                    seqs, s);
        }
    };
    const Outputs gpu = run_in<true, float, float>(0, run);
    EXPECT_EQ(gpu, (run_in<false, float, float>(0, run)));
    EXPECT_EQ(gpu[0].second[2 * 79], 2) << "the lower one of equals, before -5 and NaN";
}

// The lists are the CPU's, entry by entry: random choices, slots not used, a block that everybody picks, mixed block sizes.
TEST(Kernels, GateLists) {
    for (const auto& [T, S, K, levels] :
         {std::tuple{1, 16, 1, 1}, {70, 16, 3, 1}, {1500, 16, 4, 1}, {700, 32, 2, 2}}) {
        for (bool popular : {false, true}) {
            const Batch batch({T, 1, T / 2 + 1}, S, levels);
            const GateShape s{4, 2, 16, K, Gate::topk};
            const size_t slots = routing_slots(batch.seqs.num_tokens, levels, s);
            const size_t starts = routing_starts(batch.seqs.num_tokens, 3, S, levels, s);
            std::vector<int> chosen(slots);
            for (int h = 0; h < s.H; h++) {
                const int k = s.slots(batch.seqs, h),
                          blocks = batch.seqs.level[s.level(batch.seqs, h)].num_blocks;
                const std::vector<int> any = draw_below((size_t)batch.seqs.num_tokens * k, h, blocks + 1);
                for (size_t i = 0; i < any.size(); i++) {
                    chosen[s.first_slot(batch.seqs, h) + i] =
                        popular && i % 3 ? 0 : any[i] - 1;  // -1: not used
                }
            }
            auto run = [&](auto& room) {
                int* list = room.int_output("list", slots);
                int* start = room.int_output("start", starts);
                const Routing r{room.constant(chosen), start, list};
                if (room.gpu) {
                    room.workspace(gate_lists_workspace_bytes_gpu(batch.seqs.num_tokens, 3, S, levels, s));
                    gate_lists_gpu(room.ctx, r, batch.seqs, s);
                } else {
                    gate_lists_cpu(room.ctx, r, batch.seqs, s);
                }
            };
            const Outputs cpu = run_in<false, float, float>(0, run), gpu = run_in<true, float, float>(0, run);
            EXPECT_EQ(gpu[1].second, cpu[1].second) << "starts";
            for (int h = 0; h < s.H; h++) {
                const int blocks = batch.seqs.level[s.level(batch.seqs, h)].num_blocks;
                const size_t first = s.first_slot(batch.seqs, h);
                const size_t used = (size_t)cpu[1].second[s.first_start(batch.seqs, h) + blocks];
                for (size_t i = 0; i < used; i++) {
                    ASSERT_EQ(gpu[0].second[first + i], cpu[0].second[first + i]);
                }
            }
        }
    }
}

TEST(Kernels, KeyConv) {
    for (const KeyConvShape s : {KeyConvShape{1, 1, 3}, {70, 33, 5}, {520, 16, 3}, {40, 300, 8}}) {
        expect_kernels("key convolution", 1, [s](auto& room) {
            using E = element<decltype(room)>;
            using A = wide<decltype(room)>;
            const size_t n = (size_t)s.M * s.C;
            const E *k = room.input(n, 1), *w = room.input((size_t)s.C * s.W, 2), *dy = room.input(n, 3);
            const int* position = room.constant(positions(s.M, 27));
            CALL(key_conv_forward, E, room.template output<E>("y", n), k, w, position, s);
            room.workspace(key_conv_workspace_bytes<E>(s));
            E* dk = room.template output<E>("dk", n);
            A* dw = room.template inout<A>("dw", as<A>(draw<float>((size_t)s.C * s.W, 4)));
            CALL(key_conv_backward, E, dk, dw, dy, k, w, position, s);
        });
    }
}

TEST(Kernels, Loss) {
    for (const LossShape s : {LossShape{1, 1}, {33, 7}, {20, 257}, {5, 3001}}) {
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
    const size_t n = 9000;
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
            std::fill(gradient.begin() + 100, gradient.begin() + 128, 0.f);  // between two tensors
            if (!finite) { gradient[5] = INFINITY; }
            const A* g = room.constant(as<A>(gradient));
            A* w = room.template inout<A>("w", as<A>(draw<float>(n, 2)));
            E* w_low = !std::decay_t<decltype(room)>::low
                           ? nullptr
                           : room.template inout<E>("w_low", as<E>(draw<float>(n, 2)));
            A* m = room.template inout<A>("m", as<A>(draw<float>(n, 3)));
            A* v = room.template inout<A>("v", positive(4));
            A* norm = finite ? room.template output<A>("norm", 1) : room.constant(std::vector<A>{A(0)});
            room.workspace(grad_norm_workspace_bytes<A>(n));
            CALL(grad_norm, A, norm, g, n);
            const std::vector<ParamRange> ranges{{0, 100, 3, 0}, {128, n - 128, 1, 0.1f}};
            CALL(adamw, E, w, w_low, m, v, g, norm, room.constant(ranges), 2,
                 room.constant(std::vector<StepState>{{0, 5, 0, 0, 1e-2}}),
                 AdamWShape{n, 0.9, 0.999, 1e-8, 1});
        });
    }
}

TEST(Kernels, Linear) {
    for (const LinearShape s : {LinearShape{1, 1, 1}, {70, 33, 65}, {33, 130, 20}, {129, 64, 96}}) {
        expect_kernels("linear", 3, [s](auto& room) {
            using E = element<decltype(room)>;
            using A = wide<decltype(room)>;
            const E *x = room.input((size_t)s.M * s.I, 1), *w = room.input((size_t)s.O * s.I, 2),
                    *dy = room.input((size_t)s.M * s.O, 3);
            room.workspace(linear_workspace_bytes<E>(s));
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
}

}  // namespace

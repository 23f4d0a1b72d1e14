#include "train/bench/bench_ops.h"
#include "moba/op_table.h"
#include "train/bench/bench_attention.h"
#include "train/core/device_choice.h"
#include "train/display/numbers.h"
#include <algorithm>

namespace moba {

using nlohmann::json;
using Benches = std::vector<OpBench>;

namespace {

struct Sizes {
    int M, C, F, V, T, H, G, D, W = 5;
    size_t mc, mf;  // elements of (M, C) and (M, F)
};

Sizes sizes_of(const BenchOptions& o) {
    Sizes s{};
    s.M = o.batch * o.seq_len, s.T = o.seq_len;
    s.C = o.hidden, s.F = intermediate_size(o), s.V = o.vocab;
    s.H = o.heads, s.G = kv_heads(o), s.D = o.head_dim, s.W = 5;
    s.mc = (size_t)s.M * s.C, s.mf = (size_t)s.M * s.F;
    return s;
}

std::vector<int> token_ids(const Sizes& s) {
    std::vector<int> ids(s.M);
    for (int m = 0; m < s.M; m++) { ids[m] = (int)(m * 7919L % s.V); }
    return ids;
}
std::vector<int> positions(const Sizes& s) {
    std::vector<int> at(s.M);
    for (int m = 0; m < s.M; m++) { at[m] = m % s.T; }
    return at;
}
const StepState* step_state(Operands& t, const Sizes& s) {
    return t.copy(std::vector<StepState>{{1, 1, 0, 1.0 / s.M, 1e-3}});
}

/* One function for each set of operations that share tensors. Bytes and flop are those of the headers under
   Cost, of the tensors alone. */
template <class E>
struct OpSets {
    using A = acc_t<E>;
    static constexpr double narrow = sizeof(E), wide = sizeof(A);
    static constexpr bool low = !std::is_same_v<A, E>;
    const Ops<E>& op;
    const WorkspaceBytes<E>& need;
    const Sizes s;

    Benches embedding(Operands& t) const {
        const EmbeddingShape shape{s.M, s.C, s.V};
        const int* token = t.copy(token_ids(s));
        const E *w = t.random<E>((size_t)s.V * s.C), *dy = t.random<E>(s.mc);
        E* y = t.zeros<E>(s.mc);
        A* dw = t.zeros<A>((size_t)s.V * s.C);
        t.workspace(need.embedding(shape));
        return {
            {"embedding_forward", Versions::gpu, 2 * narrow * s.mc, 0,
             [=, this](const Ctx& c) { op.embedding_forward(c, y, token, w, shape); }},
            {"embedding_backward", Versions::gpu, (narrow + wide) * s.mc, 0,
             [=, this](const Ctx& c) { op.embedding_backward(c, dw, token, dy, shape); }},
        };
    }

    Benches norm(Operands& t) const {
        const NormShape shape{s.M, s.C, 1e-5f};
        const DropoutShape none{s.mc, 0, 0, DropoutSite::mlp};
        const E *x = t.random<E>(s.mc), *b = t.random<E>(s.mc), *dy = t.random<E>(s.mc),
                *w = t.random<E>(s.C);
        E *y = t.zeros<E>(s.mc), *normed = t.zeros<E>(s.mc), *dx = t.zeros<E>(s.mc);
        A *rstd = t.zeros<A>(s.M), *dw = t.zeros<A>(s.C);
        const StepState* state = step_state(t, s);
        t.workspace(need.norm(shape));
        if (t.real()) { op.norm_forward(t.ctx, y, rstd, x, w, shape); }
        return {
            {"norm_forward", Versions::gpu, 2 * narrow * s.mc, 0,
             [=, this](const Ctx& c) { op.norm_forward(c, y, rstd, x, w, shape); }},
            {"residual_norm_forward", Versions::gpu, 4 * narrow * s.mc, 0,
             [=, this](const Ctx& c) {
                 op.residual_norm_forward(c, y, normed, rstd, x, b, w, state, none, shape);
             }},
            {"norm_backward", Versions::gpu, 4 * narrow * s.mc, 0,
             [=, this](const Ctx& c) { op.norm_backward(c, dx, dw, dy, x, w, rstd, shape); }},
        };
    }

    Benches linear(Operands& t) const {
        const LinearShape shape{s.M, s.C, s.F};
        const size_t cf = (size_t)s.C * s.F;
        const E *x = t.random<E>(s.mc), *w = t.random<E>(cf), *dy = t.random<E>(s.mf);
        E *y = t.zeros<E>(s.mf), *dx = t.zeros<E>(s.mc);
        A *wide_y = low ? t.zeros<A>(s.mf) : (A*)y, *dw = t.zeros<A>(cf);
        t.workspace(need.linear(shape));
        const double inputs = narrow * (s.mc + cf), flop = 2 * (double)s.mc * s.F;
        return {
            {"linear_forward", Versions::gpu, inputs + narrow * s.mf, flop,
             [=, this](const Ctx& c) { op.linear_forward(c, y, x, w, shape); }},
            {"linear_forward_wide", Versions::gpu, inputs + wide * s.mf, flop,
             [=, this](const Ctx& c) { op.linear_forward_wide(c, wide_y, x, w, shape); }},
            {"linear_backward_input", Versions::gpu, inputs + narrow * s.mf, flop,
             [=, this](const Ctx& c) { op.linear_backward_input(c, dx, dy, w, shape); }},
            {"linear_backward_weight", Versions::gpu, narrow * (s.mc + s.mf) + 2 * wide * cf, flop,
             [=, this](const Ctx& c) { op.linear_backward_weight(c, dw, dy, x, shape); }},
        };
    }

    const A* rope_table(Operands& t) const {
        std::vector<A> angles(rope_table_size(s.T, s.D));
        std::vector<double> frequencies;
        for (int i = 0; i < s.D / 2; i++) { frequencies.push_back(std::pow(10000.0, -2.0 * i / s.D)); }
        rope_fill_table(angles.data(), frequencies, s.T);
        return t.copy(angles);
    }

    Benches rope(Operands& t) const {
        const RopeShape shape{s.M, s.H, s.D};
        const size_t n = (size_t)s.M * s.H * s.D;
        const A* table = rope_table(t);
        const int* position = t.copy(positions(s));
        const E* x = t.random<E>(n);
        E* y = t.zeros<E>(n);
        return {
            {"rope_forward", Versions::gpu, 2 * narrow * n, 0,
             [=, this](const Ctx& c) { op.rope_forward(c, y, x, position, table, shape); }},
            {"rope_backward", Versions::gpu, 2 * narrow * n, 0,
             [=, this](const Ctx& c) { op.rope_backward(c, y, x, position, table, shape); }},
        };
    }

    Benches key_conv(Operands& t) const {
        const KeyConvShape shape{s.M, s.G * s.D, s.W};
        const size_t n = (size_t)s.M * shape.C, taps = (size_t)shape.C * s.W;
        const int* position = t.copy(positions(s));
        const E *k = t.random<E>(n), *dy = t.random<E>(n), *w = t.random<E>(taps);
        E* y = t.zeros<E>(n);
        A* dw = t.zeros<A>(taps);
        t.workspace(need.key_conv(shape));
        return {
            {"key_conv_forward", Versions::gpu, 2 * narrow * n, 0,
             [=, this](const Ctx& c) { op.key_conv_forward(c, y, k, w, position, shape); }},
            {"key_conv_backward", Versions::gpu, 3 * narrow * n, 0,
             [=, this](const Ctx& c) { op.key_conv_backward(c, y, dw, dy, k, w, position, shape); }},
        };
    }

    Benches swiglu(Operands& t) const {
        const size_t n = s.mf;
        const SwigluShape shape{s.M, s.F, 2 * (size_t)s.F};
        const E *gate = t.random<E>(2 * n), *up = gate + s.F, *dy = t.random<E>(n);
        E *y = t.zeros<E>(n), *dgate = t.zeros<E>(2 * n), *dup = dgate + s.F;
        return {
            {"swiglu_forward", Versions::gpu, 3 * narrow * n, 0,
             [=, this](const Ctx& c) { op.swiglu_forward(c, y, gate, up, shape); }},
            {"swiglu_backward", Versions::gpu, 5 * narrow * n, 0,
             [=, this](const Ctx& c) { op.swiglu_backward(c, dgate, dup, dy, gate, up, shape); }},
        };
    }

    Benches qkv(Operands& t) const {
        const QkvShape shape{s.M, s.H, s.G, s.D, true, true};
        const size_t n = (size_t)s.M * shape.heads() * s.D, of_k = (size_t)s.M * s.G * s.D;
        const int* position = t.copy(positions(s));
        const A* table = rope_table(t);
        E *all = t.zeros<E>(n), *q = t.zeros<E>(n - 2 * of_k), *k = t.zeros<E>(of_k), *v = t.zeros<E>(of_k);
        return {
            {"qkv_split", Versions::gpu, 2 * narrow * n, 0,
             [=, this](const Ctx& c) { op.qkv_split(c, q, k, v, all, position, table, shape); }},
            {"qkv_join", Versions::gpu, 2 * narrow * n, 0,
             [=, this](const Ctx& c) { op.qkv_join(c, all, q, k, v, position, table, shape); }},
        };
    }

    Benches residual(Operands& t) const {
        const DropoutShape none{s.mc, 0, 0, DropoutSite::mlp}, some{s.mc, 0.1f, 0, DropoutSite::mlp};
        const E *x = t.random<E>(s.mc), *b = t.random<E>(s.mc);
        E* y = t.zeros<E>(s.mc);
        const StepState* state = step_state(t, s);
        return {
            {"residual_forward", Versions::gpu, 3 * narrow * s.mc, 0,
             [=, this](const Ctx& c) { op.residual_forward(c, y, x, b, state, none); }},
            {"residual_forward_dropout", Versions::gpu, 3 * narrow * s.mc, 0,
             [=, this](const Ctx& c) { op.residual_forward(c, y, x, b, state, some); }},
            {"residual_backward_dropout", Versions::gpu, 2 * narrow * s.mc, 0,
             [=, this](const Ctx& c) { op.residual_backward(c, y, x, state, some); }},
        };
    }

    Benches rows(Operands& t) const {  // every second row
        std::vector<int> even;
        for (int m = 0; m < s.M; m += 2) { even.push_back(m); }
        const RowsShape shape{(int)even.size(), s.M, s.C};
        const double few = narrow * shape.R * s.C;
        const int* row = t.copy(even);
        const E* x = t.random<E>(s.mc);
        E* y = t.zeros<E>(s.mc);
        return {
            {"gather_rows", Versions::gpu, 2 * few, 0,
             [=, this](const Ctx& c) { op.gather_rows(c, y, x, row, shape); }},
            {"scatter_rows", Versions::gpu, few + narrow * s.mc, 0,
             [=, this](const Ctx& c) { op.scatter_rows(c, y, x, row, shape); }},
            {"put_rows", Versions::gpu, 2 * few, 0,
             [=, this](const Ctx& c) { op.put_rows(c, y, x, row, shape); }},
            {"add_rows", Versions::gpu, 3 * few, 0,
             [=, this](const Ctx& c) { op.add_rows(c, y, x, row, shape); }},
        };
    }

    Benches loss(Operands& t) const {
        const LossShape shape{s.M, s.V};
        const size_t n = (size_t)s.M * s.V;
        const int* target = t.copy(token_ids(s));
        const A* z = t.random<A>(n);
        E* dz = t.zeros<E>(n);
        A* losses = t.zeros<A>(s.M);
        int* correct = t.zeros<int>(s.M);
        const StepState* state = step_state(t, s);
        double* sums = t.zeros<double>(2);
        return {
            {"loss_forward_backward", Versions::gpu, (2 * wide + narrow) * n, 0,
             [=, this](const Ctx& c) {
                 op.loss_forward_backward(c, losses, correct, dz, z, target, state, shape);
             }},
            {"loss_sums", Versions::none, (wide + sizeof(int)) * s.M, 0,
             [=, this](const Ctx& c) { op.loss_sums(c, sums, losses, correct, s.M); }},
        };
    }

    Benches optimizer(Operands& t) const {  // the weights of one layer: q, k, v, o; gate, up, down
        std::vector<ParamRange> tensors;
        size_t n = 0;
        for (int i = 0; i < 7; i++) {
            const size_t count = (size_t)s.C * (i < 4 ? s.C : s.F);
            tensors.push_back({n, count, 1, 0.1f});
            n += count;
        }
        const ParamRange* ranges = t.copy(tensors);
        const A *g = t.random<A>(n), *one = t.copy(std::vector<A>{1});
        A *w = t.random<A>(n), *m = t.zeros<A>(n), *v = t.zeros<A>(n), *norm = t.zeros<A>(1);
        E* w_low = low ? t.zeros<E>(n) : nullptr;
        const StepState* state = step_state(t, s);
        const size_t count = square_sums_count(n);
        double* sums = t.zeros<double>(count);
        return {
            {"square_sums", Versions::none, wide * n, 0,
             [=, this](const Ctx& c) { op.square_sums(c, sums, g, n); }},
            {"grad_norm", Versions::none, (double)(count * sizeof(double)), 0,
             [=, this](const Ctx& c) { op.grad_norm(c, norm, sums, count); }},
            {"adamw", Versions::none, (7 * wide + (low ? narrow : 0)) * n, 0,
             [=, this](const Ctx& c) {
                 op.adamw(c, w, w_low, m, v, g, one, ranges, 7, state, {n, 0.9, 0.95, 1e-8, 1});
             }},
        };
    }
};

}  // namespace

template <class E>
OpSetList op_sets(const BenchOptions& o) {
    const Device device = parse_device(o.device);
    const OpSets<E> sets{*find_ops<E>(device), *find_workspaces<E>(device), sizes_of(o)};
    const auto attention = [&](AttentionKind kind) {
        return [o, kind](Operands& t) { return attention_benches<E>(t, o, kind); };
    };
    OpSetList all{
        {"embedding", [=](Operands& t) { return sets.embedding(t); }},
        {"norm", [=](Operands& t) { return sets.norm(t); }},
        {"linear", [=](Operands& t) { return sets.linear(t); }},
        {"rope", [=](Operands& t) { return sets.rope(t); }},
        {"key_conv", [=](Operands& t) { return sets.key_conv(t); }},
        {"attention, moba", attention(AttentionKind::moba)},
        {"attention, full", attention(AttentionKind::full)},
        {"attention, window", attention(AttentionKind::window)},
        {"gate", [=](Operands& t) { return gate_benches<E>(t, o); }},
        {"slots", [=](Operands& t) { return slots_benches<E>(t, o); }},
        {"decoding", [=](Operands& t) { return decode_benches<E>(t, o); }},
        {"swiglu", [=](Operands& t) { return sets.swiglu(t); }},
        {"qkv", [=](Operands& t) { return sets.qkv(t); }},
        {"residual", [=](Operands& t) { return sets.residual(t); }},
        {"rows", [=](Operands& t) { return sets.rows(t); }},
        {"loss", [=](Operands& t) { return sets.loss(t); }},
        {"optimizer", [=](Operands& t) { return sets.optimizer(t); }},
    };
    if (!o.window) {
        std::erase_if(all, [](const auto& set) { return set.first == "attention, window"; });
    }
    return all;
}

std::string op_sizes(const BenchOptions& o) {
    const Sizes s = sizes_of(o);
    return formatted("B=%d T=%d C=%d F=%d H=%d G=%d D=%d V=%d S=%d K=%d", o.batch, o.seq_len, s.C, s.F, s.H,
                     s.G, s.D, s.V, o.block_size, o.top_k);
}

template <class E>
void bench_ops(const BenchOptions& o, json& result) {
    std::printf("operations, %s: %s, median of %d repeats\n", o.precision.c_str(), op_sizes(o).c_str(),
                o.repeats);
    const BenchRun run = start_rows<E>(o, result);
    json& rows = result["rows"];
    for (const auto& [name, make] : op_sets<E>(o)) { bench_rows(run, name, make, rows); }
    if (rows.empty()) {
        throw Error("--op " + o.op + ", --kernel-version " + o.kernel_version +
                    ": there is no such operation or version; `moba bench op` lists all operations");
    }
}

INSTANTIATE(op_sets)
INSTANTIATE(bench_ops)

}  // namespace moba

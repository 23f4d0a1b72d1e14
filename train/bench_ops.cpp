#include "train/bench_ops.h"
#include "moba/ops.h"
#include "moba/parallel.h"
#include <algorithm>
#include <nlohmann/json.hpp>

namespace {

struct OpBench {
    std::string name;
    double bytes, flop;  // read and written at least once; 0 flop: bound by memory
    std::function<void()> run;
};

// Tensors of the benchmark, kept alive by name of use.
struct Operands {
    std::vector<std::vector<char>> tensors;
    template <class X>
    X* make(size_t n) {
        const std::vector<X> values = random_elements<X>(n, tensors.size());
        const char* bytes = (const char*)values.data();
        tensors.emplace_back(bytes, bytes + n * sizeof(X));
        return (X*)tensors.back().data();
    }
};

}  // namespace

template <class E>
void bench_ops(const BenchOptions& o, nlohmann::json& result) {
    using A = acc_t<E>;
    const int M = o.batch * o.seq_len, C = o.hidden, F = o.intermediate ? o.intermediate : C * 11 / 4,
              V = o.vocab, D = o.head_dim;
    const int H = o.heads, W = 5;
    const size_t x = (size_t)M * C, f = (size_t)M * F;
    Operands t;
    std::vector<int> tokens(M), position(M), correct(M);
    for (int m = 0; m < M; m++) { tokens[m] = (int)((m * 7919L) % V), position[m] = m % o.seq_len; }
    const auto make = [&](size_t n) { return t.make<E>(n); };
    const auto make_wide = [&](size_t n) { return t.make<A>(n); };
    E *a = make(x), *b = make(x), *c = make(x), *w = make((size_t)std::max(C, F) * C);
    E *g = make(f), *u = make(f), *y = make(f), *table = make((size_t)V * C), *q = make((size_t)M * H * D),
      *taps = make((size_t)C * W);
    A *dw = make_wide((size_t)std::max({M, C, F, V}) * C), *rstd = make_wide(M),
      *logits = make_wide((size_t)M * V), *losses = make_wide(M), *norm = make_wide(1);
    A *master = make_wide((size_t)C * C), *m1 = make_wide((size_t)C * C), *m2 = make_wide((size_t)C * C);
    E* const dlogits = std::is_same_v<A, E> ? (E*)logits : make((size_t)M * V);
    E* const low = std::is_same_v<A, E> ? nullptr : w;
    for (size_t i = 0; i < (size_t)C * C; i++) { m2[i] *= m2[i]; }
    std::vector<A> rope(rope_table_size(o.seq_len, D));
    std::vector<double> frequencies;
    for (int i = 0; i < D / 2; i++) { frequencies.push_back(std::pow(10000.0, -2.0 * i / D)); }
    rope_fill_table(rope.data(), frequencies, o.seq_len);
    const LinearShape square{M, C, C}, wide{M, C, F};
    std::vector<char> workspace(
        std::max({linear_workspace_bytes<E>(square), linear_workspace_bytes<E>(wide),
                  norm_workspace_bytes<E>({M, C, 0}), key_conv_workspace_bytes<E>({M, C, W}),
                  grad_norm_workspace_bytes<A>(x)}));
    Ctx ctx;
    ctx.workspace = workspace.data();
    ctx.workspace_bytes = workspace.size();
    const StepState step{1, 1, 0, 1.0 / M, 1e-3};
    const ParamRange range{0, (size_t)C * C, 1, 0.1f};
    const Ops<E>& op = *find_ops<E>(parse_device(o.device));
    const double narrow = sizeof(E), wider = sizeof(A), mc = narrow * x, mf = narrow * f,
                 flop = 2.0 * M * C * F;
    const std::vector<OpBench> all = {
        {"embedding_forward", 2 * mc, 0,
         [&] {
             op.embedding_forward(ctx, a, tokens.data(), table, {M, C, V});
         }},
        {"embedding_backward", mc + wider * x, 0,
         [&] {
             op.embedding_backward(ctx, dw, tokens.data(), b, {M, C, V});
         }},
        {"norm_forward", 2 * mc, 0,
         [&] {
             op.norm_forward(ctx, a, rstd, b, w, {M, C, 1e-5f});
         }},
        {"norm_backward", 4 * mc, 0,
         [&] {
             op.norm_backward(ctx, c, dw, a, b, w, rstd, {M, C, 1e-5f});
         }},
        {"linear_forward", mc + mf, flop, [&] { op.linear_forward(ctx, g, a, w, wide); }},
        {"linear_backward_input", mc + mf, flop,
         [&] { op.linear_backward_input(ctx, a, g, w, wide, false); }},
        {"linear_backward_weight", mc + mf, flop, [&] { op.linear_backward_weight(ctx, dw, g, a, wide); }},
        {"rope_forward", 2 * narrow * M * H * D, 0,
         [&] {
             op.rope_forward(ctx, q, q, position.data(), rope.data(), {M, H, D});
         }},
        {"key_conv_forward", 2 * mc, 0,
         [&] {
             op.key_conv_forward(ctx, a, b, taps, position.data(), {M, C, W});
         }},
        {"key_conv_backward", 3 * mc, 0,
         [&] {
             op.key_conv_backward(ctx, a, dw, c, b, taps, position.data(), {M, C, W});
         }},
        {"swiglu_forward", 3 * mf, 0, [&] { op.swiglu_forward(ctx, y, g, u, f); }},
        {"swiglu_backward", 5 * mf, 0, [&] { op.swiglu_backward(ctx, g, u, y, g, u, f); }},
        {"residual_forward", 3 * mc, 0,
         [&] {
             op.residual_forward(ctx, a, b, c, &step, {x, 0, 0, DropoutSite::mlp});
         }},
        {"residual_forward_dropout", 3 * mc, 0,
         [&] {
             op.residual_forward(ctx, a, b, c, &step, {x, 0.1f, 0, DropoutSite::mlp});
         }},
        {"loss_forward_backward", (2 * wider + narrow) * M * V, 0,
         [&] {
             op.loss_forward_backward(ctx, losses, correct.data(), dlogits, logits, tokens.data(), &step,
                                      {M, V});
         }},
        {"grad_norm", wider * x, 0, [&] { op.grad_norm(ctx, norm, dw, x); }},
        {"adamw", (7 * wider + (low ? narrow : 0)) * C * C, 0,
         [&] {
             op.adamw(ctx, master, low, m1, m2, dw, norm, &range, 1, &step,
                      {(size_t)C * C, 0.9, 0.95, 1e-8, 1});
         }},
    };
    if (o.op != "all" && std::none_of(all.begin(), all.end(), [&](const OpBench& b) {
            return b.name.find(o.op) != std::string::npos;
        })) {
        throw Error("--op " + o.op + ": no such operation; bench op lists them");
    }
    std::printf(
        "operations, %s: B=%d T=%d C=%d F=%d H=%d D=%d V=%d, median of %d (attention: bench attention)\n",
        o.precision.c_str(), o.batch, o.seq_len, C, F, H, D, V, o.repeats);
    std::printf("%-26s %10s %10s %10s\n", "", "ms", "GB/s", "GFLOP/s");
    for (const OpBench& bench : all) {
        if (o.op != "all" && bench.name.find(o.op) == std::string::npos) { continue; }
        const double ms = median_ms(o.repeats, bench.run), gbs = bench.bytes / ms / 1e6,
                     gflops = bench.flop / ms / 1e6;
        if (bench.flop > 0) {
            std::printf("%-26s %10.3f %10.1f %10.0f\n", bench.name.c_str(), ms, gbs, gflops);
        } else {
            std::printf("%-26s %10.3f %10.1f %10s\n", bench.name.c_str(), ms, gbs, "-");
        }
        result["rows"].push_back({{"name", bench.name}, {"ms", ms}, {"gbs", gbs}, {"gflops", gflops}});
    }
}

template void bench_ops<float>(const BenchOptions&, nlohmann::json&);
template void bench_ops<bf16>(const BenchOptions&, nlohmann::json&);

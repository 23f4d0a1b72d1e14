/* Shared by the tests of attention: a case, the blocks that MoBA chooses for it, and one forward and backward
   pass. The blocks are chosen once, in double, and passed to every version and element type. */
#pragma once
#include "moba/attention/attention.h"
#include "test/support/packed_batch.h"
#include <numeric>

namespace moba {

namespace attention_case {

struct Case {
    std::vector<int> lengths;
    int H, G, D;
    AttentionKind kind = AttentionKind::full;
    int window = 0;
    int S = 16, K = 3, levels = 1;
    Gate gate = Gate::topk;
    double scale = 1;  // of q: 300 makes scores of thousands
    bool shared = false;

    BlockSizes sizes() const { return {S, levels}; }
};
using enum AttentionKind;

inline int tokens(const Case& c) { return std::accumulate(c.lengths.begin(), c.lengths.end(), 0); }
inline AttentionShape shape_of(const Case& c) {
    return {c.H, c.G, c.D, c.kind, c.window, {c.H, c.G, c.D, c.K, c.gate, c.shared}};
}

// The choice of blocks for these q and k; empty if the attention kind needs none.
struct Choice {
    std::vector<int> chosen, list, start;
    Routing routing() { return {chosen.data(), start.data(), list.data()}; }
};
inline Choice choose(const Case& c, const PackedBatch& batch, const std::vector<double>& q,
                     const std::vector<double>& k) {
    if (c.kind != moba) { return {}; }
    const GateShape s = shape_of(c).gate;
    const int M = batch.seqs.num_tokens, B = batch.seqs.num_seqs;
    Choice r;
    r.chosen.resize(routing_slots(M, c.sizes(), s));
    r.list.resize(r.chosen.size());
    r.start.resize(routing_starts(M, B, c.sizes(), s));
    Workspace work(gate_workspace_bytes_cpu<double>(M, B, c.sizes(), s));
    gate_forward_cpu<double>(work.ctx, r.routing(), q.data(), k.data(), batch.seqs, s);
    gate_lists_cpu(work.ctx, r.routing(), batch.seqs, s);
    return r;
}

// Error relative to the largest value, but never relative to less than 1: where a query sees only one key, dq
// and dk are 0 except for rounding.
template <class X, class Y>
double error_of(const std::vector<X>& got, const std::vector<Y>& want) {
    if (got.size() != want.size()) { return INFINITY; }
    return max_abs_error(got.data(), want.data(), want.size()) /
           std::max(max_abs(want.data(), want.size()), 1.0);
}

template <class E>
struct Result {
    std::vector<E> out, dq, dk, dv;
    std::vector<acc_t<E>> lse;
};

// One forward and one backward pass. Inputs are rounded to In first.
template <class E, class In>
Result<E> run(const Case& c, int version) {
    const PackedBatch batch(c.lengths, c.sizes());
    const AttentionShape s = shape_of(c);
    const int M = batch.seqs.num_tokens;
    const size_t nq = (size_t)M * c.H * c.D, nk = (size_t)M * c.G * c.D;
    const auto q = draw<In>(nq, 1, c.scale), k = draw<In>(nk, 2), v = draw<In>(nk, 3), dout = draw<In>(nq, 4);
    Choice choice = choose(c, batch, as<double>(q), as<double>(k));
    const auto eq = as<E>(q), ek = as<E>(k), ev = as<E>(v), edout = as<E>(dout);
    Guarded<E> out(nq), dq(nq), dk(nk), dv(nk);
    Guarded<acc_t<E>> lse((size_t)c.H * M);
    const size_t naive = naive_attention_workspace_bytes<E>(M, s);
    {
        Workspace work(version == 1 ? naive
                                    : attention_workspace_bytes_cpu<E>(M, batch.seqs.num_seqs, c.sizes(), s,
                                                                       Direction::forward),
                       version);
        attention_forward_cpu<E>(work.ctx, out.data(), lse.data(), eq.data(), ek.data(), ev.data(),
                                 choice.routing(), batch.seqs, s);
        EXPECT_TRUE(work.intact());
    }
    Workspace work(version == 1 ? naive
                                : attention_workspace_bytes_cpu<E>(M, batch.seqs.num_seqs, c.sizes(), s,
                                                                   Direction::backward),
                   version);
    Guarded<acc_t<E>> delta((size_t)c.H * M);
    attention_delta_cpu<E>({}, delta.data(), edout.data(), out.data(), {M, c.H, c.D});
    attention_backward_cpu<E>(work.ctx, dq.data(), dk.data(), dv.data(), edout.data(), delta.data(),
                              eq.data(), ek.data(), ev.data(), lse.data(), choice.routing(), batch.seqs, s);
    EXPECT_TRUE(delta.intact());
    EXPECT_TRUE(work.intact());
    EXPECT_TRUE(out.intact() && lse.intact() && dq.intact() && dk.intact() && dv.intact());
    return {out.values(), dq.values(), dk.values(), dv.values(), lse.values()};
}

}  // namespace attention_case

}  // namespace moba

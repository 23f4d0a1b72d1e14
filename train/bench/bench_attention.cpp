#include "train/bench/bench_attention.h"
#include "moba/config.h"
#include "moba/op_table.h"
#include <algorithm>

namespace moba {

using nlohmann::json;

static const char* kind_name(AttentionKind kind) {
    return kind == AttentionKind::moba ? "moba" : kind == AttentionKind::full ? "full" : "window";
}

static AttentionShape shape_of(const BenchOptions& o, AttentionKind kind) {
    const GateShape gate{o.heads, kv_heads(o), o.head_dim, o.top_k, Gate::topk};
    return {gate.H, gate.G, gate.D, kind, o.window, gate};
}

// The number of pairs of a query and a key it may see, over all sequences and heads.
static double visible_pairs(const BenchOptions& o, AttentionKind kind) {
    double pairs = 0;
    for (int t = 0; t < o.seq_len; t++) {
        const int S = o.block_size;
        pairs += kind == AttentionKind::full     ? t + 1
                 : kind == AttentionKind::window ? std::min(t + 1, o.window)
                                                 : std::min(t / S, o.top_k - 1) * (double)S + t % S + 1;
    }
    return pairs * o.batch * o.heads;
}

// The sequences of a batch, in the memory of the device.
static Sequences sequences_of(Operands& t, const BenchOptions& o) {
    std::vector<int> cu, table;
    for (int b = 0; b <= o.batch; b++) { cu.push_back(b * o.seq_len); }
    const Sequences seqs = build_sequences(table, cu, {o.block_size});
    const int* on_device = t.copy(table);
    return t.real() ? rebase(seqs, table.data(), on_device) : seqs;
}

template <class E>
std::vector<OpBench> gate_benches(Operands& t, const BenchOptions& o) {
    const Ops<E>& op = *find_ops<E>(t.ctx.device);
    const WorkspaceBytes<E>& need = *find_workspaces<E>(t.ctx.device);
    const GateShape topk = shape_of(o, AttentionKind::moba).gate;
    const int M = o.batch * o.seq_len;
    const Sequences seqs = sequences_of(t, o);
    const double nq = (double)M * topk.H * topk.D, nk = (double)M * topk.G * topk.D,
                 N = ceil_div(o.seq_len, o.block_size);
    const E *q = t.random<E>((size_t)nq), *k = t.random<E>((size_t)nk);
    const size_t slots = routing_slots(M, {o.block_size}, topk);
    const Routing routing{t.zeros<int>(slots), nullptr, nullptr};
    std::vector<OpBench> all;
    size_t bytes = 0;
    const auto add = [&](const char* name, GateShape s) {
        if (o.block_size % parts_of(s.rule) || (s.shared && !s.together())) { return; }
        bytes = std::max(bytes, need.gate(M, o.batch, {o.block_size}, s));
        const double share = s.together() ? (double)s.G / s.H : 1;
        all.push_back({name, Versions::both, sizeof(E) * (nq + nk) + 4. * (double)slots,
                       nq * N * parts_of(s.rule) * share,
                       [=](const Ctx& c) { op.gate_forward(c, routing, q, k, seqs, s); }});
    };
    GateShape s = topk;
    s.rule = Gate::max;
    add("gate_forward_max", s);
    s.rule = Gate::lse;
    add("gate_forward_lse", s);
    s.rule = Gate::topk, s.shared = true;
    add("gate_forward_shared", s);
    t.workspace(bytes);
    return all;
}

template <class E>
std::vector<OpBench> attention_benches(Operands& t, const BenchOptions& o, AttentionKind kind) {
    using A = acc_t<E>;
    const Ops<E>& op = *find_ops<E>(t.ctx.device);
    const WorkspaceBytes<E>& need = *find_workspaces<E>(t.ctx.device);
    const AttentionShape s = shape_of(o, kind);
    const int B = o.batch, M = B * o.seq_len, S = o.block_size;
    const bool moba = kind == AttentionKind::moba, cpu = t.ctx.device == Device::cpu;
    const size_t nq = (size_t)M * s.H * s.D, nk = (size_t)M * s.G * s.D, nlse = (size_t)s.H * M,
                 slots = moba ? routing_slots(M, {S}, s.gate) : 0,
                 starts = moba ? routing_starts(M, B, {S}, s.gate) : 0;

    const Sequences seqs = sequences_of(t, o);
    const E *q = t.random<E>(nq), *k = t.random<E>(nk), *v = t.random<E>(nk), *dout = t.random<E>(nq);
    E *out = t.zeros<E>(nq), *dq = t.zeros<E>(nq), *dk = t.zeros<E>(nk), *dv = t.zeros<E>(nk);
    A *lse = t.zeros<A>(nlse), *delta = t.zeros<A>(nlse);
    const Routing routing{t.zeros<int>(slots), t.zeros<int>(starts), t.zeros<int>(slots)};
    t.workspace(std::max(
        {need.attention(M, B, {S}, s, Direction::forward), need.attention(M, B, {S}, s, Direction::backward),
         cpu ? naive_attention_workspace_bytes<E>(M, s) : 0, moba ? need.gate(M, B, {S}, s.gate) : 0,
         moba ? need.gate_lists(M, B, {S}, s.gate) : 0}));

    const auto gate = [=](const Ctx& c) { op.gate_forward(c, routing, q, k, seqs, s.gate); };
    const auto lists = [=](const Ctx& c) { op.gate_lists(c, routing, seqs, s.gate); };
    const auto forward = [=](const Ctx& c) { op.attention_forward(c, out, lse, q, k, v, routing, seqs, s); };
    const auto backward = [=](const Ctx& c) {  // with delta, in its best version
        Ctx best = c;
        best.kernel_version = 0;
        op.attention_delta(best, delta, dout, out, {M, s.H, s.D});
        op.attention_backward(c, dq, dk, dv, dout, delta, q, k, v, lse, routing, seqs, s);
    };
    if (t.real()) {  // so that each operation has its inputs when it is timed alone
        if (moba) { gate(t.ctx), lists(t.ctx); }
        forward(t.ctx);
    }
    const double e = sizeof(E), list = 4. * slots, rest = sizeof(A) * (double)nlse + list,
                 flop = s.D * visible_pairs(o, kind), N = ceil_div(o.seq_len, S);
    const std::string name = kind_name(kind);
    std::vector<OpBench> all;
    if (moba) {
        all.push_back({"gate_forward", Versions::both, e * (nq + nk) + list, nq * N, gate});
        all.push_back({"gate_lists", Versions::none, 2 * list + 4. * starts, 0, lists});
    }
    all.push_back({"attention_forward_" + name, Versions::both, e * 2 * (nq + nk) + rest, 4 * flop, forward});
    all.push_back(
        {"attention_backward_" + name, Versions::both, e * 4 * (nq + nk) + rest, 10 * flop, backward});
    return all;
}

// Delta alone, and what ranks that share a sequence need besides (docs/many.md).
template <class E>
std::vector<OpBench> slots_benches(Operands& t, const BenchOptions& o) {
    using A = acc_t<E>;
    const Ops<E>& op = *find_ops<E>(t.ctx.device);
    const AttentionShape s = shape_of(o, AttentionKind::moba);
    const int M = o.batch * o.seq_len, K = s.gate.K;
    const Sequences seqs = sequences_of(t, o);
    const size_t nq = (size_t)M * s.H * s.D, nk = (size_t)M * s.G * s.D;
    const E *k = t.random<E>(nk), *part = t.random<E>(nq * K);
    const A* part_lse = t.random<A>((size_t)s.H * M * K);
    E *means = t.zeros<E>(nk), *out = t.zeros<E>(nq);
    A* lse = t.zeros<A>((size_t)s.H * M);
    const int* used = t.copy(std::vector<int>((size_t)s.H * M, K));
    const double e = sizeof(E);
    const E* dout = t.random<E>(nq);
    return {
        {"attention_delta", Versions::gpu, e * 2 * nq + sizeof(A) * (double)s.H * M, 0,
         [=](const Ctx& c) {
             op.attention_delta(c, lse, dout, out, {M, s.H, s.D});
         }},
        {"block_means", Versions::none, e * nk * (1 + 1.0 / o.block_size), 0,
         [=](const Ctx& c) { op.block_means(c, means, k, seqs, s.gate); }},
        {"merge_slots", Versions::gpu, e * nq * (K + 1) + sizeof(A) * (double)s.H * M * (K + 1), 0,
         [=](const Ctx& c) {
             op.merge_slots(c, out, lse, part, part_lse, used, {M, s.H, K, s.D});
         }},
        {"sum_slots", Versions::gpu, e * nq * (K + 1), 0,
         [=](const Ctx& c) {
             op.sum_slots(c, out, part, used, {M, s.H, K, s.D});
         }},
    };
}

template <class E>
std::vector<OpBench> decode_benches(Operands& t, const BenchOptions& o) {
    using A = acc_t<E>;
    const Ops<E>& op = *find_ops<E>(t.ctx.device);
    const int T = o.seq_len;
    const AttentionShape moba = shape_of(o, AttentionKind::moba), full = shape_of(o, AttentionKind::full);
    const int H = moba.H, G = moba.G, D = moba.D;
    const CacheShape cache{T, G, D, {o.block_size}};
    const size_t nk = (size_t)T * G * D;
    E *q = t.random<E>(H * D), *k = t.random<E>(nk), *v = t.random<E>(nk), *rows = t.random<E>(nk),
      *out = t.zeros<E>(H * D);
    A* means = t.zeros<A>(cache.first_mean(G));
    const WorkspaceBytes<E>& need = *find_workspaces<E>(t.ctx.device);
    t.workspace(std::max(need.decode(cache, moba), need.decode(cache, full)));

    const int *first = t.copy(std::vector<int>{0}), *last = t.copy(std::vector<int>{T - 1});
    const auto mean = [=](const Ctx& c) { op.cache_means(c, means, k, first, T, cache); };
    if (t.real()) { mean(t.ctx); }
    const auto attend = [=](AttentionShape s) {
        return [=](const Ctx& c) { op.decode_attention(c, out, q, k, v, means, last, T, cache, s); };
    };
    const double e = sizeof(E), N = T / o.block_size, keys = std::min(T, o.top_k * o.block_size),
                 mean_bytes = sizeof(A) * N * G * D, token = 4. * H * D;
    return {
        {"cache_rows", Versions::none, 2 * e * nk, 0,
         [=](const Ctx& c) { op.cache_rows(c, v, rows, first, T, G * D); }},
        {"cache_means", Versions::none, e * N * o.block_size * G * D + mean_bytes, 0, mean},
        // query heads that share keys may choose different blocks
        {"decode_attention_moba", Versions::none, mean_bytes + 2 * e * D * std::min(keys * H, (double)T * G),
         token * keys + 2. * H * D * N, attend(moba)},
        {"decode_attention_full", Versions::none, 2 * e * nk, token * T, attend(full)},
    };
}

// -----------------------------------------------------------------------------------------------------------

namespace {

struct Totals {
    double forward_ms = 0, backward_ms = 0;  // the gate counts as forward
    double ms() const { return forward_ms + backward_ms; }
};

}  // namespace

template <class E>
static Totals time_kind(const BenchRun& r, AttentionKind kind, json& rows) {
    const Times times = bench_rows(
        r, kind_name(kind) + std::string(" attention"),
        [&](Operands& t) { return attention_benches<E>(t, r.o, kind); }, rows);
    Totals total;
    for (const auto& [name, ms] : times) {
        (name.find("backward") == std::string::npos ? total.forward_ms : total.backward_ms) += ms;
    }
    if (times.empty()) {
        throw Error("--kernel-version " + r.o.kernel_version + ": attention has no such version");
    }
    return total;
}

template <class E>
void bench_attention(const BenchOptions& o, json& result) {
    std::printf("attention, %s: B=%d T=%d H=%d G=%d D=%d, MoBA S=%d K=%d, median of %d repeats\n",
                o.precision.c_str(), o.batch, o.seq_len, o.heads, kv_heads(o), o.head_dim, o.block_size,
                o.top_k, o.repeats);
    Config config;
    config.block_size = o.block_size;
    config.top_k = o.top_k;
    if (times(o, "moba") && config.is_full_at(o.seq_len)) {
        std::printf("warning: top-k * block-size = %d >= T = %d: at this length MoBA is full attention\n",
                    o.top_k * o.block_size, o.seq_len);
    }
    const BenchRun run = start_rows<E>(o, result);
    json& rows = result["rows"];
    if (!o.attention.empty()) {
        const bool moba = o.attention == "moba";
        const Totals t = time_kind<E>(run, moba ? AttentionKind::moba : AttentionKind::full, rows);
        std::printf("%s: forward %.3f ms, backward %.3f ms\n", o.attention.c_str(), t.forward_ms,
                    t.backward_ms);
        result["ms"] = {{o.attention, t.ms()}};
        return;
    }
    const Totals moba = time_kind<E>(run, AttentionKind::moba, rows);
    if (o.window) { time_kind<E>(run, AttentionKind::window, rows); }
    BenchRun plain = run;
    plain.o.kernel_version = "1";
    plain.o.repeats = 1;
    const bool naive = o.attention_impl == "naive";
    const Totals other =
        naive ? time_kind<E>(plain, AttentionKind::moba, rows) : time_kind<E>(run, AttentionKind::full, rows);
    const char* against = naive ? "its naive version" : "full attention";
    std::printf("forward and backward: moba %.3f ms, %s %.3f ms\n", moba.ms(), against, other.ms());
    std::printf("moba is %.1fx as fast as %s in the forward pass, and %.1fx forward and backward\n",
                other.forward_ms / moba.forward_ms, against, other.ms() / moba.ms());
    result["ms"] = {{"moba", moba.ms()}, {naive ? "naive" : "full", other.ms()}};
    result["ratio_forward"] = other.forward_ms / moba.forward_ms;
    result["ratio"] = other.ms() / moba.ms();
}

INSTANTIATE(bench_attention)
INSTANTIATE(attention_benches)
INSTANTIATE(gate_benches)
INSTANTIATE(slots_benches)
INSTANTIATE(decode_benches)

}  // namespace moba

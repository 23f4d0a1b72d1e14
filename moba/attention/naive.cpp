/* Attention on the CPU: chooses the version, and holds version 1, which follows the equations. Contract:
   attention.h. */
#include "moba/attention/attention.h"
#include "moba/attention/cpu.h"

namespace moba {

namespace {

// Whether query t of head h may see key j of the same sequence.
struct Visible {
    const Sequences& seqs;
    const AttentionShape& s;
    Routing routing;
    int h;

    bool operator()(int t, int j) const {
        if (j < first_key(seqs, s, t) || j > t) { return false; }
        if (s.kind != AttentionKind::moba) { return true; }
        const int K = s.gate.slots(seqs, h);
        const int* chosen = routing.chosen + s.gate.first_slot(seqs, h) + (size_t)t * K;
        const int block = seqs.level[s.gate.level(seqs, h)].own[j];
        return std::find(chosen, chosen + K, block) != chosen + K;
    }
};

template <class E>
void naive_forward(const Ctx& ctx, AttentionForward<E> a, Routing routing, const Sequences& seqs,
                   AttentionShape s) {
    using A = acc_t<E>;
    const int M = seqs.num_tokens;
    const A scale = 1 / std::sqrt(A(s.D));
    parallel_for((size_t)s.H * M, [&](size_t i, int thread) {
        A* p = thread_scratch<A>(ctx, (M + s.D) * sizeof(A), thread);
        A* sum = p + M;
        const int h = (int)(i / M), t = (int)(i % M), g = h / (s.H / s.G);
        const Visible visible{seqs, s, routing, h};
        const E* q = a.q + ((size_t)t * s.H + h) * s.D;
        A top = -INFINITY, total = 0;
        for (int j = t - seqs.position[t]; j <= t; j++) {
            p[j] = dot(q, a.k + ((size_t)j * s.G + g) * s.D, s.D) * scale;
            if (!visible(t, j)) { p[j] = -INFINITY; }
            top = std::max(top, p[j]);
        }
        for (int j = t - seqs.position[t]; j <= t; j++) { total += std::exp(p[j] - top); }
        const A lse = top + std::log(total);
        std::fill_n(sum, s.D, A(0));
        for (int j = t - seqs.position[t]; j <= t; j++) {
            const A weight = round_to<E>(std::exp(p[j] - lse));
            for (int d = 0; d < s.D; d++) { sum[d] += weight * A(a.v[((size_t)j * s.G + g) * s.D + d]); }
        }
        for (int d = 0; d < s.D; d++) { a.out[((size_t)t * s.H + h) * s.D + d] = E(sum[d]); }
        a.lse[(size_t)h * M + t] = lse;
    });
}

template <class E>
void naive_backward(const Ctx& ctx, AttentionBackward<E> a, Routing routing, const Sequences& seqs,
                    AttentionShape s) {
    using A = acc_t<E>;
    const int M = seqs.num_tokens;
    const A scale = 1 / std::sqrt(A(s.D));
    // p and ds for query t of head h and key j
    const auto weights = [&](int h, int t, int j, A& p, A& ds) {
        const size_t at = ((size_t)t * s.H + h) * s.D, from = ((size_t)j * s.G + h / (s.H / s.G)) * s.D;
        p = std::exp(dot(a.q + at, a.k + from, s.D) * scale - a.lse[(size_t)h * M + t]);
        ds = round_to<E>(p * (dot(a.dout + at, a.v + from, s.D) - a.delta[(size_t)h * M + t]));
        p = round_to<E>(p);
    };
    // dq, one query at a time
    parallel_for((size_t)s.H * M, [&](size_t i, int thread) {
        A* sum = thread_scratch<A>(ctx, 2 * s.D * sizeof(A), thread);
        const int h = (int)(i / M), t = (int)(i % M), g = h / (s.H / s.G);
        const Visible visible{seqs, s, routing, h};
        std::fill_n(sum, s.D, A(0));
        for (int j = t - seqs.position[t]; j <= t; j++) {
            A p, ds;
            if (!visible(t, j)) { continue; }
            weights(h, t, j, p, ds);
            for (int d = 0; d < s.D; d++) { sum[d] += ds * A(a.k[((size_t)j * s.G + g) * s.D + d]) * scale; }
        }
        for (int d = 0; d < s.D; d++) { a.dq[((size_t)t * s.H + h) * s.D + d] = E(sum[d]); }
    });
    // dk and dv, one key at a time
    parallel_for((size_t)s.G * M, [&](size_t i, int thread) {
        A* sum_k = thread_scratch<A>(ctx, 2 * s.D * sizeof(A), thread);
        A* sum_v = sum_k + s.D;
        const int g = (int)(i / M), j = (int)(i % M), group = s.H / s.G;
        std::fill_n(sum_k, 2 * s.D, A(0));
        for (int h = g * group; h < (g + 1) * group; h++) {
            const Visible visible{seqs, s, routing, h};
            for (int t = j; t < M && seqs.position[t] >= t - j; t++) {
                A p, ds;
                if (!visible(t, j)) { continue; }
                weights(h, t, j, p, ds);
                const size_t at = ((size_t)t * s.H + h) * s.D;
                for (int d = 0; d < s.D; d++) {
                    sum_k[d] += ds * A(a.q[at + d]) * scale;
                    sum_v[d] += p * A(a.dout[at + d]);
                }
            }
        }
        for (int d = 0; d < s.D; d++) {
            a.dk[((size_t)j * s.G + g) * s.D + d] = E(sum_k[d]);
            a.dv[((size_t)j * s.G + g) * s.D + d] = E(sum_v[d]);
        }
    });
}

}  // namespace

template <class E>
size_t naive_attention_workspace_bytes(int max_tokens, AttentionShape s) {
    return max_threads() * (max_tokens + 2 * (size_t)s.D) * sizeof(acc_t<E>);
}

template <class E>
size_t attention_workspace_bytes_cpu(int max_tokens, int, BlockSizes sizes, AttentionShape s,
                                     Direction direction) {
    return s.kind == AttentionKind::moba ? moba_workspace_bytes<E>(max_tokens, sizes, s, direction)
                                         : tiled_workspace_bytes<E>(max_tokens, s, direction);
}

template <class E>
void attention_forward_cpu(const Ctx& ctx, E* out, acc_t<E>* lse, const E* q, const E* k, const E* v,
                           Routing routing, const Sequences& seqs, AttentionShape s) {
    REQUIRE(s.H % s.G == 0, "H = %d, G = %d", s.H, s.G);
    const AttentionForward<E> a{out, lse, q, k, v};
    if (ctx.kernel_version == 1) {
        naive_forward(ctx, a, routing, seqs, s);
    } else if (s.kind == AttentionKind::moba) {
        moba_forward(ctx, a, routing, seqs, s);
    } else {
        tiled_forward(ctx, a, seqs, s);
    }
}

template <class E>
void attention_delta_cpu(const Ctx&, acc_t<E>* delta, const E* dout, const E* out, DeltaShape s) {
    parallel_ranges(s.M, 256, [&](size_t b, size_t e) {
        for (size_t t = b; t < e; t++) {
            for (int h = 0; h < s.H; h++) {
                const size_t at = (t * s.H + h) * s.D;
                delta[(size_t)h * s.M + t] = dot(dout + at, out + at, s.D);
            }
        }
    });
}

template <class E>
void attention_backward_cpu(const Ctx& ctx, E* dq, E* dk, E* dv, const E* dout, const acc_t<E>* delta,
                            const E* q, const E* k, const E* v, const acc_t<E>* lse, Routing routing,
                            const Sequences& seqs, AttentionShape s) {
    const AttentionBackward<E> a{dq, dk, dv, dout, delta, q, k, v, lse};
    if (ctx.kernel_version == 1) {
        naive_backward(ctx, a, routing, seqs, s);
    } else if (s.kind == AttentionKind::moba) {
        moba_backward(ctx, a, routing, seqs, s);
    } else {
        tiled_backward(ctx, a, seqs, s);
    }
}

INSTANTIATE_AND_DOUBLE(attention_forward_cpu)
INSTANTIATE_AND_DOUBLE(attention_delta_cpu)
INSTANTIATE_AND_DOUBLE(attention_backward_cpu)
INSTANTIATE_AND_DOUBLE(attention_workspace_bytes_cpu)
INSTANTIATE_AND_DOUBLE(naive_attention_workspace_bytes)

}  // namespace moba

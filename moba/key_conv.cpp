#include "moba/key_conv.h"
#include "moba/parallel.h"
#include <algorithm>

static const int chunk_tokens = 256;

// Workspace: du (M, C), then dw of each chunk (C, W)
template <class E> size_t key_conv_workspace_bytes(KeyConvShape s) {
    return ((size_t)s.M * s.C + (size_t)ceil_div(s.M, chunk_tokens) * s.C * s.W) * sizeof(acc_t<E>);
}

// u[t,c]: only the taps inside the sequence, whose first token has position 0.
template <class E>
static acc_t<E> tap_sum(const E* k, const E* w, const int* position, size_t t, int c, KeyConvShape s) {
    acc_t<E> u = 0;
    const int taps = std::min(s.W, position[t] + 1);
    for (int l = 0; l < taps; l++) { u += acc_t<E>(w[c * s.W + l]) * acc_t<E>(k[(t - l) * s.C + c]); }
    return u;
}

template <class E>
void key_conv_forward_cpu(const Ctx&, E* y, const E* k, const E* w, const int* position, KeyConvShape s) {
    using A = acc_t<E>;
    REQUIRE(s.W >= 1 && s.W <= 8, "W = %d", s.W);
    parallel_ranges(s.M, chunk_tokens, [&](size_t b, size_t e) {
        for (size_t t = b; t < e; t++) {
            for (int c = 0; c < s.C; c++) {
                const A u = tap_sum(k, w, position, t, c, s);
                y[t * s.C + c] = E(A(k[t * s.C + c]) + u / (1 + std::exp(-u)));
            }
        }
    });
}

template <class E>
void key_conv_backward_cpu(const Ctx& ctx, E* dk, acc_t<E>* dw, const E* dy, const E* k, const E* w,
                           const int* position, KeyConvShape s) {
    using A = acc_t<E>;
    REQUIRE(key_conv_workspace_bytes<E>(s) <= ctx.workspace_bytes, "workspace of %zu bytes", ctx.workspace_bytes);
    A* du = (A*)ctx.workspace;
    A* partials = du + (size_t)s.M * s.C;
    const int chunks = ceil_div(s.M, chunk_tokens);
    parallel_for(chunks, [&](size_t chunk, int) {
        A* sum = partials + chunk * s.C * s.W;
        std::fill_n(sum, s.C * s.W, A(0));
        const size_t end = std::min<size_t>(s.M, (chunk + 1) * chunk_tokens);
        for (size_t t = chunk * chunk_tokens; t < end; t++) {
            const int taps = std::min(s.W, position[t] + 1);
            for (int c = 0; c < s.C; c++) {
                const A u = tap_sum(k, w, position, t, c, s), sig = 1 / (1 + std::exp(-u));
                const A d = A(dy[t * s.C + c]) * sig * (1 + u * (1 - sig));
                du[t * s.C + c] = d;
                for (int l = 0; l < taps; l++) { sum[c * s.W + l] += d * A(k[(t - l) * s.C + c]); }
            }
        }
    });
    for (int chunk = 0; chunk < chunks; chunk++) {
        for (int i = 0; i < s.C * s.W; i++) { dw[i] += partials[(size_t)chunk * s.C * s.W + i]; }
    }
    parallel_ranges(s.M, chunk_tokens, [&](size_t b, size_t e) {
        for (size_t t = b; t < e; t++) {
            for (int c = 0; c < s.C; c++) {
                A sum = A(dy[t * s.C + c]);
                // token t+l of the same sequence saw this key through tap l
                for (int l = 0; l < s.W && t + l < (size_t)s.M && position[t + l] == position[t] + l; l++) {
                    sum += A(w[c * s.W + l]) * du[(t + l) * s.C + c];
                }
                dk[t * s.C + c] = E(sum);
            }
        }
    });
}

#define INSTANTIATE(E)                                                                                       \
    template void key_conv_forward_cpu(const Ctx&, E*, const E*, const E*, const int*, KeyConvShape);        \
    template void key_conv_backward_cpu(const Ctx&, E*, acc_t<E>*, const E*, const E*, const E*, const int*, \
                                        KeyConvShape);                                                       \
    template size_t key_conv_workspace_bytes<E>(KeyConvShape);
INSTANTIATE(double)
INSTANTIATE(float)
INSTANTIATE(bf16)

#include "moba/ops/key_conv.h"
#include "moba/core/parallel.h"
#include <algorithm>
#include <vector>

namespace moba {

static const int chunk_tokens = 256;

// Workspace: du (M, C), then dw of each chunk (chunks, W, C).
template <class E>
size_t key_conv_workspace_bytes_cpu(KeyConvShape s) {
    return ((size_t)s.M * s.C + (size_t)ceil_div(s.M, chunk_tokens) * s.C * s.W) * sizeof(acc_t<E>);
}

// The taps as (W, C), because the inner loops run over channels.
template <class E>
static std::vector<acc_t<E>> transposed(const E* w, KeyConvShape s) {
    std::vector<acc_t<E>> out((size_t)s.W * s.C);
    for (int c = 0; c < s.C; c++) {
        for (int l = 0; l < s.W; l++) { out[(size_t)l * s.C + c] = acc_t<E>(w[c * s.W + l]); }
    }
    return out;
}

// Computes u[t,:]. Uses only taps inside the sequence; its first token has position 0.
template <class E>
static void tap_sums(acc_t<E>* u, const E* k, const std::vector<acc_t<E>>& w, int position, size_t t,
                     KeyConvShape s) {
    std::fill_n(u, s.C, acc_t<E>(0));
    const int taps = std::min(s.W, position + 1);
    for (int l = 0; l < taps; l++) {
        const E* row = k + (t - l) * s.C;
        const acc_t<E>* tap = w.data() + (size_t)l * s.C;
#pragma omp simd
        for (int c = 0; c < s.C; c++) { u[c] += tap[c] * acc_t<E>(row[c]); }
    }
}

template <class E>
void key_conv_forward_cpu(const Ctx&, E* y, const E* k, const E* w, const int* position, KeyConvShape s) {
    using A = acc_t<E>;
    REQUIRE(s.W >= 1 && s.W <= 8, "W = %d", s.W);
    const std::vector<A> taps = transposed(w, s);
    parallel_ranges(s.M, chunk_tokens, [&](size_t b, size_t e) {
        std::vector<A> u(s.C);
        for (size_t t = b; t < e; t++) {
            const size_t row = s.cached ? position[t] : t, at = t * s.C;  // row of k, first element of y
            tap_sums(u.data(), k, taps, position[t], row, s);
            const E* key = k + row * s.C;
#pragma omp simd
            for (int c = 0; c < s.C; c++) { y[at + c] = E(A(key[c]) + u[c] / (1 + fast_exp(-u[c]))); }
        }
    });
}

template <class E>
void key_conv_backward_cpu(const Ctx& ctx, E* dk, acc_t<E>* dw, const E* dy, const E* k, const E* w,
                           const int* position, KeyConvShape s) {
    using A = acc_t<E>;
    REQUIRE(key_conv_workspace_bytes_cpu<E>(s) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    const std::vector<A> taps = transposed(w, s);
    A* du = (A*)ctx.workspace;
    A* partials = du + (size_t)s.M * s.C;  // (chunks, W, C)
    const int chunks = ceil_div(s.M, chunk_tokens);
    parallel_for(chunks, [&](size_t chunk, int) {
        A* sum = partials + chunk * s.C * s.W;
        std::fill_n(sum, s.C * s.W, A(0));
        std::vector<A> u(s.C);
        const size_t end = std::min<size_t>(s.M, (chunk + 1) * chunk_tokens);
        for (size_t t = chunk * chunk_tokens; t < end; t++) {
            tap_sums(u.data(), k, taps, position[t], t, s);
            A* d = du + t * s.C;
#pragma omp simd
            for (int c = 0; c < s.C; c++) {
                const A sig = 1 / (1 + fast_exp(-u[c]));
                d[c] = A(dy[t * s.C + c]) * sig * (1 + u[c] * (1 - sig));
            }
            for (int l = 0; l < std::min(s.W, position[t] + 1); l++) {
                const E* row = k + (t - l) * s.C;
#pragma omp simd
                for (int c = 0; c < s.C; c++) { sum[l * s.C + c] += d[c] * A(row[c]); }
            }
        }
    });
    for (int chunk = 0; chunk < chunks; chunk++) {
        for (int c = 0; c < s.C; c++) {
            for (int l = 0; l < s.W; l++) {
                dw[c * s.W + l] += partials[((size_t)chunk * s.W + l) * s.C + c];
            }
        }
    }
    parallel_ranges(s.M, chunk_tokens, [&](size_t b, size_t e) {
        std::vector<A> sum(s.C);
        for (size_t t = b; t < e; t++) {
            for (int c = 0; c < s.C; c++) { sum[c] = A(dy[t * s.C + c]); }
            // In the forward pass, token t+l of the same sequence read this key with tap l.
            for (int l = 0; l < s.W && t + l < (size_t)s.M && position[t + l] == position[t] + l; l++) {
                const A *tap = taps.data() + (size_t)l * s.C, *d = du + (t + l) * s.C;
#pragma omp simd
                for (int c = 0; c < s.C; c++) { sum[c] += tap[c] * d[c]; }
            }
            for (int c = 0; c < s.C; c++) { dk[t * s.C + c] = E(sum[c]); }
        }
    });
}

INSTANTIATE_AND_DOUBLE(key_conv_forward_cpu)
INSTANTIATE_AND_DOUBLE(key_conv_backward_cpu)
INSTANTIATE_AND_DOUBLE(key_conv_workspace_bytes_cpu)

}  // namespace moba

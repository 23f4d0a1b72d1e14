/* Shared by the CPU files of attention: structs of the operands, and the steps of which every tiled version
   is built. CPU only. */
#pragma once
#include "moba/attention/attention.h"
#include "moba/core/arena.h"
#include "moba/core/parallel.h"
#include "moba/core/tile.h"
#include <algorithm>

namespace moba {

template <class E>
struct AttentionForward {
    E* out;         // (M, H, D)
    acc_t<E>* lse;  // (H, M)
    const E* q;     // (M, H, D)
    const E* k;     // (M, G, D)
    const E* v;     // (M, G, D)
};

template <class E>
struct AttentionBackward {
    E* dq;                  // (M, H, D)
    E* dk;                  // (M, G, D)
    E* dv;                  // (M, G, D)
    const E* dout;          // (M, H, D)
    const acc_t<E>* delta;  // (H, M)
    const E* q;             // (M, H, D)
    const E* k;             // (M, G, D)
    const E* v;             // (M, G, D)
    const acc_t<E>* lse;    // (H, M)
};

// tiled.cpp: full and window
template <class E>
void tiled_forward(const Ctx&, AttentionForward<E>, const Sequences&, AttentionShape);
template <class E>
void tiled_backward(const Ctx&, AttentionBackward<E>, const Sequences&, AttentionShape);
template <class E>
size_t tiled_workspace_bytes(int max_tokens, AttentionShape, Direction direction);
// moba.cpp
template <class E>
void moba_forward(const Ctx&, AttentionForward<E>, Routing, const Sequences&, AttentionShape);
template <class E>
void moba_backward(const Ctx&, AttentionBackward<E>, Routing, const Sequences&, AttentionShape);
template <class E>
size_t moba_workspace_bytes(int max_tokens, BlockSizes sizes, AttentionShape, Direction direction);

// The first key that query t may see, by its sequence and by the window. Never decreases when t grows.
inline int first_key(const Sequences& seqs, const AttentionShape& s, int t) {
    const int begin = t - seqs.position[t];
    return s.kind == AttentionKind::window ? std::max(begin, t - s.window + 1) : begin;
}

template <class E>
acc_t<E> dot(const E* a, const E* b, int D) {
    using A = acc_t<E>;
    A sum = 0;
    for (int d = 0; d < D; d++) { sum += A(a[d]) * A(b[d]); }
    return sum;
}

// -----------------------------------------------------------------------------------------------------------
// Tiles in scratch memory: rows of acc_t, `width` elements apart, padded with zeros so that tile_matmul may
// read whole vectors.

inline int padded(int n) { return round_up(n, 16); }

template <class E>
void load_row(acc_t<E>* dst, const E* src, int D, acc_t<E> scale = 1) {
    for (int d = 0; d < D; d++) { dst[d] = acc_t<E>(src[d]) * scale; }
    std::fill(dst + D, dst + padded(D), acc_t<E>(0));
}

// dst (D, width) = the transpose of `rows` rows of src, `stride` elements apart; columns past `rows` are 0
template <class E>
void load_transposed(acc_t<E>* dst, int width, const E* src, size_t stride, int rows, int D) {
    for (int d = 0; d < D; d++) {
        for (int i = 0; i < rows; i++) { dst[(size_t)d * width + i] = acc_t<E>(src[i * stride + d]); }
        std::fill(dst + (size_t)d * width + rows, dst + (size_t)(d + 1) * width, acc_t<E>(0));
    }
}

/* The softmax of one row whose scores arrive tile by tile. `top` is the largest score so far; all sums so far
   are relative to it. */
template <class E>
struct RunningSoftmax {
    using A = acc_t<E>;
    A top = -INFINITY, sum = 0;

    // p[0..n): in scores, out weights e^(score - top), rounded to E because the product with v uses them so.
    // Returns the factor by which the caller must multiply everything that it has accumulated before.
    A update(A* p, int n) {
        const A now = std::max(top, highest(p, n));
        if (now == A(-INFINITY)) {  // nothing visible so far
            std::fill_n(p, n, A(0));
            return 1;
        }
        A total = 0;
#pragma omp simd reduction(+ : total)
        for (int j = 0; j < n; j++) {
            const A e = fast_exp(p[j] - now);
            total += e;
            p[j] = round_to<E>(e);
        }
        const A factor = top == A(-INFINITY) ? A(1) : fast_exp(top - now);
        sum = sum * factor + total;
        top = now;
        return factor;
    }
    A lse() const { return top + std::log(sum); }
};

// One row of the backward pass. In: p the scores, dp the products <dout, v>.
// Out: p = e^(score - lse), dp = ds = p (dp - delta).
template <class E>
void softmax_backward_row(acc_t<E>* p, acc_t<E>* dp, acc_t<E> lse, acc_t<E> delta, int n) {
    using A = acc_t<E>;
#pragma omp simd
    for (int j = 0; j < n; j++) {
        const A weight = fast_exp(p[j] - lse);
        p[j] = round_to<E>(weight);
        dp[j] = round_to<E>(weight * (dp[j] - delta));
    }
}

}  // namespace moba

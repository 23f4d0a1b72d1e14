/* Shared by the gate and by decoding, on the CPU only: the vectors that stand for blocks, the best K blocks,
   and how a choice is written. */
#pragma once
#include "moba/attention/gate.h"
#include "moba/core/parallel.h"
#include "moba/core/tile.h"
#include <algorithm>
#include <vector>

namespace moba {

/* The vectors that stand for one head's blocks, in panels (D, width). A panel is what one tile of scores =
   q · vectors reads, and it lies in one piece of memory: rows of one (D, num_blocks) matrix would each be on
   another page. A panel has the first parts of its blocks, then their second parts, ... */
template <class A>
struct GatePanels {
    static constexpr int width = 2 * lanes<A>;
    A* data;
    int D, parts;

    static size_t elements(int num_blocks, int D, int parts) {
        return (size_t)round_up(num_blocks * parts, width) * D;
    }
    int blocks() const { return width / parts; }                                 // of one panel
    A* panel(int n) const { return data + (size_t)(n / blocks()) * width * D; }  // of block n
    // its channels are `width` apart
    A* vector(int n, int part) const { return panel(n) + part * blocks() + n % blocks(); }
};

// Columns of the transposed means: more than num_blocks, so that a tile may read past the last block.
inline int mean_columns(int num_blocks) { return round_up(num_blocks, 16) + 16; }

// out[d * columns] = the mean of channel d over `count` keys, `stride` elements apart, rounded to E; or with
// Gate::max the largest value. NaN stays.
template <class E>
void pool_keys(acc_t<E>* out, size_t columns, const E* k, size_t stride, int count, int D, Gate rule) {
    using A = acc_t<E>;
    std::vector<A> sum(D);
    for (int t = 0; t < count; t++) {
        for (int d = 0; d < D; d++) {
            const A x = A(k[t * stride + d]);
            sum[d] = rule != Gate::max || t == 0 ? sum[d] + x : x > sum[d] || x != x ? x : sum[d];
        }
    }
    const A divisor = rule == Gate::max ? A(1) : A(std::max(count, 1));
    for (int d = 0; d < D; d++) { out[d * columns] = round_to<E>(sum[d] / divisor); }
}

// The sum of the queries of `group` heads, D elements apart, rounded to E.
template <class E>
void sum_queries(E* out, const E* q, int group, int D) {
    for (int d = 0; d < D; d++) {
        acc_t<E> sum = 0;
        for (int h = 0; h < group; h++) { sum += acc_t<E>(q[h * D + d]); }
        out[d] = E(sum);
    }
}

/* The best blocks seen so far, at most `limit`: by score, equal scores by lower index. Blocks must be offered
   in ascending order. */
template <class A>
struct Best {
    int limit = 0, count = 0;
    A score[max_top_k] = {};
    int block[max_top_k];

    void offer(A s, int n) {
        if (!(s == s)) { s = -INFINITY; }
        if (count == limit && (limit == 0 || !(s > score[count - 1]))) { return; }
        int at = count < limit ? count++ : count - 1;
        for (; at > 0 && s > score[at - 1]; at--) {
            score[at] = score[at - 1];
            block[at] = block[at - 1];
        }
        score[at] = s;
        block[at] = n;
    }
    // Whether no score of a block with these parts can be among the best.
    bool beaten(const A* parts, size_t apart, A scale) const {
        if (count < limit) { return false; }
        const A most =
            std::max(std::max(parts[0], parts[apart]), std::max(parts[2 * apart], parts[3 * apart]));
        return !(most * scale + A(1.4) > score[limit - 1]);  // log 4 = 1.386
    }
    // scores[n] = the score of block n, from its parts at scores[n * step + i * apart]; -infinity if it is
    // surely not among the best.
    void join_parts(A* scores, int num, int step, size_t apart, A scale) const {
        for (int n = 0; n < num && limit > 0; n++) {
            const A* x = scores + (size_t)n * step;
            scores[n] = beaten(x, apart, scale)
                            ? A(-INFINITY)
                            : lse_score(x[0], x[apart], x[2 * apart], x[3 * apart], scale);
        }
    }
    // Offers blocks n, n + 1, ... Most scores are below all of the best, so a whole vector of them is passed
    // by at once.
    void offer_all(const A* s, int num, int n) {
        if (limit == 0) { return; }
        int i = 0;
        for (; i + lanes<A> <= num; i += lanes<A>) {
            int above = count < limit;
            for (int l = 0; l < lanes<A>; l++) { above |= s[i + l] > score[limit - 1]; }
            for (int l = 0; above && l < lanes<A>; l++) { offer(s[i + l], n + i + l); }
        }
        for (; i < num; i++) { offer(s[i], n + i); }
    }
};

// Writes the slots of a query: the chosen past blocks in ascending order, the block of the query, then -1.
inline void write_choice(int* chosen, int K, int* past, int num_past, int own) {
    std::sort(past, past + num_past);
    std::copy_n(past, num_past, chosen);
    chosen[num_past] = own;
    std::fill(chosen + num_past + 1, chosen + K, -1);
}

// The choice of the gates `recent` and `sink`, which do not depend on the keys.
inline void choose_by_place(int* chosen, int K, int first, int own, Gate gate) {
    const int limit = std::min(K - 1, own - first);
    int past[max_top_k];
    for (int i = 0; i < limit; i++) { past[i] = own - limit + i; }
    if (gate == Gate::sink && limit > 0) { past[0] = first; }
    write_choice(chosen, K, past, limit, own);
}

}  // namespace moba

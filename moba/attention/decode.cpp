#include "moba/attention/decode.h"
#include "moba/attention/cpu.h"
#include "moba/attention/gate_cpu.h"

namespace moba {

static const int full_piece = 1024;  // keys of a piece in full and window attention

size_t CacheShape::columns(int g) const { return mean_columns(ceil_div(capacity, tokens_of_mean(g))); }

size_t CacheShape::first_mean(int g) const {
    size_t n = 0;
    for (int i = 0; i < g; i++) { n += columns(i) * D; }
    return n;
}

template <class E>
void cache_rows_cpu(const Ctx&, E* cache, const E* rows, const int* place, int count, int width) {
    std::copy_n(rows, (size_t)count * width, cache + (size_t)*place * width);
}

template <class E>
void cache_means_cpu(const Ctx&, acc_t<E>* means, const E* k_cache, const int* place, int count,
                     CacheShape s) {
    const int first = *place;
    REQUIRE(first + count <= s.capacity, "tokens %d + %d, capacity %d", first, count, s.capacity);
    const size_t row = (size_t)s.G * s.D;
    for (int g = 0; g < s.G; g++) {
        const int S = s.tokens_of_mean(g), begin = first / S, end = (first + count) / S;  // means
        acc_t<E>* mean = means + s.first_mean(g);
        parallel_ranges(end - begin, 16, [&](size_t b, size_t e) {
            for (size_t n = begin + b; n < begin + e; n++) {
                pool_keys(mean + n, s.columns(g), k_cache + n * S * row + g * s.D, row, S, s.D, s.rule);
            }
        });
    }
}

namespace {

// A range of keys, its highest score `top`, and the sum of e^(score - top). The sum of the values weighted by
// e^(score - top) is in Scratch::partial.
template <class A>
struct Piece {
    int begin, end;
    A top, sum;
};

template <class E>
struct Scratch {
    using A = acc_t<E>;
    int max_pieces, width;  // pieces of a head; keys of a piece
    size_t head_scores;     // scores of one head: first those of all blocks, later those of its pieces
    Piece<A>* pieces;       // (H, max_pieces)
    int* num_pieces;        // (H)
    A* partial;             // (H, max_pieces, D)
    A* scores;              // (H, head_scores)
    size_t bytes;

    Scratch(char* base, const CacheShape& c, const AttentionShape& s) {
        const bool moba = s.kind == AttentionKind::moba;
        max_pieces = moba ? s.gate.K << (c.blocks.levels - 1) : ceil_div(c.capacity, full_piece) + 1;
        width = padded(moba ? c.blocks.S : full_piece);
        head_scores = std::max((size_t)max_pieces * width, moba ? c.columns(c.blocks.levels - 1) : 0);
        BumpAllocator w(base);
        pieces = w.take<Piece<A>>((size_t)s.H * max_pieces);
        num_pieces = w.take<int>(s.H);
        partial = w.take<A>((size_t)s.H * max_pieces * s.D);
        scores = w.take<A>(s.H * head_scores);
        bytes = w.bytes();
    }
};

// Writes the blocks that one head, or the heads of a shared choice together, choose as pieces; returns how
// many. q: of the head, or of the first one.
template <class E>
int moba_pieces(Piece<acc_t<E>>* out, acc_t<E>* scores, const E* q, const acc_t<E>* mean, size_t columns,
                int length, int S, int K, const AttentionShape& s) {
    using A = acc_t<E>;
    const int own = (length - 1) / S;
    int chosen[max_top_k];
    if (!has_scores(s.gate.rule)) {
        choose_by_place(chosen, K, 0, own, s.gate.rule);
    } else {
        const int parts = parts_of(s.gate.rule);
        std::vector<E> sum(s.D);
        sum_queries(sum.data(), q, s.gate.together() ? s.H / s.G : 1, s.D);
        const std::vector<A> row(sum.begin(), sum.end());
        if (own > 0) {
            tile_matmul<A>(scores, columns, row.data(), s.D, 1, mean, columns, 1,
                           round_up(own * parts, lanes<A>), s.D);
        }
        Best<A> best;
        best.limit = std::min(K - 1, own);
        if (parts > 1) { best.join_parts(scores, own, parts, 1, 1 / std::sqrt(A(s.D))); }
        best.offer_all(scores, own, 0);
        write_choice(chosen, K, best.block, best.count, own);
    }
    int count = 0;
    for (int i = 0; i < K && chosen[i] >= 0; i++) {
        out[count++] = {chosen[i] * S, std::min(length, (chosen[i] + 1) * S), 0, 0};
    }
    return count;
}

template <class E>
void weigh_piece(Piece<acc_t<E>>& p, acc_t<E>* partial, acc_t<E>* scores, const E* q, const E* k, const E* v,
                 size_t row, int D) {
    using A = acc_t<E>;
    const int n = p.end - p.begin;
    const A scale = A(1) / std::sqrt(A(D));
    for (int j = 0; j < n; j += 4) {
        four_dots<E>(scores + j, q, k + (p.begin + j) * row, row, D, std::min(4, n - j));
    }
    for (int j = 0; j < n; j++) { scores[j] *= scale; }
    RunningSoftmax<E> softmax;
    softmax.update(scores, n);
    p.top = softmax.top;
    p.sum = softmax.sum;
    if constexpr (std::is_same_v<E, A>) {
        if (D % lanes<A> == 0) {
            return tile_matmul<A>(partial, D, scores, n, 1, v + p.begin * row, row, 1, D, n);
        }
    }
    std::fill_n(partial, D, A(0));
    for (int j = 0; j < n; j++) {
        const E* value = v + (p.begin + j) * row;
        for (int d = 0; d < D; d++) { partial[d] += scores[j] * A(value[d]); }
    }
}

}  // namespace

template <class E>
void decode_attention_cpu(const Ctx& ctx, E* out, const E* q, const E* k_cache, const E* v_cache,
                          const acc_t<E>* means, const int* place, int longest, CacheShape c,
                          AttentionShape s) {
    using A = acc_t<E>;
    const int length = *place + 1;
    REQUIRE(length >= 1 && length <= longest && longest <= c.capacity && s.H % s.G == 0,
            "length = %d of %d of %d, H = %d, G = %d", length, longest, c.capacity, s.H, s.G);
    const Scratch<E> w(ctx.workspace, c, s);
    REQUIRE(w.bytes <= ctx.workspace_bytes, "workspace of %zu bytes, needs %zu", ctx.workspace_bytes,
            w.bytes);
    const int group = s.H / s.G, D = s.D;
    const size_t row = (size_t)s.G * D;
    const int alike = s.kind == AttentionKind::moba && s.gate.together() ? group : 1;  // heads of a choice
    parallel_for(s.H / alike, [&](size_t item, int) {
        const size_t h = item * alike;
        Piece<A>* pieces = w.pieces + h * w.max_pieces;
        const int g = (int)h / group;
        if (s.kind == AttentionKind::moba) {
            const int level = g % c.blocks.levels;
            const int count =
                moba_pieces<E>(pieces, w.scores + h * w.head_scores, q + h * D, means + c.first_mean(g),
                               c.columns(g), length, c.blocks.of_head(g), s.gate.K << level, s);
            for (size_t i = h; i < h + alike; i++) {
                if (i > h) { std::copy_n(pieces, count, w.pieces + i * w.max_pieces); }
                w.num_pieces[i] = count;
            }
            return;
        }
        int count = 0, t = s.kind == AttentionKind::window ? std::max(0, length - s.window) : 0;
        for (; t < length; t += full_piece) { pieces[count++] = {t, std::min(length, t + full_piece), 0, 0}; }
        w.num_pieces[h] = count;
    });
    // One item is a piece of all query heads that share their keys: these come from memory only once.
    parallel_for((size_t)s.G * w.max_pieces, [&](size_t item, int) {
        const size_t g = item / w.max_pieces, piece = item % w.max_pieces;
        for (size_t h = g * group; h < (g + 1) * group; h++) {
            if ((int)piece >= w.num_pieces[h]) { continue; }
            const size_t i = h * w.max_pieces + piece;
            weigh_piece<E>(w.pieces[i], w.partial + i * D, w.scores + h * w.head_scores + piece * w.width,
                           q + h * D, k_cache + g * D, v_cache + g * D, row, D);
        }
    });
    for (int h = 0; h < s.H; h++) {
        const Piece<A>* pieces = w.pieces + (size_t)h * w.max_pieces;
        A top = -INFINITY, sum = 0;
        for (int i = 0; i < w.num_pieces[h]; i++) { top = std::max(top, pieces[i].top); }
        std::vector<A> total(D);
        for (int i = 0; i < w.num_pieces[h]; i++) {
            const A factor = fast_exp(pieces[i].top - top);
            const A* partial = w.partial + ((size_t)h * w.max_pieces + i) * D;
            sum += pieces[i].sum * factor;
            for (int d = 0; d < D; d++) { total[d] += partial[d] * factor; }
        }
        for (int d = 0; d < D; d++) { out[(size_t)h * D + d] = E(total[d] / sum); }
    }
}

template <class E>
size_t decode_workspace_bytes_cpu(CacheShape c, AttentionShape s) {
    return Scratch<E>(nullptr, c, s).bytes;
}

INSTANTIATE_AND_DOUBLE(cache_rows_cpu)
INSTANTIATE_AND_DOUBLE(cache_means_cpu)
INSTANTIATE_AND_DOUBLE(decode_attention_cpu)
INSTANTIATE_AND_DOUBLE(decode_workspace_bytes_cpu)

}  // namespace moba

/* Attention on the CPU, version 2 of full and window attention: tiles of queries against tiles of keys.

   Forward: a tile of queries goes through its keys tile by tile with a running softmax, so a whole row of
   scores is never stored. Backward: round r combines key tile j with query tile j + r. Within a round no two
   pairs share a tile, so threads add to dq, dk and dv without locks. Rounds run one after another, so the
   order of every sum is fixed. */
#include "moba/attention/cpu.h"

namespace moba {

namespace {

const int tile = 128;         // keys of a tile; in the backward pass also queries
const int tile_queries = 64;  // queries of a tile in the forward pass

// Keys and values in the layout of tiles. Filled once per call, because the loops read them many times.
template <class A>
struct Packed {
    A* k_t;  // (tiles, D, tile)
    A* v;    // forward (tiles, tile, Dp); backward (tiles, D, tile), transposed like k_t
    A* k;    // (tiles, tile, Dp), backward only
};

template <class E>
void pack_rows(acc_t<E>* dst, const E* src, int heads, int g, int tile_index, int M, int D) {
    const int begin = tile_index * tile, Dp = padded(D);
    for (int i = 0; i < tile; i++) {
        acc_t<E>* row = dst + ((size_t)tile_index * tile + i) * Dp;
        if (begin + i < M) {
            load_row(row, src + ((size_t)(begin + i) * heads + g) * D, D);
        } else {
            std::fill_n(row, Dp, acc_t<E>(0));
        }
    }
}

template <class E>
void pack_transposed(acc_t<E>* dst, const E* src, int heads, int g, int tile_index, int M, int D) {
    const int begin = tile_index * tile;
    load_transposed(dst + (size_t)tile_index * D * tile, tile, src + ((size_t)begin * heads + g) * D,
                    (size_t)heads * D, std::min(tile, M - begin), D);
}

template <class E>
struct TiledScratch {
    using A = acc_t<E>;
    A *q, *dout, *p, *ds, *sum;
    explicit TiledScratch(BumpAllocator& c, int D) {
        q = c.take<A>((size_t)tile * padded(D));
        dout = c.take<A>((size_t)tile * padded(D));
        sum = c.take<A>((size_t)tile * padded(D));
        p = c.take<A>((size_t)tile * tile);
        ds = c.take<A>((size_t)tile * tile);
    }
};

// The workspace of one call.
template <class E>
struct PackedWorkspace {
    using A = acc_t<E>;
    Packed<A> packed;          // each (G, ...): the arrays above for every key/value head
    size_t head_t, head_rows;  // elements of one head: in k_t, and in an array of rows
    A* dq;                     // (H, tiles, tile, Dp)
    A *dk, *dv;                // (G, tiles, tile, Dp)
    char* scratch;

    PackedWorkspace(BumpAllocator& c, int M, const AttentionShape& s, Direction direction) {
        const bool backward = direction == Direction::backward;
        const size_t tiles = ceil_div(M, tile);
        head_t = tiles * s.D * tile;
        head_rows = tiles * tile * padded(s.D);
        packed.k_t = c.take<A>(s.G * head_t);
        packed.v = c.take<A>(s.G * std::max(head_t, head_rows));
        packed.k = c.take<A>(backward ? s.G * head_rows : 0);
        dq = c.take<A>(backward ? s.H * head_rows : 0);
        dk = c.take<A>(backward ? s.G * head_rows : 0);
        dv = c.take<A>(backward ? s.G * head_rows : 0);
        scratch = c.take<char>(max_threads() * layout_bytes<TiledScratch<E>>(s.D));
    }
};

}  // namespace

template <class E>
size_t tiled_workspace_bytes(int max_tokens, AttentionShape s, Direction direction) {
    return layout_bytes<PackedWorkspace<E>>(max_tokens, s, direction);
}

template <class E>
void tiled_forward(const Ctx& ctx, AttentionForward<E> a, const Sequences& seqs, AttentionShape s) {
    using A = acc_t<E>;
    const int M = seqs.num_tokens, D = s.D, Dp = padded(D), group = s.H / s.G;
    const A scale = 1 / std::sqrt(A(D));
    const PackedWorkspace<E> w = lay_out_workspace<PackedWorkspace<E>>(ctx, M, s, Direction::forward);
    const int tiles = ceil_div(M, tile), query_tiles = ceil_div(M, tile_queries);
    parallel_for((size_t)s.G * tiles, [&](size_t i, int) {
        const int g = (int)(i / tiles), j = (int)(i % tiles);
        pack_transposed(w.packed.k_t + g * w.head_t, a.k, s.G, g, j, M, D);
        pack_rows(w.packed.v + g * w.head_rows, a.v, s.G, g, j, M, D);
    });
    parallel_for((size_t)s.H * query_tiles, [&](size_t i, int thread) {
        BumpAllocator c(w.scratch + thread * layout_bytes<TiledScratch<E>>(D));
        const TiledScratch<E> x(c, D);
        const int h = (int)(i / query_tiles), g = h / group;
        // tiles with most keys first, so that no long tile is left for the end
        const int t0 = (query_tiles - 1 - (int)(i % query_tiles)) * tile_queries;
        const int rows = std::min(tile_queries, M - t0);
        RunningSoftmax<E> softmax[tile_queries];
        for (int r = 0; r < rows; r++) {
            load_row(x.q + r * Dp, a.q + ((size_t)(t0 + r) * s.H + h) * D, D, scale);
        }
        std::fill_n(x.sum, rows * Dp, A(0));
        for (int j = first_key(seqs, s, t0) / tile; j * tile < t0 + rows; j++) {
            const A* k_t = w.packed.k_t + g * w.head_t + (size_t)j * D * tile;
            const A* v = w.packed.v + g * w.head_rows + (size_t)j * tile * Dp;
            // no row of the tile can see more keys than these
            const int width = std::min(tile, round_up(t0 + rows - j * tile, 16));
            tile_matmul<A>(x.p, tile, x.q, Dp, 1, k_t, tile, rows, width, D);
            for (int r = 0; r < rows; r++) {
                A* p = x.p + r * tile;
                const int lo = first_key(seqs, s, t0 + r) - j * tile, hi = t0 + r + 1 - j * tile;
                if (lo > 0) { std::fill(p, p + std::min(lo, width), A(-INFINITY)); }
                if (hi < width) { std::fill(p + std::max(hi, 0), p + width, A(-INFINITY)); }
                const A factor = softmax[r].update(p, width);
                if (factor != 1) {
                    for (int d = 0; d < Dp; d++) { x.sum[r * Dp + d] *= factor; }
                }
            }
            tile_matmul<A>(x.sum, Dp, x.p, tile, 1, v, Dp, rows, Dp, width, Store::add);
        }
        for (int r = 0; r < rows; r++) {
            const A inverse = 1 / softmax[r].sum;
            E* out = a.out + ((size_t)(t0 + r) * s.H + h) * D;
            for (int d = 0; d < D; d++) { out[d] = E(x.sum[r * Dp + d] * inverse); }
            a.lse[(size_t)h * M + t0 + r] = softmax[r].lse();
        }
    });
}

// Query tile i against key tile j: adds to dq, dk and dv in the workspace, all in acc_t.
template <class E>
static void pair_backward(const AttentionBackward<E>& a, const PackedWorkspace<E>& w,
                          const TiledScratch<E>& x, const Sequences& seqs, const AttentionShape& s, int h,
                          int i, int j) {
    using A = acc_t<E>;
    const int M = seqs.num_tokens, D = s.D, Dp = padded(D), g = h / (s.H / s.G);
    const A scale = 1 / std::sqrt(A(D));
    const int t0 = i * tile, rows = std::min(tile, M - t0);
    const size_t transposed = g * w.head_t + (size_t)j * D * tile,
                 keys = g * w.head_rows + (size_t)j * tile * Dp;
    for (int r = 0; r < rows; r++) {
        const size_t at = ((size_t)(t0 + r) * s.H + h) * D;
        load_row(x.q + r * Dp, a.q + at, D, scale);
        load_row(x.dout + r * Dp, a.dout + at, D);
    }
    tile_matmul<A>(x.p, tile, x.q, Dp, 1, w.packed.k_t + transposed, tile, rows, tile, D);
    tile_matmul<A>(x.ds, tile, x.dout, Dp, 1, w.packed.v + transposed, tile, rows, tile, D);
    for (int r = 0; r < rows; r++) {
        A *p = x.p + r * tile, *ds = x.ds + r * tile;
        const int lo = std::clamp(first_key(seqs, s, t0 + r) - j * tile, 0, tile);
        const int hi = std::clamp(t0 + r + 1 - j * tile, lo, tile);
        softmax_backward_row<E>(p + lo, ds + lo, a.lse[(size_t)h * M + t0 + r],
                                a.delta[(size_t)h * M + t0 + r], hi - lo);
        for (A* row : {p, ds}) {
            std::fill(row, row + lo, A(0));
            std::fill(row + hi, row + tile, A(0));
        }
    }
    tile_matmul<A>(w.dv + keys, Dp, x.p, 1, tile, x.dout, Dp, tile, Dp, rows, Store::add);
    tile_matmul<A>(w.dk + keys, Dp, x.ds, 1, tile, x.q, Dp, tile, Dp, rows, Store::add);
    tile_matmul<A>(w.dq + h * w.head_rows + (size_t)t0 * Dp, Dp, x.ds, tile, 1, w.packed.k + keys, Dp, rows,
                   Dp, tile, Store::add);
}

template <class E>
void tiled_backward(const Ctx& ctx, AttentionBackward<E> a, const Sequences& seqs, AttentionShape s) {
    using A = acc_t<E>;
    const int M = seqs.num_tokens, D = s.D, Dp = padded(D), group = s.H / s.G;
    const A scale = 1 / std::sqrt(A(D));
    const PackedWorkspace<E> w = lay_out_workspace<PackedWorkspace<E>>(ctx, M, s, Direction::backward);
    const int tiles = ceil_div(M, tile);
    parallel_for((size_t)s.G * tiles, [&](size_t i, int) {
        const int g = (int)(i / tiles), j = (int)(i % tiles);
        pack_transposed(w.packed.k_t + g * w.head_t, a.k, s.G, g, j, M, D);
        pack_transposed(w.packed.v + g * w.head_t, a.v, s.G, g, j, M, D);
        pack_rows(w.packed.k + g * w.head_rows, a.k, s.G, g, j, M, D);
        for (A* sum : {w.dk + g * w.head_rows, w.dv + g * w.head_rows}) {
            std::fill_n(sum + (size_t)j * tile * Dp, tile * Dp, A(0));
        }
        for (int h = g * group; h < (g + 1) * group; h++) {
            std::fill_n(w.dq + h * w.head_rows + (size_t)j * tile * Dp, tile * Dp, A(0));
        }
    });
    for (int round = 0; round < tiles; round++) {
        parallel_for((size_t)s.G * (tiles - round), [&](size_t item, int thread) {
            BumpAllocator c(w.scratch + thread * layout_bytes<TiledScratch<E>>(D));
            const TiledScratch<E> x(c, D);
            const int g = (int)(item / (tiles - round)), j = (int)(item % (tiles - round)), i = j + round;
            // no query of tile i sees a key of tile j
            if (first_key(seqs, s, i * tile) >= (j + 1) * tile) { return; }
            for (int h = g * group; h < (g + 1) * group; h++) { pair_backward(a, w, x, seqs, s, h, i, j); }
        });
    }
    parallel_ranges(M, 64, [&](size_t b, size_t e) {
        for (size_t t = b; t < e; t++) {
            for (int h = 0; h < s.H; h++) {
                const A* from = w.dq + h * w.head_rows + t * Dp;
                for (int d = 0; d < D; d++) { a.dq[(t * s.H + h) * D + d] = E(from[d] * scale); }
            }
            for (int g = 0; g < s.G; g++) {
                const A *from_k = w.dk + g * w.head_rows + t * Dp, *from_v = w.dv + g * w.head_rows + t * Dp;
                for (int d = 0; d < D; d++) {
                    a.dk[(t * s.G + g) * D + d] = E(from_k[d]);
                    a.dv[(t * s.G + g) * D + d] = E(from_v[d]);
                }
            }
        }
    });
}

INSTANTIATE_AND_DOUBLE(tiled_forward)
INSTANTIATE_AND_DOUBLE(tiled_backward)
INSTANTIATE_AND_DOUBLE(tiled_workspace_bytes)

}  // namespace moba

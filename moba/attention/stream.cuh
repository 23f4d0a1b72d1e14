/* Shared by the kernels of versions 3 and 4 in which a tile of rows stays in shared memory and tiles of the
   other operand pass: full and window attention, and MoBA with blocks of more than 128 keys. bf16. A warp
   computes 16 of 128 rows that stay: queries, or for dk and dv keys. Included by mma_stream_*.cu and
   wgmma_stream.cuh only.

   As in version 2 the backward pass has one kernel for dq and one for dk and dv, and both compute the
   scores: every sum belongs to one thread block, so there are no atomics and the order is fixed. That costs
   seven products in place of five. */
#pragma once
#include "moba/attention/tensor_forward.cuh"

namespace moba {

constexpr int stream_rows = 128;    // rows that stay
constexpr int stream_queries = 64;  // queries in a tile that passes

/* Where this lane's 16 bytes of a row go, when one warp copies the rows of a tile in order. The places
   repeat every 8 rows, 1024 bytes further on: so they are computed once, and the loop has few instructions.
   Tiles are filled by single warps, whose speed is the number of their instructions. */
template <int D, int rows>
struct RowCopy {
    static constexpr int lanes = D <= 32 ? 4 : D <= 64 ? 8 : 16;  // of a row; if D = 80 or 96 some do nothing
    static constexpr int together = warp_size / lanes;            // rows of an instruction
    static constexpr int places = together < 8 ? 8 / together : 1;
    int row, piece, place[places];

    __device__ RowCopy() {
        const int lane = threadIdx.x % warp_size;
        row = lane / lanes, piece = lane % lanes;
#pragma unroll
        for (int i = 0; i < places; i++) { place[i] = piece_offset(i * together + row, piece, rows); }
    }
    /* Calls f(r, place) for rows first .. first + count - 1, both multiples of 8: this lane copies 16 bytes
       of row r to the offset `place` of the tile, if it is used(). */
    template <class F>
    __device__ __forceinline__ void operator()(int first, int count, F f) const {
#pragma unroll 4
        for (int r = first; r < first + count; r += 8) {
#pragma unroll
            for (int i = 0; i < places; i++) { f(r + i * together + row, place[i] + r * row_bytes); }
        }
    }
    // Whether this lane has a piece of each row.
    __device__ __forceinline__ bool used() const { return D / 8 == lanes || piece < D / 8; }
};

/* The keys of an item in tiles of `size`, the last keys first: a tile ends where the one before it begins,
   so only the final tile may begin before the item's first key. */
template <int size>
struct PassingKeys {
    int begin, end;
    __device__ explicit PassingKeys(const Item& it) : begin(it.key_begin), end(it.key_end) {}
    __device__ int count() const { return (end - begin + size - 1) / size; }
    __device__ int first(int tile) const { return end - (tile + 1) * size; }
};

/* Query `row` of an item; rows past the end are the last query. */
struct ItemRow {
    int token;
    size_t slot;  // MoBA: the slot of its partial result

    __device__ ItemRow(const Heads& s, const Item& it, int row) {
        const int entry = it.first + min(row, it.rows - 1), id = it.list ? it.list[entry] : 0;
        token = it.list ? id / s.K : entry;
        slot = it.head * s.slots() + id;
    }
};
/* This lane's rows g and g + 8 of its warp's 16: which keys [first, last) they see; none past the end of
   the item. */
struct LaneRows {
    int token[2], first[2], last[2];
    size_t slot[2];

    __device__ __forceinline__ LaneRows(const Heads& s, const Item& it) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = lane_row() + 8 * h;
            const ItemRow x(s, it, row);
            token[h] = x.token, slot[h] = x.slot;
            first[h] = row < it.rows ? max(it.key_begin, s.first_key(token[h])) : 0;
            last[h] = row < it.rows ? min(it.key_end, token[h] + 1) : 0;
        }
    }
    __device__ bool there(int h) const { return last[h] > 0; }
};

/* lse and delta of this lane's two rows, and what follows from them. */
struct SavedRows {
    float lse2[2], delta[2];  // lse2: lse * log2(e)

    __device__ __forceinline__ SavedRows(const AttentionOperands<bf16>& a, const Heads& s, const Item& it,
                                         const LaneRows& rows) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const size_t at = (size_t)(s.first + it.head) * s.M + rows.token[h];
            lse2[h] = a.lse[at] * log2_e, delta[h] = a.delta[at];
        }
    }
    // Turns scores into p.
    template <int columns>
    __device__ __forceinline__ void weigh(float (&score)[columns][4], float scale2) const {
#pragma unroll
        for (int j = 0; j < columns; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) { score[j][i] = exp2_fast(fmaf(score[j][i], scale2, -lse2[i / 2])); }
        }
    }
    // Turns p into ds.
    template <int columns>
    __device__ __forceinline__ void slopes(float (&p)[columns][4], const float (&dp)[columns][4]) const {
#pragma unroll
        for (int j = 0; j < columns; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) { p[j][i] *= dp[j][i] - delta[i / 2]; }
        }
    }
};
/* Stores a warp's dq; for MoBA the partial results of one block. */
template <int D>
__device__ __forceinline__ void store_dq_rows(const AttentionOperands<bf16>& a, bf16* part, const Heads& s,
                                              const Item& it, const LaneRows& rows,
                                              const float (&dq)[D / 8][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        store_row(it.list ? part + rows.slot[h] * D : a.dq + s.query(rows.token[h], it.head), dq, h, s.scale,
                  rows.there(h));
    }
}

/* Copies this warp's 16 rows of q or dout into a tile that stays. */
template <int D>
__device__ __forceinline__ void copy_own_queries(unsigned char* tile, const bf16* all, const Heads& s,
                                                 const Item& it) {
    const RowCopy<D, stream_rows> copy;
    copy(warp_row(), 16, [&](int r, int place) {
        if (copy.used()) {
            cp_async_16(tile + place, all + s.query(ItemRow(s, it, r).token, it.head) + copy.piece * 8);
        }
    });
}
/* The same for keys or values that stay; zeros past the end of the item. */
template <int D>
__device__ __forceinline__ void copy_own_keys(unsigned char* tile, const bf16* all, const Heads& s,
                                              const KeyItem& it) {
    const RowCopy<D, stream_rows> copy;
    copy(warp_row(), 16, [&](int r, int place) {
        if (!copy.used()) { return; }
        cp_async_16(tile + place, all + s.key(it.key + min(r, it.keys - 1), it.g) + copy.piece * 8,
                    r < it.keys);
    });
}

// Rounds a C fragment to bf16, as A fragments.
template <int columns>
__device__ __forceinline__ void to_operand(uint32_t (&a)[columns / 2][4], const float (&c)[columns][4]) {
#pragma unroll
    for (int j = 0; j < columns; j++) {
        a[j / 2][j % 2 * 2] = nearest_bf16_pair(c[j][0], c[j][1]);
        a[j / 2][j % 2 * 2 + 1] = nearest_bf16_pair(c[j][2], c[j][3]);
    }
}

/* Sets what belongs to keys that rows g and g + 8 do not see to `unseen`. key: the first key of the tile. */
template <int columns>
__device__ __forceinline__ void mask_keys(float (&x)[columns][4], float unseen, const int (&first)[2],
                                          const int (&last)[2], int key) {
    const bool partly =
        first[0] > key || first[1] > key || last[0] < key + 8 * columns || last[1] < key + 8 * columns;
    if (!__ballot_sync(all_lanes, partly)) { return; }
    const int c = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < columns; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int at = key + 8 * j + 2 * c + i % 2;
            if (at < first[i / 2] || at >= last[i / 2]) { x[j][i] = unseen; }
        }
    }
}
/* The softmax of rows g and g + 8 so far. Weights are e^(score - top), where top may be any number near the
   largest score: it cancels out. So top follows the largest score only when that has grown by more than
   `slack`; most tiles then need no new factor for the output, which is 64 multiplications per thread.
   Weights are at most 2^slack. */
struct TileSoftmax {
    static constexpr float slack = 8;  // in powers of two
    float top[2], sum[2];              // top: times log2(e) / sqrt(D); sum: of this lane's keys only

    __device__ TileSoftmax() {
#pragma unroll
        // finite, so that a row which has seen no key yet gives weights of 0 and not NaN
        for (int h = 0; h < 2; h++) { top[h] = -1e30f, sum[h] = 0; }
    }
    /* Turns scores into weights. Returns whether earlier outputs must be multiplied by `factor`. */
    template <int columns>
    __device__ __forceinline__ bool add(float (&score)[columns][4], float (&factor)[2], float scale2) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float most[2] = {-INFINITY, -INFINITY};  // two of each: shorter dependency chains
#pragma unroll
            for (int j = 0; j < columns; j++) {
                most[0] = max(most[0], score[j][2 * half]);
                most[1] = max(most[1], score[j][2 * half + 1]);
            }
            const float now = quad_max(max(most[0], most[1])) * scale2;
            const float next = now > top[half] + slack ? now : top[half];
            factor[half] = exp2_fast(top[half] - next);
            top[half] = next;
        }
        const bool grown = __ballot_sync(all_lanes, factor[0] < 1 || factor[1] < 1);
        if (grown) {
#pragma unroll
            for (int half = 0; half < 2; half++) { sum[half] *= factor[half]; }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float total[2] = {0, 0};
#pragma unroll
            for (int j = 0; j < columns; j++) {
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const float x = exp2_fast(fmaf(score[j][2 * half + i], scale2, -top[half]));
                    score[j][2 * half + i] = x;
                    total[i] += x;
                }
            }
            sum[half] += total[0] + total[1];
        }
        return grown;
    }
};

/* Stores a warp's outputs and lse: the result, or for MoBA the partial result of one block. */
template <int D>
__device__ __forceinline__ void store_outputs(const AttentionOperands<bf16>& a, const Part<bf16>& part,
                                              const Heads& s, const Item& it, const LaneRows& rows,
                                              const float (&out)[D / 8][4], const TileSoftmax& softmax) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const float total = quad_sum(softmax.sum[h]);
        store_row(it.list ? part.out + rows.slot[h] * D : a.out + s.query(rows.token[h], it.head), out, h,
                  reciprocal(total), rows.there(h));
        if (threadIdx.x % 4 == 0 && rows.there(h)) {
            *(it.list ? part.lse + rows.slot[h] : a.lse + (size_t)(s.first + it.head) * s.M + rows.token[h]) =
                (softmax.top[h] + log2_fast(total)) * ln_2;
        }
    }
}

/* The queries of a tile that passes. */
struct alignas(16) PassingQueries {
    float lse[stream_queries], delta[stream_queries];
    int first[stream_queries], last[stream_queries];  // may see the keys [first, last); none past the end

    // Whether all queries of the tile see all keys [key, key + keys). Called by whole warps.
    __device__ __forceinline__ bool see_all(int key, int keys) const {
        const int lane = threadIdx.x % warp_size;
        bool all = true;
#pragma unroll
        for (int i = lane; i < stream_queries; i += warp_size) {
            all &= first[i] <= key && last[i] >= key + keys;
        }
        return __ballot_sync(all_lanes, all) == all_lanes;
    }
};

/* Copies row `row` of queries that pass: what is not q and dout. Returns the row of q. */
__device__ __forceinline__ unsigned copy_query(PassingQueries& x, int r, const AttentionOperands<bf16>& a,
                                               const Heads& s, const KeyItem& it, int row) {
    int head, token;
    find_row(&head, &token, s, it, min(row, it.rows - 1));
    const size_t saved = (size_t)(s.first + head) * s.M + token;
    cp_async_4(x.lse + r, a.lse + saved);
    cp_async_4(x.delta + r, a.delta + saved);
    x.first[r] = row < it.rows ? s.first_key(token) : 0;
    x.last[r] = row < it.rows ? token + 1 : 0;
    return (unsigned)token * s.H + s.first + head;
}

/* Turns the scores of this warp's 16 keys (rows g and g + 8; key: row g) against 64 queries into p. `all`:
   every query sees every key. lse(j): of queries 8 j + 2 c and 8 j + 2 c + 1. */
template <class Pairs>
__device__ __forceinline__ void weigh_passing(float (&score)[stream_queries / 8][4], const Pairs& lse,
                                              const PassingQueries& x, int key, bool all, float scale2) {
    const int c = threadIdx.x % 4;
#pragma unroll
    for (int j = 0; j < stream_queries / 8; j++) {
        const Pack<float, 2> y = lse(j);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            score[j][i] = exp2_fast(fmaf(score[j][i], scale2, y.at[i % 2] * -log2_e));
        }
    }
    if (all) { return; }
#pragma unroll
    for (int j = 0; j < stream_queries / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int query = 8 * j + 2 * c + i % 2, at = key + i / 2 * 8;
            if (at < x.first[query] || at >= x.last[query]) { score[j][i] = 0; }
        }
    }
}

/* Turns p of 8 n queries, from query 8 * first on, into ds. delta(j): as lse in weigh_passing. */
template <int n, class Pairs>
__device__ __forceinline__ void slopes_passing(float (&p)[stream_queries / 8][4], const float (&dp)[n][4],
                                               const Pairs& delta, int first) {
#pragma unroll
    for (int j = 0; j < n; j++) {
        const Pack<float, 2> y = delta(first + j);
#pragma unroll
        for (int i = 0; i < 4; i++) { p[first + j][i] *= dp[j][i] - y.at[i % 2]; }
    }
}

/* Stores dk and dv of this warp's keys: row `row` of the item is row g of the warp's first fragment. MoBA:
   the partial sums of the item. */
template <int D>
__device__ __forceinline__ void store_key_rows(const AttentionOperands<bf16>& a, const KeySums& sums,
                                               const Heads& s, const KeyItem& it, int row,
                                               const float (&dk)[D / 8][4], const float (&dv)[D / 8][4]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int r = row + 8 * h;
        const bool there = r < it.keys;
        if (!s.chosen) {
            const size_t at = s.key(it.key + min(r, it.keys - 1), it.g);
            store_row(a.dk + at, dk, h, s.scale, there);
            store_row(a.dv + at, dv, h, 1, there);
        } else if (there) {
            const int begin = s.blocks.start[it.block], c = threadIdx.x % 4;
            float* to = sums.row(it.head / s.group(), begin, it.more, it.key + r - begin) + 2 * c;
#pragma unroll
            for (int j = 0; j < D / 8; j++) {
                store_pack(to + 8 * j, Pack<float, 2>{{dk[j][2 * h] * s.scale, dk[j][2 * h + 1] * s.scale}});
                store_pack(to + 8 * j + D, Pack<float, 2>{{dv[j][2 * h], dv[j][2 * h + 1]}});
            }
        }
    }
}

// -----------------------------------------------------------------------------------------------------------
// Launches

// Items of the forward pass and of dq: a thread block has one tile of queries.
inline Items stream_query_items(const Heads& s) {
    return s.chosen ? Items{stream_rows, 1, (int)(s.slots() / stream_rows)} : items_of_tokens(1);
}
inline unsigned stream_query_blocks(const Heads& s, const Items& items) {
    return (unsigned)s.count * (s.chosen ? items.places(s.blocks.num_blocks) : ceil_div(s.M, stream_rows));
}

// Thread blocks of dk and dv: one for each tile of an item's keys.
inline dim3 stream_key_blocks(const Heads& s, const KeySums& sums, const Items& items) {
    const int kv_heads = s.count / s.group();
    return s.chosen
               ? dim3((unsigned)kv_heads * items.places(s.blocks.num_blocks), ceil_div(sums.S, stream_rows))
               : dim3((unsigned)(ceil_div(s.M, stream_rows) * kv_heads));
}

}  // namespace moba

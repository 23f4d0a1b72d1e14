/* Shared by versions 3 and 4 of MoBA's backward pass. Included by mma_backward.cu and wgmma_backward.cu only.

   One pass with five products, where version 2 has two passes with seven: the keys and their sums stay, the
   queries pass in tiles. The part of dq that a query gets from a block is complete after one tile, so it is
   stored in the query's slot: no atomics, and a fixed order.

   A thread block of 2 S threads computes one item: the keys of a block, and queries of all heads that share
   them. Keys are the rows of all products except the last. So p and ds are C fragments, which can be used
   directly as the A fragments of dv += p dout and dk += ds q. Only ds passes through shared memory, once, for
   dq = ds' K. */
#pragma once
#include "moba/attention/tensor_forward.cuh"

namespace moba {

constexpr int tile_queries = 64;

/* An item: keys of a block, and queries of all heads of a group. */
struct KeyTile {
    int g;                 // key/value head
    int head;              // first query head of the group, counted from the launch's first head
    int key, keys;         // first key of the block, number of its keys
    int skip, rows, more;  // as in ListPart
    int block;
    unsigned first_entry;  // first entry of the item in the first head's list
    int of_first_head;     // rows in the first head's list; may be negative
    bool only;             // the block has no other item
};
/* Fills `to`, which is in shared memory: in registers it would need eleven of every thread. Called by the
   whole thread block; returns false if there is no item. */
__device__ inline bool take_key_tile(KeyTile& to, const Heads& s, const Items& items) {
    ListPart x;
    if (!find_item(x, s, items, blockIdx.x)) { return false; }
    if (threadIdx.x == 0) {
        const int start = s.blocks.start[x.block], end = s.blocks.start[x.block + 1];
        const int first = s.starts(x.head)[x.block] + x.skip,
                  entries = list_begin(s, x.head, items.group, x.block + 1) -
                            list_begin(s, x.head, items.group, x.block);
        to = {s.kv_head(x.head),
              x.head,
              start,
              end - start,
              x.skip,
              x.rows,
              x.more,
              x.block,
              x.head * (unsigned)s.slots() + first,
              list_length(s, x.head, x.block) - x.skip,
              entries == x.rows};
    }
    __syncthreads();
    return true;
}
// Finds the head and the list entry of row `row` of the item. Rows past the end get the last one.
__device__ __forceinline__ void find_entry(int& head, int& id, const Heads& s, const KeyTile& it, int row) {
    const int r = min(row, it.rows - 1);
    if (r < it.of_first_head) {
        head = it.head;
        id = s.list[it.first_entry + (unsigned)r];
        return;
    }
    int h = it.head, i = it.skip + r;
    for (int n; i >= (n = list_length(s, h, it.block)); h++) { i -= n; }
    head = h;
    id = s.list[h * (unsigned)s.slots() + (unsigned)(s.starts(h)[it.block] + i)];
}

/* The queries of a tile. */
struct QueryRows {
    float lse[tile_queries], delta[tile_queries];
    int seen[tile_queries];       // number of keys of the block that the query sees; 0: row past the end
    unsigned slot[tile_queries];  // slot for the query's part of dq
};

/* Shared memory of a thread block. q, dout and QueryRows have `buffers` buffers, ds has buffers - 1. */
template <int D, int S, int buffers>
struct BackwardMemory {
    static constexpr int tile_bytes = panels<D> * tile_queries * row_bytes, ds_bytes = S * row_bytes;
    unsigned char *k, *v;   // (S, D) bf16, in panels
    unsigned char* slopes;  // (buffers - 1, S, tile_queries) bf16: one panel each
    unsigned char* tiles;   // (buffers, {q, dout}, tile_queries, D) bf16, in panels
    QueryRows* all_rows;    // (buffers)
    KeyTile* item;          // (1)
    size_t bytes;

    HOST_DEVICE explicit BackwardMemory(void* base) {
        SharedLayout layout(base);
        k = layout.take<unsigned char>(key_tile_bytes<D, S>);
        v = layout.take<unsigned char>(key_tile_bytes<D, S>);
        slopes = layout.take<unsigned char>((buffers - 1) * ds_bytes);
        tiles = layout.take<unsigned char>(buffers * 2 * tile_bytes);
        all_rows = layout.take<QueryRows>(buffers);
        item = layout.take<KeyTile>(1);
        bytes = layout.bytes();
    }
    __device__ unsigned char* ds(int tile) const { return slopes + tile % (buffers - 1) * ds_bytes; }
    __device__ unsigned char* q(int tile) const { return tiles + tile % buffers * 2 * tile_bytes; }
    __device__ unsigned char* dout(int tile) const { return q(tile) + tile_bytes; }
    __device__ QueryRows& rows(int tile) const { return all_rows[tile % buffers]; }
};

/* Copies tiles of queries to shared memory by cp.async. Each thread copies a part of one row; it loads the
   row's list entry one tile ahead. */
template <int D, int S>
struct QueryStream {
    static constexpr int row_threads = 2 * S / tile_queries;
    int head, id;

    __device__ __forceinline__ void start(const Heads& s, const KeyTile& it) {
        find_entry(head, id, s, it, threadIdx.x / row_threads);
    }
    template <class Memory>
    __device__ __forceinline__ void fetch(const Memory& m, const AttentionOperands<bf16>& a, const Heads& s,
                                          const KeyTile& it, Divisor query_of, int tile) {
        const int row = threadIdx.x / row_threads, sub = threadIdx.x % row_threads;
        const bool there = tile * tile_queries + row < it.rows;
        const int token = query_of(id);
        const bf16 *q = a.q + s.query(token, head), *dout = a.dout + s.query(token, head);
#pragma unroll
        for (int i = 0; i < D / 8 / row_threads; i++) {
            // in this order 8 lanes write to 8 different groups of banks
            const int piece = (i ^ row % (8 / row_threads)) * row_threads + sub;
            cp_async_16(m.q(tile) + piece_offset(row, piece, tile_queries), q + piece * 8, there);
            cp_async_16(m.dout(tile) + piece_offset(row, piece, tile_queries), dout + piece * 8, there);
        }
        if (sub == 0) {
            QueryRows& x = m.rows(tile);
            const size_t at = (size_t)(s.first + head) * s.M + token;
            cp_async_4(x.lse + row, a.lse + at);
            cp_async_4(x.delta + row, a.delta + at);
            x.seen[row] = there ? min(it.keys, token + 1 - it.key) : 0;
            x.slot[row] = head * (unsigned)s.slots() + id;
        }
        find_entry(head, id, s, it, (tile + 1) * tile_queries + row);
    }
};

template <int D, int S, class Memory>
__device__ __forceinline__ void fetch_keys(const Memory& m, const AttentionOperands<bf16>& a, const Heads& s,
                                           const KeyTile& it) {
    for (int o = threadIdx.x; o < S * (D / 8); o += 2 * S) {
        const int r = o / (D / 8), piece = o % (D / 8);
        const size_t from = s.key(it.key + min(r, it.keys - 1), it.g) + piece * 8;
        cp_async_16(m.k + piece_offset(r, piece, S), a.k + from, r < it.keys);
        cp_async_16(m.v + piece_offset(r, piece, S), a.v + from, r < it.keys);
    }
}

/* lse, or delta, of a lane's 16 queries: pair j has those of queries 8 j + 2 c and 8 j + 2 c + 1. */
struct QueryPairs {
    Pack<float, 2> at[tile_queries / 8];

    __device__ __forceinline__ void load(const float* from) {
#pragma unroll
        for (int j = 0; j < tile_queries / 8; j++) {
            at[j] = load_pack<float, 2>(from + 8 * j + threadIdx.x % 4 * 2);
        }
    }
    __device__ __forceinline__ Pack<float, 2> operator()(int j) const { return at[j]; }
};
/* The same, read from shared memory each time. For kernels without free registers. */
struct SharedPairs {
    const float* from;  // (tile_queries)
    __device__ __forceinline__ Pack<float, 2> operator()(int j) const {
        return load_pack<float, 2>(from + 8 * j + threadIdx.x % 4 * 2);
    }
};

/* Turns the scores of this warp's 16 keys (rows g and g + 8) against 64 queries into p; 0 where the query
   does not see the key. */
template <int S, class Pairs>
__device__ __forceinline__ void weights(float (&score)[tile_queries / 8][4], const Pairs& lse_of,
                                        const QueryRows& x, float scale2) {
    const int lane = threadIdx.x % warp_size, key = warp_row() + lane / 4, c = lane % 4;
    const bool masked = __ballot_sync(all_lanes, x.seen[lane] < S || x.seen[lane + warp_size] < S);
#pragma unroll
    for (int j = 0; j < tile_queries / 8; j++) {
        const int at = 8 * j + 2 * c;
        const Pack<float, 2> lse = lse_of(j);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            score[j][i] = exp2_fast(fmaf(score[j][i], scale2, lse.at[i % 2] * -log2_e));
        }
        if (masked) {
            const int seen[2] = {x.seen[at], x.seen[at + 1]};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (key + i / 2 * 8 >= seen[i % 2]) { score[j][i] = 0; }
            }
        }
    }
}
/* p as A fragments; ds = p (dp - delta), as A fragments and in its tile (S, tile_queries). For 8 n queries,
   from query 8 * first on. */
template <int S, int n, class Pairs>
__device__ __forceinline__ void slopes(uint32_t (&p)[tile_queries / 16][4],
                                       uint32_t (&ds)[tile_queries / 16][4],
                                       const float (&weight)[tile_queries / 8][4], const float (&dp)[n][4],
                                       unsigned char* ds_tile, const Pairs& delta_of, int first = 0) {
    const int lane = threadIdx.x % warp_size, key = warp_row() + lane / 4, c = lane % 4;
#pragma unroll
    for (int i = 0; i < n; i++) {
        const int j = first + i;
        const Pack<float, 2> delta = delta_of(j);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float one = weight[j][2 * h], two = weight[j][2 * h + 1];
            const uint32_t both =
                nearest_bf16_pair(one * (dp[i][2 * h] - delta.at[0]), two * (dp[i][2 * h + 1] - delta.at[1]));
            p[j / 2][j % 2 * 2 + h] = nearest_bf16_pair(one, two);
            ds[j / 2][j % 2 * 2 + h] = both;
            store_operand((uint32_t*)(ds_tile + piece_offset(key + 8 * h, j, S) + 4 * c), both);
        }
    }
}

/* Stores dq of this warp's 16 queries, 8 * columns channels from `channel` on, in their slots. */
template <int D, int columns>
__device__ __forceinline__ void store_dq(bf16* part, const float (&dq)[columns][4], const QueryRows& x,
                                         int rows_left, int channel, float scale) {
    const int first = threadIdx.x / warp_size % 4 * 16 + threadIdx.x % warp_size / 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int r = first + 8 * h;
        store_row(part + (size_t)x.slot[r] * D + channel, dq, h, scale, r < rows_left);
    }
}

/* Stores dk and dv of this warp's 16 keys: the result if the block has only this item, otherwise the item's
   partial sums in fp32. */
template <int D>
__device__ __forceinline__ void store_sums(const AttentionOperands<bf16>& a, const KeySums& sums,
                                           const Heads& s, const KeyTile& it, const float (&dk)[D / 8][4],
                                           const float (&dv)[D / 8][4]) {
    const int lane = threadIdx.x % warp_size, first = warp_row() + lane / 4, c = lane % 4;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int key = first + 8 * h;
        if (key >= it.keys) { continue; }
        float* to = sums.row(it.head / s.group(), it.key, it.more, key) + 2 * c;
        const size_t at = s.key(it.key + key, it.g) + 2 * c;
#pragma unroll
        for (int j = 0; j < D / 8; j++) {
            const Pack<float, 2> x{{dk[j][2 * h] * s.scale, dk[j][2 * h + 1] * s.scale}},
                y{{dv[j][2 * h], dv[j][2 * h + 1]}};
            if (it.only) {
                *(uint32_t*)(a.dk + at + 8 * j) = nearest_bf16_pair(x.at[0], x.at[1]);
                *(uint32_t*)(a.dv + at + 8 * j) = nearest_bf16_pair(y.at[0], y.at[1]);
            } else {
                store_pack(to + 8 * j, x);
                store_pack(to + 8 * j + D, y);
            }
        }
    }
}

}  // namespace moba

/* Shared by the kernels of version 4 in which a tile of rows stays in shared memory and tiles of the other
   operand pass: full and window attention, and MoBA with blocks of more than 128 keys. bf16, D = 64 or 128.
   Included by wgmma_stream_*.cu only.

   A thread block has three warpgroups. Two compute, 64 rows each. The third one only copies: each of its warps
   fills one buffer, again and again, by cp.async. A buffer has two mbarriers: `full` (the copying warp arrives)
   and `empty` (the computing warps arrive). So there is no __syncthreads in the loop, and while one warpgroup
   computes exponentials, the tensor cores work for the other one. */
#pragma once
#include "moba/attention/tensor_forward.cuh"

namespace moba {

constexpr int stream_rows = 128;                    // rows that stay
constexpr int stream_keys = 128;                    // keys in a tile that passes
constexpr int stream_queries = 64;                  // queries in a tile that passes
constexpr int stream_buffers = 4, stream_threads = 3 * 128;
// Registers of a thread after the warpgroups have divided those of the launch (168 each) among them.
constexpr int computing_registers = 232, copying_registers = 40;

/* Two mbarriers for each buffer. Uses of a buffer are counted from 0. */
struct BufferBarriers {
    uint64_t full[stream_buffers], empty[stream_buffers];

#if HOPPER_CODE
    // Called by the whole thread block.
    __device__ void init() {
        if (threadIdx.x == 0) {
            for (int i = 0; i < stream_buffers; i++) {
                mbarrier_init(full + i, warp_size);
                mbarrier_init(empty + i, 2 * 128 / warp_size);
            }
            mbarrier_fence_init();
        }
        __syncthreads();
    }
    // for the copying warp
    __device__ __forceinline__ void wait_empty(int buffer, int use) { mbarrier_wait(empty + buffer, ~use & 1); }
    // All copies of this thread into the buffer are complete, also for the tensor cores.
    __device__ __forceinline__ void fill(int buffer) {
        cp_async_commit();
        cp_async_wait<0>();
        fence_proxy_async();
        mbarrier_arrive(full + buffer);
    }
    // for the computing warps
    __device__ __forceinline__ void wait_full(int buffer, int use) { mbarrier_wait(full + buffer, use & 1); }
    // This warp does not read the buffer any more.
    __device__ __forceinline__ void release(int buffer) {
        __syncwarp();
        if (threadIdx.x % warp_size == 0) { mbarrier_arrive(empty + buffer); }
    }
#endif
};

/* Where this lane's 16 bytes of a row go, when one warp copies the rows of a tile in order. The places repeat every
   8 rows, 1024 bytes further on: so they are computed once, and the loop has few instructions. Tiles are filled by
   single warps, whose speed is the number of their instructions. */
template <int D, int rows>
struct RowCopy {
    static constexpr int lanes = D / 8, together = warp_size / lanes;  // lanes of a row; rows of an instruction
    static constexpr int places = 8 / together;
    int row, piece, place[places];

    __device__ RowCopy() {
        const int lane = threadIdx.x % warp_size;
        row = lane / lanes, piece = lane % lanes;
#pragma unroll
        for (int i = 0; i < places; i++) { place[i] = piece_offset(i * together + row, piece, rows); }
    }
    /* Calls f(r, place) for rows first .. first + count - 1, both multiples of 8: this lane copies 16 bytes of row r
       to the offset `place` of the tile. */
    template <class F>
    __device__ __forceinline__ void operator()(int first, int count, F f) const {
#pragma unroll 4
        for (int r = first; r < first + count; r += 8) {
#pragma unroll
            for (int i = 0; i < places; i++) { f(r + i * together + row, place[i] + r * 128); }
        }
    }
};

/* Shared memory of the kernels whose queries stay: queries, and dout for dq; tiles of keys and values pass. */
template <int D, int operands>
struct KeyStreamMemory {
    static constexpr int tile_bytes = panels<D> * stream_rows * 128;
    static constexpr size_t bytes = (operands + stream_buffers) * tile_bytes + sizeof(BufferBarriers);
    static_assert(stream_rows == stream_keys);
    unsigned char* rows;  // (operands, stream_rows, D) bf16, in panels
    unsigned char* keys;  // (stream_buffers, stream_keys, D) bf16, in panels: K, V, K, V
    BufferBarriers* barriers;

    __device__ explicit KeyStreamMemory(unsigned char* base)
        : rows(base), keys(rows + operands * tile_bytes),
          barriers((BufferBarriers*)(keys + stream_buffers * tile_bytes)) {}
};

/* The keys of an item in tiles, the last keys first: a tile ends where the one before it begins, so only the
   final tile may begin before the item's first key. */
struct KeyTiles4 {
    int begin, end;
    __device__ int count() const { return (end - begin + stream_keys - 1) / stream_keys; }
    __device__ int first(int tile) const { return end - (tile + 1) * stream_keys; }
    // The buffers of tile `tile`, and how often they were used before
    __device__ static int k_buffer(int tile) { return tile % 2 * 2; }
    __device__ static int v_buffer(int tile) { return tile % 2 * 2 + 1; }
    __device__ static int use(int tile) { return tile / 2; }
};

#if HOPPER_CODE
/* The copying warpgroup of the kernels whose queries stay: a warp for K and one for V of the tiles 0, 2, ..., and
   the same for the tiles 1, 3, ... */
template <int D, class Memory>
__device__ __forceinline__ void copy_keys(const Memory& m, const AttentionOperands<bf16>& a, const Heads& s,
                                          const Item& it) {
    const KeyTiles4 tiles{it.key_begin, it.key_end};
    const int buffer = __shfl_sync(all_lanes, (int)threadIdx.x / warp_size % 4, 0), g = s.kv_head(it.head);
    const bf16* all = (buffer % 2 ? a.v : a.k) + s.key(0, g);
    const RowCopy<D, stream_keys> copy;
    const size_t stride = (size_t)s.G * D;
    for (int tile = buffer / 2; tile < tiles.count(); tile += 2) {
        const int skip = it.key_begin - tiles.first(tile);  // rows before the first key; only in the final tile
        unsigned char* to = m.keys + buffer * m.tile_bytes;
        m.barriers->wait_empty(buffer, tiles.use(tile));
        const bf16* from = all + (tiles.first(tile) + copy.row) * (ptrdiff_t)stride + copy.piece * 8;
        if (skip <= 0) {
            copy(0, stream_keys, [&](int, int place) {
                cp_async_16(to + place, from);
                from += copy.together * stride;
            });
        } else {
            copy(0, stream_keys, [&](int r, int place) {
                cp_async_16(to + place, r < skip ? all : from, r >= skip);
                from += copy.together * stride;
            });
        }
        m.barriers->fill(buffer);
    }
}

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
/* This lane's rows g and g + 8 of its warp's 16: which keys [first, last) they see; none past the end of the
   item. */
struct LaneRows {
    int token[2], first[2], last[2];
    size_t slot[2];

    __device__ __forceinline__ LaneRows(const Heads& s, const Item& it) {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = threadIdx.x / 32 * 16 + threadIdx.x % 32 / 4 + 8 * h;
            const ItemRow x(s, it, row);
            token[h] = x.token, slot[h] = x.slot;
            first[h] = row < it.rows ? max(it.key_begin, s.first_key(token[h])) : 0;
            last[h] = row < it.rows ? min(it.key_end, token[h] + 1) : 0;
        }
    }
    __device__ bool there(int h) const { return last[h] > 0; }
};

/* Each computing warp copies its own 16 rows of `operand` (0 or 1); then the warpgroup waits for them. */
template <int D, class Memory>
__device__ __forceinline__ void copy_own_rows(const Memory& m, const bf16* all, int operand, const Heads& s,
                                              const Item& it) {
    RowCopy<D, stream_rows>()(threadIdx.x / 32 * 16, 16, [&](int r, int place) {
        cp_async_16(m.rows + operand * m.tile_bytes + place,
                    all + s.query(ItemRow(s, it, r).token, it.head) + threadIdx.x % (D / 8) * 8);
    });
}
__device__ __forceinline__ void wait_for_own_rows(int warpgroup) {
    cp_async_commit();
    cp_async_wait<0>();
    fence_proxy_async();
    barrier_sync(1 + warpgroup, 128);
}

/* score (64 rows, columns) = 64 rows of one tile times `columns` rows of another one, over D channels. */
template <int D, int columns, int rows_a, int rows_b>
__device__ __forceinline__ void dot_rows_wgmma(float (&score)[columns / 8][4], uint64_t a, uint64_t b) {
    constexpr int unit = 16;  // bytes; the unit of addresses in descriptors
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        const int at = step % 4 * 32;
        wgmma<columns, false, false>(score, a + (step / 4 * rows_a * 128 + at) / unit,
                                     b + (step / 4 * rows_b * 128 + at) / unit, step > 0);
    }
    wgmma_commit();
}
/* sum (64 rows, D) += a (64 rows, 16 * steps, in registers) times the rows of a tile. Its group is not committed. */
template <int D, int steps>
__device__ __forceinline__ void add_rows_wgmma(float (&sum)[D / 8][4], const uint32_t (&a)[steps][4],
                                               uint64_t b) {
    constexpr int unit = 16;
#pragma unroll
    for (int step = 0; step < steps; step++) { wgmma<D, true>(sum, a[step], b + step * 2048 / unit, true); }
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
    const bool partly = first[0] > key || first[1] > key || last[0] < key + 8 * columns ||
                        last[1] < key + 8 * columns;
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
#endif

// -----------------------------------------------------------------------------------------------------------
// Launches

// Items of the forward pass and of dq: a thread block has one tile of queries.
inline Items stream_query_items(const Heads& s) {
    return s.chosen ? Items{stream_rows, 1, (int)(s.slots() / stream_rows)} : Items{0, 1, 0};
}
inline unsigned stream_query_blocks(const Heads& s, const Items& items) {
    return (unsigned)s.count * (s.chosen ? items.places(s.blocks.num_blocks) : ceil_div(s.M, stream_rows));
}

}  // namespace moba

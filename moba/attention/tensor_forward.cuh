/* Shared by versions 3 (mma.sync, sm_80 and later) and 4 (wgmma, sm_90a) of MoBA's attention: bf16, D = 64
   or 128, blocks of at most 128 keys. The gate uses dot_tile. Included by mma_*.cu, wgmma_*.cu and
   gate_tensor.cu.

   The keys of a block are one tile. So the softmax of a (query, block) is computed exactly in one step,
   without a running maximum, and its scores and its output are never in registers at the same time.

   Forward: queries are loaded from device memory directly into A fragments, and outputs are stored from C
   fragments directly to device memory: 16 bytes per lane, 64 contiguous bytes per row and instruction,
   without shared memory and without shuffles. To make this possible, the channels of K and V are exchanged
   (tensor.cuh) when they are loaded, once per item. */
#pragma once
#include "moba/attention/workspace.cuh"
#include "moba/core/tensor.cuh"

namespace moba {

constexpr float log2_e = 1.4426950408889634f, ln_2 = 0.69314718055994531f;

// Threads of a thread block of the forward kernels, and rows of their fragments: 16 for each warp.
constexpr int forward_threads = warpgroup_threads, forward_rows = forward_threads / warp_size * 16;

/* Copies rows from(r), r < n, of D channels into a tile of `rows` rows, with channels exchanged; zeros from
   row n on. n >= 1. Called by a thread block of forward_threads. All loads of a batch are issued before the
   first result is stored, so there is no branch around a load. */
template <int D, int rows, class From>
__device__ __forceinline__ void load_exchanged(unsigned char* tile, int n, From from) {
    constexpr int groups = D / 32, turns = ceil_div(rows * (D / 8), forward_threads),
                  batch = turns < 8 ? turns : 8;
    static_assert(turns % batch == 0);
    const auto place = [&](int i, int& row, int& group) {
        const int o = threadIdx.x + forward_threads * i;
        group = o / warp_size % groups, row = o / warp_size / groups * 8 + o / 4 % 8;
    };
    const int c = threadIdx.x % 4;
#pragma unroll 1
    for (int i0 = 0; i0 < turns; i0 += batch) {
        Pack<uint32_t, 4> in[batch];
#pragma unroll
        for (int i = 0; i < batch; i++) {
            int row, group;
            place(i0 + i, row, group);
            in[i] = load_pack<uint32_t, 4>((const uint32_t*)(from(min(row, n - 1)) + (4 * group + c) * 8));
        }
#pragma unroll
        for (int i = 0; i < batch; i++) {
            int row, group;
            place(i0 + i, row, group);
#pragma unroll
            for (int m = 0; m < 4; m++) {
                store_operand((uint32_t*)(tile + piece_offset(row, 4 * group + m, rows) + 4 * c),
                              row < n ? in[i].at[m] : 0u);
            }
        }
    }
}

// Bytes of a tile of K or V: (S, D) bf16, in panels.
template <int D, int S>
constexpr int key_tile_bytes = (S * row_bytes * panels<D>);

/* Shared memory of the forward kernels. */
template <int D, int S>
struct ForwardMemory {
    unsigned char *k, *v;  // (S, D) bf16 each, in panels
    size_t bytes;

    HOST_DEVICE explicit ForwardMemory(void* base) {
        SharedLayout layout(base);
        k = layout.take<unsigned char>(key_tile_bytes<D, S>);
        v = layout.take<unsigned char>(key_tile_bytes<D, S>);
        bytes = layout.bytes();
    }
};

/* score[m] = q[m] x' for `tiles` times 16 rows q, with mma.sync. x: the first `columns` rows from `x` on of
   a tile of D channels with `rows` rows. The channels of q and x have the same order. */
template <int D, int rows, int columns, int tiles>
__device__ __forceinline__ void dot_tile(float (&score)[tiles][columns / 8][4],
                                         const uint32_t (&q)[tiles][D / 16][4], const unsigned char* x) {
    const int lane = threadIdx.x % warp_size, row = lane % 8 + lane / 16 * 8, odd = lane / 8 % 2;
    const unsigned char* base = x + row * row_bytes;
    const int exchange = (odd ^ lane % 8) * 16;  // row % 8 = lane % 8
#pragma unroll
    for (int m = 0; m < tiles; m++) { set_zero(score[m]); }
#pragma unroll
    for (int step = 0; step < D / 16; step++) {
        const unsigned char* from = base + step / 4 * rows * row_bytes + (exchange ^ step % 4 * 32);
#pragma unroll
        for (int j = 0; j < columns / 8; j += 2) {
            uint32_t b[4];
            ldmatrix_x4<false>(b, from + j * 8 * row_bytes);
#pragma unroll
            for (int m = 0; m < tiles; m++) {
                mma_bf16(score[m][j], q[m][step], b[0], b[1]);
                mma_bf16(score[m][j + 1], q[m][step], b[2], b[3]);
            }
        }
    }
}

/* x / K by a multiplication. Correct for x < 2^32 / K: tensor_fits (attention.cu) checks
   that M K K <= 2^32. */
struct Divisor {
    uint32_t factor;  // 0: K = 1
    explicit Divisor(int K) : factor(K == 1 ? 0 : (uint32_t)ceil_div(1ull << 32, (unsigned long long)K)) {}
    __device__ __forceinline__ int operator()(int x) const {
        return factor ? (int)((uint64_t)(uint32_t)x * factor >> 32) : x;
    }
};

/* Stores the columns of row g (half = 0) or row g + 8 (half = 1), multiplied by factor. */
template <int columns>
__device__ __forceinline__ void store_exchanged(bf16* row, const float (&out)[columns][4], int half,
                                                float factor) {
    const int c = threadIdx.x % 4;
#pragma unroll
    for (int group = 0; group < columns / 4; group++) {
        Pack<uint32_t, 4> x;
#pragma unroll
        for (int m = 0; m < 4; m++) {
            const float(&o)[4] = out[4 * group + m];
            x.at[m] = nearest_bf16_pair(o[2 * half] * factor, o[2 * half + 1] * factor);
        }
        store_pack((uint32_t*)(row + 32 * group + 8 * c), x);
    }
}

/* Stores a row in the natural order of channels: the columns of row g (half = 0) or row g + 8 (half = 1),
   multiplied by factor. Pairs of lanes exchange 8 bytes of each product, so that four lanes write a whole
   sector of 32 bytes. Called by whole warps; there: false for a row that is not stored. */
template <int columns>
__device__ __forceinline__ void store_row(bf16* row, const float (&x)[columns][4], int half, float factor,
                                          bool there) {
    const int c = threadIdx.x % 4;
    bf16* to = row + c / 2 * 4;
#pragma unroll
    for (int j = 0; j < columns; j += 2) {
        const uint32_t one = nearest_bf16_pair(x[j][2 * half] * factor, x[j][2 * half + 1] * factor),
                       two = nearest_bf16_pair(x[j + 1][2 * half] * factor, x[j + 1][2 * half + 1] * factor);
        const uint32_t other = __shfl_xor_sync(all_lanes, c % 2 ? one : two, 1);
        const Pack<uint32_t, 2> pair{{c % 2 ? other : one, c % 2 ? two : other}};
        if (there) { store_pack((uint32_t*)(to + (j + c % 2) * 8), pair); }
    }
}

/* Turns the scores of rows g and g + 8 against all keys of the tile into probabilities, rounded, as A
   fragments, not normalised. factor: 1 / their sums. lse: natural log. seen: how many keys the rows see.
   scale2 = log2(e) / sqrt(D). */
template <int S>
__device__ __forceinline__ void softmax_tile(uint32_t (&p)[S / 16][4], float (&factor)[2], float (&lse)[2],
                                             float (&score)[S / 8][4], const int (&seen)[2], float scale2) {
    const int c = threadIdx.x % 4;
    if (__ballot_sync(all_lanes, seen[0] < S || seen[1] < S)) {
#pragma unroll
        for (int j = 0; j < S / 8; j++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (8 * j + 2 * c + i % 2 >= seen[i / 2]) { score[j][i] = -INFINITY; }
            }
        }
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // two of each: shorter dependency chains
#pragma unroll
        for (int j = 0; j < S / 8; j++) {
            top[0] = max(top[0], score[j][2 * half]);
            top[1] = max(top[1], score[j][2 * half + 1]);
        }
        const float most = quad_max(max(top[0], top[1])), shift = most * scale2;
#pragma unroll
        for (int j = 0; j < S / 8; j++) {
            const float x = exp2_fast(fmaf(score[j][2 * half], scale2, -shift)),
                        y = exp2_fast(fmaf(score[j][2 * half + 1], scale2, -shift));
            sum[0] += x, sum[1] += y;
            p[j / 2][j % 2 * 2 + half] = nearest_bf16_pair(x, y);
        }
        const float total = quad_sum(sum[0] + sum[1]);
        factor[half] = reciprocal(total);
        lse[half] = (shift + log2_fast(total)) * ln_2;
    }
}

/* Loads the list entries of this lane's rows of a tile. Rows past the end get the last entry. */
template <int n>
__device__ __forceinline__ void load_entries(int (&id)[n], const Heads& s, unsigned first, int row,
                                             int rows) {
#pragma unroll
    for (int i = 0; i < n; i++) { id[i] = s.list[first + (unsigned)min(row + 8 * i, rows - 1)]; }
}

/* An item of the forward kernels. Heads are counted from the launch's first query head. */
struct QueryItem {
    unsigned slots;      // slots of all heads before this one
    unsigned first;      // first entry of the list, counted from the launch's first head
    int head, kv, rows;  // query head, key/value head, number of queries
    int key, keys;       // first key of the block, number of its keys
};
__device__ __forceinline__ bool take_query_item(QueryItem& it, const Heads& s, const Items& items) {
    ListPart x;
    if (!find_item(x, s, items, blockIdx.x)) { return false; }
    it.head = x.head, it.kv = s.kv_head(x.head), it.rows = x.rows;
    it.slots = x.head * (unsigned)s.slots();
    it.first = it.slots + s.starts(x.head)[x.block] + x.skip;
    it.key = s.blocks.start[x.block];
    it.keys = s.blocks.start[x.block + 1] - it.key;
    return true;
}

// Calls f.template operator()<D>() for this head size.
template <class F>
void with_tensor_head_dim(int D, F f) {
    REQUIRE(has_wgmma_head_dim(D), "D = %d", D);
    D == 64 ? f.template operator()<64>() : f.template operator()<128>();
}
/* Calls f.template operator()<D, S>() for the smallest tile for this head size and block size; S at least
   `least`. */
template <int least, class F>
void with_tensor_tile(int D, int S, F f) {
    const auto with_d = [&]<int D> {
        if constexpr (least <= 16) {
            if (S <= 16) { return f.template operator()<D, 16>(); }
        }
        if constexpr (least <= 32) {
            if (S <= 32) { return f.template operator()<D, 32>(); }
        }
        S <= 64 ? f.template operator()<D, 64>() : f.template operator()<D, max_tile_keys>();
    };
    REQUIRE(S <= max_tile_keys, "S = %d", S);
    with_tensor_head_dim(D, with_d);
}

}  // namespace moba

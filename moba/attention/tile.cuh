/* Building blocks of version 2 of attention: tiles in shared memory, products of tiles in registers. Included
   by forward.cu, backward.cu, items.cu and gate_tile.cu only.

   A tile is a matrix of floats whose rows lie DT + 4 floats apart. So neighbouring rows begin in different
   banks, and 8 lanes can read 16 bytes each from 8 rows without a bank conflict.

   Thread (tm, tn) computes rows_per_thread = 4 neighbouring rows of every product, from row 4 tm on. Its
   columns are lanes_per_row = 16 apart: the keys tn + 16 j, or every 16th pack of channels. The 16 threads of
   one tm are the even lanes, or the odd lanes, of one warp. */
#pragma once
#include "moba/attention/workspace.cuh"

namespace moba {

constexpr int rows_per_thread = 4;
constexpr int lanes_per_row = warp_size / 2;       // threads that share rows; the distance of their columns
constexpr int pack_floats = pack_elements<float>;  // floats of a 16-byte access to shared memory
constexpr int row_padding = pack_floats;  // floats after each row, so that rows begin in different banks

// DT: the head size, rounded up to one of the five sizes that kernels are compiled for. tile_size: items.cuh
template <int DT>
constexpr int tile_threads = lanes_per_row*(tile_size<DT> / rows_per_thread);
template <int DT>
constexpr int row_floats = DT + row_padding;
constexpr int chunk_keys = 64;  // keys whose scores are in registers at the same time
constexpr int chunk_keys_per_thread = chunk_keys / lanes_per_row;
constexpr int weight_floats = chunk_keys + row_padding;  // length of a row of probabilities
// Calls f.template operator()<DT>() for the head size D
template <class F>
auto with_tile(int D, F f) {
    return D <= 16   ? f.template operator()<16>()
           : D <= 32 ? f.template operator()<32>()
           : D <= 64 ? f.template operator()<64>()
           : D <= 96 ? f.template operator()<96>()
                     : f.template operator()<128>();
}

// -----------------------------------------------------------------------------------------------------------
// Tiles

/* The place (tm, tn) of a thread in a tile. Shared memory serves 16 bytes per lane in 2 cycles instead of 4
   where lanes n and n ^ 1, or n and n ^ 2, read the same address. So lanes n and n ^ 1 have the same tn: they
   read the same keys. Lanes n and n ^ 2 have the same tm: they read the same queries. */
__device__ inline int thread_tm() { return (int)(threadIdx.x / warp_size * 2 + threadIdx.x % 2); }
__device__ inline int thread_tn() { return (int)(threadIdx.x % warp_size / 2); }

/* to[r] = from(r) as floats, for r < rows; zeros in the rows from there up to all_rows, and in channels
   beyond D. from(r) points to D elements, 16-byte aligned if packed. A thread issues all its loads for `most`
   rows, at most 8, before it stores the first. The 8 bf16 of a lane become 32 bytes, so the first halves of 8
   lanes would lie in only 16 of the 32 banks, two in each. Therefore lanes in every second group of 32
   channels store their upper half first: then all banks are used. */
template <int DT, int most = chunk_keys, class From>
__device__ void load_rows(float* to, int rows, int all_rows, int D, bool packed, From from) {
    using E = std::remove_cv_t<std::remove_pointer_t<decltype(from(0))>>;
    constexpr int N = pack_elements<E>, W = row_floats<DT>, threads = tile_threads<DT>;
    constexpr int across = (DT == 96 ? 128 : DT) / N;  // threads per row
    constexpr int down = threads / across;             // rows that all threads together load at a time
    constexpr int flight = most / down > 8 ? 8 : most > down ? most / down : 1;
    if (packed) {
        const int d = threadIdx.x % across * N;
        for (int r0 = threadIdx.x / across; r0 < all_rows; r0 += flight * down) {
            Pack<uint32_t, 4> in[flight];
#pragma unroll
            for (int i = 0; i < flight; i++) {
                const int r = r0 + i * down;
                in[i] = {};
                if (r < rows && d < D) { in[i] = load_pack<uint32_t, 4>((const uint32_t*)(from(r) + d)); }
            }
#pragma unroll
            for (int i = 0; i < flight; i++) {
                const int r = r0 + i * down;
                if (r < all_rows && d < DT) { store_floats<E>(to + r * W + d, in[i], d & 32); }
            }
        }
    } else {
#pragma unroll 1
        for (int o = threadIdx.x; o < all_rows * DT; o += threads) {
            const int r = o / DT, d = o % DT;
            to[r * W + d] = r < rows && d < D ? (float)from(r)[d] : 0.f;
        }
    }
}

/* s[j][i] = <row 4 tm + i of x, row tn + 16 j of y> for columns j = J0 .. J0 + J - 1.
   x (tile_size, row_floats), y (16 * columns, row_floats), both in shared memory. */
template <int DT, int J0, int J, int columns>
__device__ void dot_columns(float (&s)[columns][rows_per_thread], const float* x, const float* y) {
    constexpr int W = row_floats<DT>, N = pack_floats;
    x += thread_tm() * rows_per_thread * W;
    y += thread_tn() * W;
#pragma unroll
    for (int j = J0; j < J0 + J; j++) {
        for (int i = 0; i < rows_per_thread; i++) { s[j][i] = 0; }
    }
#pragma unroll 1
    for (int d = 0; d < DT; d += N) {
        Pack<float, N> a[rows_per_thread];
#pragma unroll
        for (int i = 0; i < rows_per_thread; i++) { a[i] = load_pack<float, N>(x + i * W + d); }
#pragma unroll
        for (int j = J0; j < J0 + J; j++) {
            const Pack<float, N> b = load_pack<float, N>(y + lanes_per_row * j * W + d);
#pragma unroll
            for (int i = 0; i < rows_per_thread; i++) {
#pragma unroll
                for (int c = 0; c < N; c++) { s[j][i] += a[i].at[c] * b.at[c]; }
            }
        }
    }
}

// The same for all columns below `keys`; the columns beyond are not changed.
template <int DT, int columns>
__device__ void dot_rows(float (&s)[columns][rows_per_thread], const float* x, const float* y, int keys) {
    if (keys > lanes_per_row * (columns - 1)) {
        dot_columns<DT, 0, columns>(s, x, y);
        return;
    }
    if constexpr (columns > 2) {
        if (keys > lanes_per_row) {  // half a chunk: happens where shared memory is small
            dot_columns<DT, 0, 2>(s, x, y);
            if (keys > 2 * lanes_per_row) { dot_columns<DT, 2, 1>(s, x, y); }
            return;
        }
    }
    dot_columns<DT, 0, 1>(s, x, y);
}

/* A thread's sums for its rows of DT channels. Of each row it has packs of `width` channels, one pack for
   every lanes_per_row * width channels. */
template <int DT>
struct RowSums {
    static constexpr int columns = DT / lanes_per_row;
    static constexpr int width = columns % 4 == 0 ? 4 : columns % 2 == 0 ? 2 : 1;
    float at[rows_per_thread][columns];

    __device__ void zero() {
#pragma unroll
        for (int i = 0; i < rows_per_thread; i++) {
            for (int c = 0; c < columns; c++) { at[i][c] = 0; }
        }
    }
    // at[i] += weight[i] * row
    __device__ void add(const float (&weight)[rows_per_thread], const float* row) {
#pragma unroll
        for (int c = 0; c < columns; c += width) {
            const Pack<float, width> b =
                load_pack<float, width>(row + (c / width * lanes_per_row + thread_tn()) * width);
#pragma unroll
            for (int i = 0; i < rows_per_thread; i++) {
#pragma unroll
                for (int w = 0; w < width; w++) { at[i][c + w] += weight[i] * b.at[w]; }
            }
        }
    }
    // at[i] += sum over j < n of p[4 tm + i, j] y[j];  n a multiple of pack_floats
    __device__ void add_rows(const float* p, const float* y, int n) {
        p += thread_tm() * rows_per_thread * weight_floats;
        for (int j = 0; j < n; j += pack_floats) {
            Pack<float, pack_floats> a[rows_per_thread];
#pragma unroll
            for (int i = 0; i < rows_per_thread; i++) {
                a[i] = load_pack<float, pack_floats>(p + i * weight_floats + j);
            }
#pragma unroll
            for (int c = 0; c < pack_floats; c++) {
                const float weight[rows_per_thread] = {a[0].at[c], a[1].at[c], a[2].at[c], a[3].at[c]};
                add(weight, y + (j + c) * row_floats<DT>);
            }
        }
    }
    // at[i] += sum over r < n of p[r, 4 tm + i] y[r]
    __device__ void add_columns(const float* p, const float* y, int n) {
        p += thread_tm() * rows_per_thread;
        for (int r = 0; r < n; r++) {
            const Pack<float, rows_per_thread> a = load_pack<float, rows_per_thread>(p + r * weight_floats);
            add(a.at, y + r * row_floats<DT>);
        }
    }
    // row[d] = at[i] * factor for a row of D elements; packed: stores whole packs, which must be aligned
    template <class Out>
    __device__ void store(Out* row, int i, int D, float factor, bool packed) const {
#pragma unroll
        for (int c = 0; c < columns; c += width) {
            const int d = (c / width * lanes_per_row + thread_tn()) * width;
            Pack<Out, width> out;
#pragma unroll
            for (int w = 0; w < width; w++) { out.at[w] = Out(at[i][c + w] * factor); }
            if (packed && d < D) { store_pack(row + d, out); }
#pragma unroll
            for (int w = 0; w < width; w++) {
                if (!packed && d + w < D) { row[d + w] = out.at[w]; }
            }
        }
    }
};

/* The queries of a tile: their tokens, and which keys each may see. */
template <int DT>
struct TileRows {
    int token[tile_size<DT>];
    int first[tile_size<DT>], last[tile_size<DT>];  // may see the keys [first, last)
    size_t slot[tile_size<DT>];                     // MoBA: the slot for the query's partial result
};

// Fills x with rows r0.. of the item. Only the first tile_size threads work.
template <int DT>
__device__ void take_rows(TileRows<DT>& x, const Heads& s, const Item& it, int r0) {
    const int r = threadIdx.x;
    if (r >= tile_size<DT>) { return; }
    const bool there = r0 + r < it.rows;
    const int entry = it.first + r0 + r;
    if (!there) {
        x.first[r] = x.last[r] = 0;
        return;
    }
    const int id = it.list ? it.list[entry] : 0, t = it.list ? id / s.K : entry;
    x.token[r] = t;
    x.slot[r] = it.head * s.slots() + id;
    x.first[r] = max(it.key_begin, s.first_key(t));
    x.last[r] = min(it.key_end, t + 1);
}

// n keys, rounded up to whole columns of all lanes. The keys that this adds have zeros in shared memory.
__device__ inline int padded_keys(int n) { return (n + lanes_per_row - 1) / lanes_per_row * lanes_per_row; }

/* Shared memory of the kernels whose queries stay: the forward kernel, and the one for dq (backward), which
   also needs dout. */
template <int DT, Direction direction>
struct QueryMemory {
    float *q, *dout;  // (tile_size, row_floats)
    float* weights;   // (tile_size, weight_floats): probabilities, or ds
    float *k, *v;     // (capacity, row_floats)
    size_t bytes;

    HOST_DEVICE QueryMemory(void* base, int capacity) {
        SharedLayout layout(base);
        q = layout.take<float>(tile_size<DT> * row_floats<DT>);
        dout =
            direction == Direction::backward ? layout.take<float>(tile_size<DT> * row_floats<DT>) : nullptr;
        weights = layout.take<float>(tile_size<DT> * weight_floats);
        k = layout.take<float>((size_t)capacity * row_floats<DT>);
        v = layout.take<float>((size_t)capacity * row_floats<DT>);
        bytes = layout.bytes();
    }
};

/* The keys and values of an item in shared memory: all of them for the whole item if they fit, else one chunk
   at a time. */
template <class E, int DT>
struct KeyTiles {
    float *k, *v;              // (capacity, row_floats)
    int capacity;              // capacity in keys
    const E *from_k, *from_v;  // (M, G, D)
    bool packed;

    __device__ void load(const Heads& s, int g, int begin, int n) const {
        const int all = padded_keys(n);
        load_rows<DT>(k, n, all, s.D, packed, [&](int r) { return from_k + s.key(begin + r, g); });
        load_rows<DT>(v, n, all, s.D, packed, [&](int r) { return from_v + s.key(begin + r, g); });
    }
    // Whether all keys of the item fit; if so, loads them. To be called once, before the item's first tile.
    __device__ bool load_all(const Heads& s, const Item& it) const {
        const int keys = it.key_end - it.key_begin;
        if (keys > capacity) { return false; }
        load(s, s.kv_head(it.head), it.key_begin, keys);
        return true;
    }
    /* Calls f(j0, n, k, v) for each chunk of the item's keys: k and v are the rows of keys j0 .. j0 + n - 1.
       `all`: the result of load_all. Before each call there is a barrier, so f may also read what was stored
       before. */
    template <class F>
    __device__ __forceinline__ void for_each_chunk(const Heads& s, const Item& it, bool all, F f) const {
        const int step = min(chunk_keys, capacity);
        for (int j0 = it.key_begin; j0 < it.key_end; j0 += step) {
            const int n = min(step, it.key_end - j0), at = all ? (j0 - it.key_begin) * row_floats<DT> : 0;
            if (!all) {
                __syncthreads();
                load(s, s.kv_head(it.head), j0, n);
            }
            __syncthreads();
            f(j0, n, k + at, v + at);
        }
    }
};

// The sum, or the maximum, over the lanes_per_row lanes that share a thread's rows: every second lane of the
// warp.
__device__ inline float row_sum(float x) {
    for (int bits = warp_size / 2; bits > 1; bits /= 2) { x += __shfl_xor_sync(all_lanes, x, bits); }
    return x;
}
__device__ inline float row_max(float x) {
    for (int bits = warp_size / 2; bits > 1; bits /= 2) { x = max(x, __shfl_xor_sync(all_lanes, x, bits)); }
    return x;
}

// -----------------------------------------------------------------------------------------------------------
// Launches

/* How many keys a thread block holds in shared memory at the same time: `whole` (all of its keys), a chunk,
   or half a chunk. `own` is the number of bytes that it needs for everything else. First goal: two thread
   blocks fit on an SM, because occupancy, which hides latency, gains more than loading K and V only once: L2
   delivers them faster than fp32 arithmetic can use them. Second goal: many keys. Defined in items.cu. */
int keys_at_once(int whole, size_t own, size_t bytes_of_a_key, size_t shared_bytes);

// `bytes`: dynamic shared memory of the kernel without keys. A block of up to max_tile_keys keys may stay as
// a whole.
template <int DT>
int key_capacity(const Heads& s, size_t bytes) {
    const int whole = s.chosen ? round_up(std::min(s.blocks.size, max_tile_keys), chunk_keys) : chunk_keys;
    // 1 KB that the driver takes; 1 KB for lse, delta and the alignment of SHARED_MEMORY
    const size_t own = bytes + sizeof(TileRows<DT>) + 1024 + 1024;
    return keys_at_once(whole, own, 2 * row_floats<DT> * sizeof(float), max_shared_memory());
}

// The number of thread blocks: one for each place of an item.
template <int DT>
unsigned item_blocks(const Heads& s, const Items& items) {
    return items.entries ? (unsigned)s.count * items.places(s.blocks.num_blocks)
                         : (unsigned)(ceil_div(s.M, tile_size<DT>) * s.count);
}

}  // namespace moba

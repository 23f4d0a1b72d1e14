/* The gate on the GPU, versions 3 and 4: scores on tensor cores. Contract: gate.h; definition: gate.cpp.

   A row has many scores, but few of them are chosen. So the work per score must be small. Two passes over the
   means:
     1  find the largest score in each of 32 classes of blocks; the (K-1)-th largest of these 32 is a lower
        bound of the chosen scores. If there are many tiles, this pass looks at every second: any part of the
        blocks gives a valid bound
     2  scores that are not below the bound become candidates of the row
   At the end the best K - 1 candidates are chosen. If a lane gets too many candidates, for example because of
   ties, they are reduced earlier, and the bound rises. Both passes compute scores with the same instructions,
   so with the same bits. */
#include "moba/attention/gate.cuh"
#include "moba/attention/tensor_forward.cuh"
#include <climits>

namespace moba {

namespace {

constexpr int tile_queries = 128, tile_means = 64, choose_threads = 256;
constexpr int half_tile = tile_means / 2;     // of its scores a lane has 8 in each of its two rows
constexpr int many_tiles = 16, sampling = 2;  // with many tiles the first pass looks at every second

// Moves the larger one of x[i] and x[j] to place i.
__device__ __forceinline__ void order(float (&x)[8], int i, int j) {
    const float a = x[i], b = x[j];
    x[i] = fmaxf(a, b), x[j] = fminf(a, b);
}
// Sorts x, largest first, if its halves of `size` numbers are sorted by a first step of the merge.
template <int size>
__device__ __forceinline__ void order_halves(float (&x)[8]) {
#pragma unroll
    for (int distance = size / 2; distance > 0; distance /= 2) {
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if ((j & distance) == 0) { order(x, j, j + distance); }
        }
    }
}
// Compares x[j] with number j, or the mirrored one, of the lane that differs in the bits `lanes`.
template <int lanes, bool mirror>
__device__ __forceinline__ void order_lanes(float (&x)[8], bool upper) {
    float other[8];
#pragma unroll
    for (int j = 0; j < 8; j++) { other[j] = __shfl_xor_sync(all_lanes, x[mirror ? 7 - j : j], lanes); }
#pragma unroll
    for (int j = 0; j < 8; j++) { x[j] = upper ? fminf(x[j], other[j]) : fmaxf(x[j], other[j]); }
}
/* Returns the n-th largest of the 32 numbers that the four lanes of a row have together, 1 <= n <= 32. A
   bitonic sort, largest first; number j of lane c has index 8 c + j. Two sorted runs are merged in steps:
   each number is compared with the one that mirrors it in the other run, then with those half as far, and so
   on; the larger one moves to the lower index. Called by whole warps. */
__device__ __forceinline__ float nth_largest(float (&x)[8], int n) {
    const int lane = threadIdx.x % warp_size, c = lane % 4;
#pragma unroll
    for (int j = 0; j < 8; j += 2) { order(x, j, j + 1); }
#pragma unroll
    for (int j = 0; j < 8; j += 4) {
        order(x, j, j + 3);
        order(x, j + 1, j + 2);
    }
    order_halves<2>(x);
#pragma unroll
    for (int j = 0; j < 4; j++) { order(x, j, 7 - j); }
    order_halves<4>(x);
    order_lanes<1, true>(x, c & 1);  // 16 numbers in two lanes
    order_halves<8>(x);
    order_lanes<3, true>(x, c & 2);  // 32
    order_lanes<1, false>(x, c & 1);
    order_halves<8>(x);
    // x[(n - 1) % 8]: an index that is known only at run time would move x to memory
    float found = -INFINITY;
#pragma unroll
    for (int j = 0; j < 8; j++) { found = fmaxf(found, j >= (n - 1) % 8 ? x[j] : -INFINITY); }
    return __shfl_sync(all_lanes, found, lane - c + (n - 1) / 8);
}

}  // namespace

/* The candidates of a row that one of its four lanes found, in shared memory, in ascending order of blocks.
   Entry i of lane c has its score at 8 i + c and its block at 8 i + 4 + c, counted from the row's beginning.
   Not in an unnamed namespace: SHARED_MEMORY would declare a second array there. */
struct Candidates {
    static constexpr int step = 8;  // from an entry of a lane to its next
    int first, end;                 // this lane's first entry, and the place of the next one

    // Entries of one lane, at most: K - 1 that remain, and the 8 that half a tile may add.
    HOST_DEVICE static constexpr int capacity(int K) { return K - 1 + half_tile / 4; }
    // Floats from a row to the next: an odd multiple of 4, so that the lists of 8 rows are in different banks
    HOST_DEVICE static constexpr int stride(int K) { return step * capacity(K) + 4; }

    // before: floats in shared memory before the candidates of the first row
    __device__ Candidates(int before, int row, int K)
        : first(before + row * stride(K) + threadIdx.x % 4), end(first) {}
    __device__ static __forceinline__ float& score(int entry) {
        SHARED_MEMORY;
        return ((float*)shared_memory)[entry];
    }
    __device__ static __forceinline__ int& block(int entry) {
        SHARED_MEMORY;
        return ((int*)shared_memory)[entry + 4];
    }
    __device__ __forceinline__ int count() const { return (unsigned)(end - first) / step; }
    __device__ __forceinline__ bool longer(int entries) const { return end - first > step * entries; }
    __device__ __forceinline__ void add(float x, int n) {
        score(end) = x;
        block(end) = n;
        end += step;
    }
    /* Reduces the candidates of the row to the best `limit`; equal scores: lower blocks first. Raises the
       bound for the scores to come. Called by whole warps. */
    __device__ __forceinline__ void shrink(int limit, float& bound) {
        constexpr int few = 6;
        if (__ballot_sync(all_lanes, quad_sum(count()) > limit + few)) { drop_low(limit); }
        int total = quad_sum(count());
        // The lowest one is removed until few enough are left: rarely more than two or three.
        while (true) {
            float low = INFINITY;  // of this lane; of equal ones the last, which has the highest block
            int at = -1;
#pragma unroll 1  // registers
            for (int entry = first; entry < end; entry += step) {
                if (score(entry) <= low) { low = score(entry), at = entry; }
            }
            const float lowest = -quad_max(-low);
            if (!__ballot_sync(all_lanes, total > limit)) {
                if (total == limit) { bound = nextafterf(lowest, INFINITY); }
                return;
            }
            const int n = at >= 0 && low == lowest ? block(at) : -1;
            const int removed = quad_max(n);
            if (total <= limit) { continue; }
            total--;
            if (n != removed) { continue; }
            end -= step;
#pragma unroll 1
            for (; at < end; at += step) {
                score(at) = score(at + step);
                block(at) = block(at + step);
            }
        }
    }

  private:
    /* Drops the row's candidates below a bound like that of the first pass, here of classes of candidates:
       few more than `limit` remain. Called by whole warps. */
    __device__ __forceinline__ void drop_low(int limit) {
        float most[8];
#pragma unroll
        for (int j = 0; j < 8; j++) { most[j] = -INFINITY; }
#pragma unroll 1
        for (int entry = first; entry < end; entry += 8 * step) {
#pragma unroll
            for (int j = 0; j < 8; j++) {
                if (entry + j * step < end) { most[j] = fmaxf(most[j], score(entry + j * step)); }
            }
        }
        const float bound = nth_largest(most, max(limit, 1));
        const int last = end;
        end = first;
#pragma unroll 1
        for (int entry = first; entry < last; entry += step) {
            if (score(entry) >= bound) { add(score(entry), block(entry)); }
        }
    }
};

namespace {

/* Shared memory of the kernel. */
template <int D>
struct TensorChooseMemory {
    static constexpr int tile_bytes = tile_means * panels<D> * row_bytes;
    unsigned char* means;  // (2, tile_means, D) bf16, in panels: double-buffered; then the candidates:
    static constexpr int candidates =
        2 * tile_bytes / (int)sizeof(float);  // (tile_queries, stride(K)) floats
    size_t bytes;

    HOST_DEVICE TensorChooseMemory(void* base, int K) {
        SharedLayout layout(base);
        means = layout.take<unsigned char>(2 * tile_bytes);
        layout.take<float>(tile_queries * Candidates::stride(K));
        bytes = layout.bytes();
    }
};

// Waits until the copies of all threads are complete and visible to the tensor cores.
template <bool hopper>
__device__ __forceinline__ void wait_for_tile() {
    cp_async_wait<0>();
#if HOPPER_CODE
    if (hopper) { fence_proxy_async(); }
#endif
    __syncthreads();
}

// Number of means whose scores a warp has in registers at the same time. With mma.sync only half a tile fits.
template <bool hopper>
constexpr int columns = hopper ? tile_means : half_tile;

/* x = the scores of this warp's 16 queries against the means of a tile, from mean `first` on. */
template <int D, bool hopper>
__device__ __forceinline__ void score_tile(float (&x)[1][columns<hopper> / 8][4], uint32_t (&q)[1][D / 16][4],
                                           const unsigned char* tile, int first) {
    if constexpr (hopper) {
#if HOPPER_CODE
        const uint64_t means = operand(tile);
        wgmma_fence();
#pragma unroll
        for (int step = 0; step < D / 16; step++) {
            wgmma<tile_means, false>(x[0], q[0][step],
                                     means + descriptor_step(channels_offset(step, tile_means)), step > 0);
        }
        wgmma_commit();
        wgmma_wait<0>(x[0], q[0]);
#endif
    } else {
        dot_tile<D, tile_means, columns<hopper>, 1>(x, q, tile + first * row_bytes);
    }
}

}  // namespace

/* chosen[t,:] as in version 1
   Maps     thread block of 8 warps -> 128 queries, for all tiles of 64 means; grid y -> a head; warp ->
            16 queries; lane -> two rows of scores, every fourth pair of columns
   Memory   q is loaded directly into fragments; means by cp.async, the next tile while this one is
            multiplied; candidates in shared memory
   Sync     one barrier per tile: this tile is complete, and no warp still reads the previous one. Candidates:
            a lane reads and writes only its own list
   Differs  from 2: tensor cores; from the beginning of the second pass scores are compared with a bound that
            is close to the final one
   Needs    bf16, s.width = D, K <= max_tensor_top_k; version 4: sm_90a */
template <int D, bool hopper>
__global__ void __launch_bounds__(choose_threads, 2)
    gate_choose_kernel3(int* chosen, const bf16* q, const bf16* mean, GateHeads s) {
    if constexpr (hopper && !HOPPER_CODE) {
        __trap();
    } else {
        SHARED_MEMORY;
        const TensorChooseMemory<D> memory(shared_memory, s.K);
        const int c = threadIdx.x % 4, row = lane_row();
        const int t0 = (gridDim.x - 1 - blockIdx.x) * tile_queries;  // queries with most past blocks first

        // of this lane's rows g and g + 8
        int own[2] = {}, first[2] = {};
        float bound[2] = {-INFINITY, -INFINITY};
        const auto limit = [&](int h) { return min(s.K - 1, own[h] - first[h]); };
        uint32_t fragments[1][D / 16][4];  // of q
        {
            const bf16* from[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int t = min(t0 + row + 8 * h, s.M - 1);
                own[h] = s.blocks.own[t];
                first[h] = s.blocks.first[own[h]];
                from[h] = q + ((size_t)t * s.H + s.first + blockIdx.y) * s.D;
            }
            load_exchanged_rows<D>(fragments[0], from[0], from[1], s.D);
        }
        // From here on blocks are counted from the first one that a query of the tile sees.
        const int begin = s.blocks.first[s.blocks.own[t0]],
                  count = s.K > 1 ? s.blocks.own[min(t0 + tile_queries, s.M) - 1] - begin : 0;
        const bf16* means = means_of_head(mean, s) + (size_t)begin * D;
#pragma unroll
        for (int h = 0; h < 2; h++) { first[h] -= begin, own[h] -= begin; }
        // All rows of this warp see the blocks from all_from to all_to - 1: queries are in ascending order.
        const int all_from = __shfl_sync(all_lanes, first[1], warp_size - 1),
                  all_to = __shfl_sync(all_lanes, own[0], 0);
        const int tiles = ceil_div(count, tile_means);
        // A row of means is copied by neighbouring threads, 16 bytes each; if D = 96, 4 of 16 do nothing.
        constexpr int copiers = D == 96 ? 16 : D / 8, rows = choose_threads / copiers;
        const int piece = threadIdx.x % copiers, copied = threadIdx.x / copiers;
        const int place = piece_offset(copied, piece, tile_means);
        int buffer = 0;  // where the current tile is
        // Begins to copy the tile from n0 on; rows past the end are the last mean.
        const auto fetch = [&](int n0, int to_buffer) {
            unsigned char* to = memory.means + to_buffer * memory.tile_bytes + place;
            const bf16* from = means + (size_t)(n0 + copied) * D + piece * 8;
            const auto copy = [&](auto row) {
#pragma unroll
                for (int r = 0; r < tile_means; r += rows) {
                    cp_async_16(to + r * row_bytes, from + row(r) * D);
                }
            };
            if (piece >= D / 8) { return; }
            if (n0 + tile_means <= count) {  // all rows exist: addresses are constants apart
                copy([](int r) { return r; });
            } else {
                copy([last = count - 1 - n0 - copied](int r) { return min(r, last); });
            }
        };
        constexpr int J = columns<hopper> / 8;
        /* One pass over every stride-th tile of the means. f(x, n0) gets the scores of this warp's queries
           with the means of the 8 J blocks from n0 on, as the products leave them. after: the first tile of
           the next pass, or -1. */
        const auto pass = [&](int stride, int after, auto f) {
#pragma unroll 1
            for (int n0 = 0; n0 < count; n0 += stride * tile_means) {
                wait_for_tile<hopper>();
                const int next = n0 + stride * tile_means < count ? n0 + stride * tile_means : after;
                if (next >= 0) { fetch(next, 1 - buffer); }
                cp_async_commit();
                // The shuffle tells the compiler that all lanes have the same address, so that descriptors of
                // wgmma are in uniform registers.
                const unsigned char* tile =
                    memory.means + __shfl_sync(all_lanes, buffer, 0) * memory.tile_bytes;
                buffer = 1 - buffer;
#pragma unroll 1
                for (int part = 0; part < tile_means; part += columns<hopper>) {
                    float scores[1][J][4];
                    score_tile<D, hopper>(scores, fragments, tile, part);
                    f(scores[0], n0 + part);
                }
            }
        };
        /* Scores of blocks that a row does not see become NaN, which passes no comparison. NaN of a block
           that it sees becomes -infinity, its rank. */
        const auto mask = [&](float(&x)[J][4], int n0) {
#pragma unroll
            for (int j = 0; j < J; j++) {
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    const int n = n0 + 8 * j + 2 * c + i % 2;
                    x[j][i] = fmaxf(x[j][i], -INFINITY);
                    if (n < first[i / 2] || n >= own[i / 2]) { x[j][i] = NAN; }
                }
            }
        };
        const auto all_see = [&](int n0) { return n0 >= all_from && n0 + 8 * J <= all_to; };
        if (count > 0) { fetch(0, 0); }
        cp_async_commit();

        if (count >= s.K) {  // with fewer blocks all are candidates
            float most[2][8];
#pragma unroll
            for (int j = 0; j < 8; j++) { most[0][j] = most[1][j] = -INFINITY; }
            pass(tiles < many_tiles ? 1 : sampling, 0, [&](float(&x)[J][4], int n0) {
                if (!all_see(n0)) { mask(x, n0); }
#pragma unroll
                for (int j = 0; j < J; j++) {
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        float& most_of_class = most[i / 2][2 * (j % 4) + i % 2];
                        most_of_class = fmaxf(most_of_class, x[j][i]);
                    }
                }
            });
#pragma unroll
            for (int h = 0; h < 2; h++) { bound[h] = nth_largest(most[h], max(limit(h), 1)); }
        }
        Candidates list[2] = {{memory.candidates, row, s.K}, {memory.candidates, row + 8, s.K}};
        // Without a bound, NaN would not pass the comparison.
        const auto all_bounded = [&] {
            return !__ballot_sync(all_lanes, !(min(bound[0], bound[1]) > -INFINITY));
        };
        bool bounded = all_bounded();
        // Reduces both rows with one copy of the code: they change places.
        const auto shrink = [&] {
#pragma unroll 1
            for (int h = 0; h < 2; h++) {
                list[0].shrink(h ? limit(1) : limit(0), bound[0]);
                const Candidates one = list[0];
                list[0] = list[1], list[1] = one;
                const float x = bound[0];
                bound[0] = bound[1], bound[1] = x;
            }
        };
        pass(1, -1, [&](float(&x)[J][4], int n0) {
            if (!bounded || !all_see(n0)) { mask(x, n0); }
#pragma unroll
            for (int j0 = 0; j0 < J; j0 += half_tile / 8) {
                if (__ballot_sync(all_lanes, list[0].longer(s.K - 1) || list[1].longer(s.K - 1))) {
                    shrink();
                    bounded = all_bounded();
                }
#pragma unroll
                for (int j = j0; j < j0 + half_tile / 8; j++) {
                    if (!(fmaxf(x[j][0], x[j][1]) >= bound[0]) && !(fmaxf(x[j][2], x[j][3]) >= bound[1])) {
                        continue;
                    }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        if (x[j][i] >= bound[i / 2]) { list[i / 2].add(x[j][i], n0 + 8 * j + 2 * c + i % 2); }
                    }
                }
            }
        });
        cp_async_wait<0>();
        shrink();

        // The lists of the four lanes are merged: lane c writes the entries c, c + 4, ...
        int* out = choices_of_head(chosen, s);
        int next[2] = {list[0].first, list[1].first};
        int mine[2];
#pragma unroll 1
        for (int i = 0; i < round_up(s.K, 4); i++) {
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int n = next[h] < list[h].end ? Candidates::block(next[h]) : INT_MAX;
                const int lowest = -quad_max(-n);
                if (n == lowest) { next[h] += Candidates::step; }
                if (i % 4 == c) {
                    mine[h] = i < limit(h) ? lowest + begin : i == limit(h) ? own[h] + begin : -1;
                }
                const int t = t0 + row + 8 * h;
                if (i % 4 == 3 && i - 3 + c < s.K && t < s.M) { out[(size_t)t * s.K + i - 3 + c] = mine[h]; }
            }
        }
    }
}

// Calls f.template operator()<D>() for the padded width D of a head.
template <class F>
static void with_width(int D, F f) {
    const int width = gate_width(D);
    REQUIRE(width <= max_tiled_head_dim, "D = %d", D);
    width == 32   ? f.template operator()<32>()
    : width == 64 ? f.template operator()<64>()
    : width == 96 ? f.template operator()<96>()
                  : f.template operator()<128>();
}
size_t gate_tensor_bytes(int D, int K) {
    size_t bytes = 0;
    with_width(D, [&]<int width> { bytes = TensorChooseMemory<width>(nullptr, K).bytes; });
    return bytes;
}

void gate_choose_tensor(const Ctx& ctx, int version, int* chosen, const bf16* q, const bf16* mean,
                        const GateHeads& s, int heads) {
    REQUIRE(s.K <= max_tensor_top_k, "K = %d", s.K);
    with_width(s.D, [&]<int D> {
        const size_t bytes = TensorChooseMemory<D>(nullptr, s.K).bytes;
        const auto run = [&]<bool hopper> {
            allow_shared_memory<gate_choose_kernel3<D, hopper>>(bytes);
            launch(gate_choose_kernel3<D, hopper>, dim3(blocks_for(s.M, tile_queries), heads), choose_threads,
                   bytes, ctx.stream, chosen, q, mean, s);
            LAUNCHED(ctx);
        };
        version == 3 ? run.template operator()<false>() : run.template operator()<true>();
    });
}

}  // namespace moba

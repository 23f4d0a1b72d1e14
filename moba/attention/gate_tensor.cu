/* The gate on the GPU, versions 3 and 4: scores on tensor cores. Contract: gate.h; definition: gate.cpp.

   A row has many scores, but few of them are chosen. So the work per score must be small. Two passes over the
   means:
     1  find the largest score in each of 32 classes of blocks; the (K-1)-th largest of these 32 is a lower
        bound of the chosen scores
     2  scores that are not below the bound become candidates of the row: only a few more than K - 1
   At the end the lowest candidates are removed until K - 1 remain. If a row gets too many candidates, for
   example because of ties, it is reduced earlier, and the bound rises. Both passes compute scores with the
   same instructions, so with the same bits. */
#include "moba/attention/gate.cuh"
#include "moba/attention/tensor_forward.cuh"

namespace moba {

namespace {
constexpr int tile_queries = 128, tile_means = 64, choose_threads = 256;
}  // namespace

/* The candidates of a row, for K - 1 <= keep, in shared memory: two arrays (tile_queries, stride), scores and
   blocks. Each of the row's four lanes has a separate list, in ascending order of blocks. Entry i of lane c
   is at 4 i + c. Not in an unnamed namespace: SHARED_MEMORY would declare a second array there. */
template <int keep>
struct Candidates {
    // entries of one lane, at most: `keep` that remain, and 8 that half a tile may add
    static constexpr int most = keep + 8;
    // distance between rows: an odd multiple of 4, so 8 neighbouring lists begin in different bank groups
    static constexpr int stride = 4 * (most | 1);
    static constexpr int bytes = tile_queries * stride * (int)(sizeof(float) + sizeof(int));
    int row;

    __device__ __forceinline__ float& score(int i, int lane) const {
        SHARED_MEMORY;
        return ((float*)shared_memory)[row * stride + 4 * i + lane];
    }
    __device__ __forceinline__ int& block(int i, int lane) const {
        SHARED_MEMORY;
        return ((int*)shared_memory)[(tile_queries + row) * stride + 4 * i + lane];
    }
    __device__ __forceinline__ void put(int i, float x, int n) const {
        score(i, threadIdx.x % 4) = x == x ? x : -INFINITY;
        block(i, threadIdx.x % 4) = n;
    }
    /* Reduces the candidates of the row to the best `limit`; equal scores: lower blocks first. The lowest one
       is removed until few enough are left: rarely more than two or three, as the bound is close. This lane
       has `count` entries before; returns how many it has after. lowest: the lowest score that remains in the
       four lanes. Must be called by whole warps. */
    __device__ __forceinline__ int shrink(float& lowest, int count, int limit) const {
        const int c = threadIdx.x % 4;
        int total = quad_sum(count);
        while (true) {
            float low = INFINITY;  // of this lane; of equal ones the last, which has the highest block
            int at = -1;
#pragma unroll 1  // registers
            for (int i = 0; i < count; i++) {
                const float x = score(i, c);
                if (x <= low) { low = x, at = i; }
            }
            lowest = -quad_max(-low);
            if (!__ballot_sync(all_lanes, total > limit)) { return count; }
            const int n = at >= 0 && low == lowest ? block(at, c) : -1;
            const int removed = quad_max(n);
            if (total <= limit) { continue; }
            total--;
            if (n != removed) { continue; }
            count--;
#pragma unroll 1
            for (int i = at; i < count; i++) {
                score(i, c) = score(i + 1, c);
                block(i, c) = block(i + 1, c);
            }
        }
    }
    // The number of entries of the four lanes whose block is lower than n
    __device__ __forceinline__ int place(int n, const int (&count_of)[4]) const {
        int lower = 0;
#pragma unroll
        for (int lane = 0; lane < 4; lane++) {
            for (int f = 0; f < count_of[lane]; f++) { lower += block(f, lane) < n; }
        }
        return lower;
    }
};

namespace {

/* Shared memory of the kernel. */
template <int D, int keep>
struct TensorChooseMemory {
    static constexpr int tile_bytes = tile_means * D * (int)sizeof(bf16);
    unsigned char* candidates;  // Candidates<keep>, which knows that it comes first
    unsigned char* means;       // (2, tile_means, D) bf16, in panels: double-buffered
    size_t bytes;

    HOST_DEVICE explicit TensorChooseMemory(void* base) {
        SharedLayout layout(base);
        candidates = layout.take<unsigned char>(Candidates<keep>::bytes);
        static_assert(Candidates<keep>::bytes % 1024 == 0);  // panels begin at multiples of 1024
        means = layout.take<unsigned char>(2 * tile_bytes);
        bytes = layout.bytes();
    }
};

/* A lower bound of the `count`-th best score of a row, from the largest score of each class: each of its four
   lanes has 8 classes. -infinity if fewer than `count` classes have a score. */
__device__ float score_bound(float (&most)[8], int count, int rounds) {
    float bound = INFINITY;
    int found = 0;
#pragma unroll 1
    for (int round = 0; round < rounds; round++) {
        float top = most[0];
#pragma unroll
        for (int j = 1; j < 8; j++) { top = fmaxf(top, most[j]); }
        top = quad_max(top);
        int equal = 0;
#pragma unroll
        for (int j = 0; j < 8; j++) {
            if (most[j] == top) {
                equal++;
                most[j] = -INFINITY;
            }
        }
        equal = quad_sum(equal);
        if (found < count) {
            bound = top;
            found += equal;
        }
    }
    return found < count ? -INFINITY : bound;
}

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
constexpr int columns = hopper ? tile_means : tile_means / 2;

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
   Maps     thread block of 8 warps -> 128 queries, for all tiles of 64 means; grid y -> a query head; warp ->
            16 queries; lane -> two rows of scores, every fourth pair of columns
   Memory   q is loaded directly into fragments; means by cp.async, the next tile while this one is
            multiplied; candidates in shared memory
   Sync     one barrier per tile: this tile is complete, and no warp still reads the previous one. Candidates:
            each lane writes its list; the four lanes of a row read them after __syncwarp
   Differs  from 2: tensor cores; from the beginning of the second pass scores are compared with a bound that
            is close to the final one
   Needs    bf16, D 64 or 128, K <= 17; version 4: sm_90a */
template <int D, bool hopper, int keep>
__global__ void __launch_bounds__(choose_threads, 2)
    gate_choose_kernel3(int* chosen, const bf16* q, const bf16* mean, GateHeads s) {
    if constexpr (hopper && !HOPPER_CODE) {
        __trap();
    } else {
        SHARED_MEMORY;
        const TensorChooseMemory<D, keep> memory(shared_memory);
        const int lane = threadIdx.x % warp_size, c = lane % 4, row = warp_row() + lane / 4;
        const int t0 = (gridDim.x - 1 - blockIdx.x) * tile_queries;  // queries with most past blocks first
        const bf16* means = means_of_head(mean, s);

        int own[2] = {}, first[2] = {}, count[2] = {};
        float bound[2] = {-INFINITY, -INFINITY};
        const Candidates<keep> candidates[2] = {{row}, {row + 8}};
        const auto limit = [&](int h) { return min(s.K - 1, own[h] - first[h]); };
        uint32_t fragments[1][D / 16][4];  // of q
        {
            const bf16* from[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const int t = min(t0 + row + 8 * h, s.M - 1);
                own[h] = s.blocks.own[t];
                first[h] = s.blocks.first[own[h]];
                from[h] = q + ((size_t)t * s.H + s.first + blockIdx.y) * D;
            }
            load_exchanged_rows<D>(fragments[0], from[0], from[1]);
        }
        const int begin = s.blocks.first[s.blocks.own[t0]],
                  end = s.K > 1 ? s.blocks.own[min(t0 + tile_queries, s.M) - 1] : begin;
        const int tiles = ceil_div(end - begin, tile_means);
        // steps of the first pass; with few blocks all are candidates, so there is no first pass
        const int before = end - begin >= s.K ? tiles : 0;
        const auto tile_of = [&](int step) { return step < before ? step : step - before; };
        const auto fetch = [&](int step) {
            unsigned char* to = memory.means + step % 2 * memory.tile_bytes;
            for (int o = threadIdx.x; o < tile_means * D / 8; o += choose_threads) {
                const int r = o / (D / 8), piece = o % (D / 8);
                const int n = min(begin + tile_of(step) * tile_means + r, end - 1);
                cp_async_16(to + piece_offset(r, piece, tile_means), means + (size_t)n * D + piece * 8);
            }
        };
        const auto shrink = [&](int h) {
            float lowest;
            count[h] = candidates[h].shrink(lowest, count[h], limit(h));
            if (quad_sum(count[h]) == limit(h)) { bound[h] = nextafterf(lowest, INFINITY); }
        };
        constexpr int J = columns<hopper> / 8;
        /* One pass over the means, whose tiles are the steps from first_step on. f(x, n0) gets the scores of
           this warp's queries with the means of the 8 J blocks from n0 on, as the products leave them. */
        const auto pass = [&](int first_step, auto f) {
#pragma unroll 1
            for (int step = first_step; step < first_step + tiles; step++) {
                wait_for_tile<hopper>();
                if (step + 1 < before + tiles) { fetch(step + 1); }
                cp_async_commit();
                const unsigned char* tile = memory.means + step % 2 * memory.tile_bytes;
#pragma unroll 1
                for (int part = 0; part < tile_means; part += columns<hopper>) {
                    float scores[1][J][4];
                    score_tile<D, hopper>(scores, fragments, tile, part);
                    f(scores[0], begin + (step - first_step) * tile_means + part);
                }
            }
        };
        if (tiles > 0) { fetch(0); }
        cp_async_commit();

        if (before > 0) {
            float most[2][8];
#pragma unroll
            for (int j = 0; j < 8; j++) { most[0][j] = most[1][j] = -INFINITY; }
            pass(0, [&](float(&x)[J][4], int n0) {
                const bool inside = n0 >= max(first[0], first[1]) && n0 + 8 * J <= min(own[0], own[1]);
                if (__ballot_sync(all_lanes, !inside)) {
#pragma unroll
                    for (int j = 0; j < J; j++) {
#pragma unroll
                        for (int i = 0; i < 4; i++) {
                            const int n = n0 + 8 * j + 2 * c + i % 2;
                            if (n < first[i / 2] || n >= own[i / 2]) { x[j][i] = -INFINITY; }
                        }
                    }
                }
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
            for (int h = 0; h < 2; h++) { bound[h] = score_bound(most[h], limit(h), s.K - 1); }
        }
        pass(before, [&](float(&x)[J][4], int n0) {
#pragma unroll
            for (int j0 = 0; j0 < J; j0 += 4) {  // 4 x 8 means: half a tile
                if (__ballot_sync(all_lanes, max(count[0], count[1]) > keep)) {
#pragma unroll
                    for (int h = 0; h < 2; h++) { shrink(h); }
                }
#pragma unroll
                for (int j = j0; j < j0 + 4; j++) {
                    bool any = false;
#pragma unroll
                    for (int i = 0; i < 4; i++) { any |= !(x[j][i] < bound[i / 2]); }
                    if (!__ballot_sync(all_lanes, any)) { continue; }
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int n = n0 + 8 * j + 2 * c + i % 2, h = i / 2;
                        if (!(x[j][i] < bound[h]) && n >= first[h] && n < own[h]) {
                            candidates[h].put(count[h], x[j][i], n);
                            count[h]++;
                        }
                    }
                }
            }
        });
        cp_async_wait<0>();
        int* out = choices_of_head(chosen, s);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            shrink(h);
            __syncwarp();  // the lanes of a row read each other's lists
            int count_of[4];
#pragma unroll
            for (int lane_of = 0; lane_of < 4; lane_of++) {
                count_of[lane_of] = __shfl_sync(all_lanes, count[h], lane - c + lane_of);
            }
            const int t = t0 + row + 8 * h;
            if (t >= s.M) { continue; }
            for (int i = 0; i < count[h]; i++) {
                const int n = candidates[h].block(i, c);
                out[(size_t)t * s.K + candidates[h].place(n, count_of)] = n;
            }
            for (int i = limit(h) + c; i < s.K; i += 4) {
                out[(size_t)t * s.K + i] = i == limit(h) ? own[h] : -1;
            }
        }
    }
}

// Calls f.template operator()<D, keep>() for the kernel that supports these sizes.
template <class F>
static void with_sizes(int D, int K, F f) {
    constexpr int few = 7, most = max_tensor_top_k - 1;  // K - 1, at most
    REQUIRE(has_wgmma_head_dim(D) && K - 1 <= most, "D = %d, K = %d", D, K);
    if (D == 64) {
        K - 1 <= few ? f.template operator()<64, few>() : f.template operator()<64, most>();
    } else {
        K - 1 <= few ? f.template operator()<128, few>() : f.template operator()<128, most>();
    }
}
size_t gate_tensor_bytes(int D, int K) {
    size_t bytes = 0;
    with_sizes(D, K, [&]<int D, int keep> { bytes = TensorChooseMemory<D, keep>(nullptr).bytes; });
    return bytes;
}

void gate_choose_tensor(const Ctx& ctx, int version, int* chosen, const bf16* q, const bf16* mean,
                        const GateHeads& s, int heads) {
    with_sizes(s.D, s.K, [&]<int D, int keep> {
        const size_t bytes = TensorChooseMemory<D, keep>(nullptr).bytes;
        const auto run = [&]<bool hopper> {
            allow_shared_memory<gate_choose_kernel3<D, hopper, keep>>(bytes);
            launch(gate_choose_kernel3<D, hopper, keep>, dim3(blocks_for(s.M, tile_queries), heads),
                   choose_threads, bytes, ctx.stream, chosen, q, mean, s);
            LAUNCHED(ctx);
        };
        version == 3 ? run.template operator()<false>() : run.template operator()<true>();
    });
}

}  // namespace moba

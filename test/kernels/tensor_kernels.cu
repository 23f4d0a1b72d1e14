/* tensor_kernels.h: mma.sync and the matrices of a warp, copies, barriers. */
#include "test/kernels/tensor_kernels.cuh"

namespace moba {

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define SM_90_CODE 1
#else
#define SM_90_CODE 0
#endif

using namespace tensor_kernels;

// Runs in one warp.
template <bool b_transposed>
static __global__ void matrices_kernel(bf16* c, const bf16* a, const bf16* b, Mistake wrong) {
    SHARED_MEMORY;
    unsigned char *sa = shared_memory, *sb = sa + 4096;
    const int lane = threadIdx.x, g = lane / 4, q = lane % 4;
    const auto at = [&](int row, int piece, int rows) {
        return makes(wrong, unswizzled) ? row * 128 + piece * 16 : piece_offset(row, piece, rows);
    };
    for (int o = lane; o < 16 * 4; o += 32) {
        cp_async_16(sa + at(o / 4, o % 4, 16), a + o * 8);
        cp_async_16(sb + (b_transposed ? at(o / 2, o % 2, 32) : at(o / 4, o % 4, 16)), b + o * 8);
    }
    cp_async_commit();
    if (!makes(wrong, no_copy_wait)) { cp_async_wait<0>(); }
    __syncwarp();
    float sum[2][4] = {};  // columns 0 to 7 and 8 to 15
#pragma unroll
    for (int step = 0; step < 2; step++) {
        uint32_t fa[4], fb[4];
        int row = lane % 16, piece = lane / 16;
        if (makes(wrong, swapped_matrices)) { row = lane % 8 + lane / 16 * 8, piece = lane / 8 % 2; }
        ldmatrix_x4<false>(fa, sa + at(row, 2 * step + piece, 16));
        if (!b_transposed) {
            ldmatrix_x4<false>(fb, sb + at(lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2, 16));
        } else if (makes(wrong, untransposed)) {
            ldmatrix_x4<false>(fb, sb + at(16 * step + lane % 16, lane / 16, 32));
        } else {
            ldmatrix_x4<true>(fb, sb + at(16 * step + lane % 16, lane / 16, 32));
        }
        if (makes(wrong, shifted_lane)) { fb[0] = __shfl_xor_sync(all_lanes, fb[0], 1); }
        mma_bf16(sum[0], fa, fb[0], fb[1]);
        mma_bf16(sum[1], fa, fb[2], fb[3]);
    }
    if (makes(wrong, no_copy_wait)) { cp_async_wait<0>(); }
    // four 8 x 8 matrices, at row 0 column 0, row 8 column 0, row 0 column 8, row 8 column 8
    uint32_t out[4];
#pragma unroll
    for (int m = 0; m < 4; m++) {
        out[m] = nearest_bf16_pair(sum[m / 2][m % 2 * 2], sum[m / 2][m % 2 * 2 + 1]);
        *(uint32_t*)(c + (g + m % 2 * 8) * 16 + m / 2 * 8 + 2 * q) = out[m];
    }
#if SM_90_CODE
    unsigned char* sc = sb + 4096;
    const auto store_tile = [&](bf16* to) {
        __syncwarp();
        for (int o = lane; o < 16 * 2; o += 32) {
            store_pack(to + o * 8, load_pack<bf16, 8>((bf16*)(sc + at(o / 2, o % 2, 16))));
        }
        __syncwarp();
    };
    stmatrix_x4<false>(sc + at(lane % 16, lane / 16, 16), out);
    store_tile(c + 256);
    const uint32_t turned[4] = {out[0], out[2], out[1], out[3]};
    stmatrix_x4<true>(sc + at(lane % 16, lane / 16, 16), turned);
    store_tile(c + 512);
#endif
}

// Runs in one warp. Exchanging twice gives the original channel; position k of a product's sum is channel
// exchanged(k).
static __global__ void exchanged_kernel(float* c, const bf16* a, const bf16* b) {
    const int g = threadIdx.x / 4, q = threadIdx.x % 4;
    uint32_t fa[4][4];
    load_exchanged_rows<64>(fa, a + g * 64, a + (g + 8) * 64);
    float sum[4] = {};
#pragma unroll
    for (int step = 0; step < 4; step++) {
        const auto pair = [&](int k) { return *(const uint32_t*)(b + g * 64 + exchanged(16 * step + k)); };
        mma_bf16(sum, fa[step], pair(2 * q), pair(2 * q + 8));
    }
#pragma unroll
    for (int i = 0; i < 4; i++) { c[(g + i / 2 * 8) * 8 + 2 * q + i % 2] = sum[i]; }
}

static __global__ void functions_kernel(float* y, const float* x, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    y[i] = exp2_fast(x[i]);
    y[n + i] = log2_fast(fabsf(x[i]));
    y[2 * n + i] = quad_max(x[i]);
    y[3 * n + i] = quad_sum(x[i]);
}

// The data of a turn is fetched two turns before it is used. Thread t stores what thread t + 32 fetched.
template <int bytes>
static __global__ void copies_kernel(int* y, const int* x, Mistake wrong) {
    SHARED_MEMORY;
    constexpr int turns = 6, words = 4;  // words: of one thread in one turn
    const int n = blockDim.x, t = threadIdx.x;
    const auto buffer = [&](int turn, int t) { return (int*)shared_memory + (turn % 3 * n + t) * words; };
    const auto fetch = [&](int turn) {
        if (turn < turns) {
            const int* from = x + (turn * n + t) * words;
            if (bytes == 16) {
                cp_async_16(buffer(turn, t), from, turn != 2);
            } else {
                for (int i = 0; i < words; i++) { cp_async_4(buffer(turn, t) + i, from + i); }
            }
        }
        cp_async_commit();
    };
    fetch(0), fetch(1);
    for (int turn = 0; turn < turns; turn++) {
        if (makes(wrong, copy_too_early)) { fetch(min(turn + 3, turns)); }
        if (makes(wrong, one_group_less)) {
            cp_async_wait<2>();
        } else {
            cp_async_wait<1>();
        }
        if (!makes(wrong, no_barrier)) { __syncthreads(); }
        // the buffer was last read in the previous turn, and all threads have passed the barrier since
        fetch(turn + 2);
        const int from = (t + 32) % n;
        store_pack(y + (turn * n + from) * words, load_pack<int, words>(buffer(turn, from)));
    }
    cp_async_wait<0>();
}

// Warp 0 fetches at most two turns ahead; warp 1 adds.
static __global__ void ring_kernel(float* y, const float* x, int turns, Mistake wrong) {
#if SM_90_CODE
    SHARED_MEMORY;
    uint64_t *full = (uint64_t*)shared_memory, *empty = full + 2;
    float* buffer = (float*)(shared_memory + 64);
    const int lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) {
            mbarrier_init(full + i, 32);
            mbarrier_init(empty + i, makes(wrong, wrong_count) ? 33 : 32);
        }
        mbarrier_fence_init();
    }
    __syncthreads();
    for (int turn = 0; turn < turns; turn++) {
        const int at = turn % 2, phase = turn / 2 % 2;
        if (threadIdx.x < 32) {
            // the first wait returns immediately: the phase before the first one counts as completed
            mbarrier_wait(empty + at, phase ^ 1);
            cp_async_16(buffer + at * 128 + lane * 4, x + turn * 128 + lane * 4);
            cp_async_arrive(full + at);
        } else {
            mbarrier_wait(full + at, makes(wrong, wrong_parity) ? phase ^ 1 : phase);
            const float* other = buffer + at * 128 + (lane ^ 5) * 4;
            y[turn * 32 + lane] = other[0] + other[1] + other[2] + other[3];
            mbarrier_arrive(empty + at);
        }
    }
#else
    __trap();
#endif
}

static __global__ void named_kernel(int* y, Mistake wrong) {
    SHARED_MEMORY;
    constexpr unsigned written = 1, taken = 2;
    int* cell = (int*)shared_memory;
    const int t = threadIdx.x % 64;
    for (int turn = 0; turn < 4; turn++) {
        if (threadIdx.x < 64) {
            if (turn) { barrier_sync(taken, 128); }
            cell[t] = turn * 64 + t;
            barrier_arrive(written, 128);
        } else {
            if (!makes(wrong, no_sync)) { barrier_sync(written, makes(wrong, few_threads) ? 64 : 128); }
            y[turn * 64 + t] = cell[63 - t];
            if (turn < 3) { barrier_arrive(taken, 128); }
        }
    }
}

static __global__ void arch_kernel(int* arch) {
#ifdef __CUDA_ARCH__
    *arch = __CUDA_ARCH__;
#else
    *arch = 900;
#endif
}

// ---- host ----

bool tensor_kernels::simulated() {
#ifdef SIMT_CPU
    return true;
#else
    return false;
#endif
}
MatrixAccesses tensor_kernels::matrix_accesses() {
#ifdef SIMT_CPU
    return {simt::matrix_accesses().rows8, simt::matrix_accesses().conflicts};
#else
    return {0, 0};
#endif
}
int tensor_kernels::arch_of_code(const Ctx& ctx) {
    int* p = (int*)gpu_device.allocate(sizeof(int));
    launch(arch_kernel, 1, 1, 0, ctx.stream, p);
    LAUNCHED(ctx);
    int arch;
    gpu_device.to_host(ctx, &arch, p, sizeof arch);
    gpu_device.release((char*)p, sizeof arch);
    return arch;
}

void tensor_kernels::matrices(const Ctx& ctx, bf16* c, const bf16* a, const bf16* b, bool b_transposed,
                              Mistake wrong) {
    launch(b_transposed ? matrices_kernel<true> : matrices_kernel<false>, 1, 32, 3 * 4096, ctx.stream, c, a,
           b, wrong);
    LAUNCHED(ctx);
}
void tensor_kernels::exchanged_product(const Ctx& ctx, float* c, const bf16* a, const bf16* b) {
    launch(exchanged_kernel, 1, 32, 0, ctx.stream, c, a, b);
    LAUNCHED(ctx);
}
void tensor_kernels::functions(const Ctx& ctx, float* y, const float* x, int n) {
    REQUIRE(n % 128 == 0, "n = %d", n);
    launch(functions_kernel, n / 128, 128, 0, ctx.stream, y, x, n);
    LAUNCHED(ctx);
}
void tensor_kernels::copies(const Ctx& ctx, int* y, const int* x, int bytes, Mistake wrong) {
    const unsigned n = 128;
    launch(bytes == 16 ? copies_kernel<16> : copies_kernel<4>, 1, n, 3 * n * 16, ctx.stream, y, x, wrong);
    LAUNCHED(ctx);
}
void tensor_kernels::ring(const Ctx& ctx, float* y, const float* x, int turns, Mistake wrong) {
    launch(ring_kernel, 1, 64, 64 + 2 * 128 * sizeof(float), ctx.stream, y, x, turns, wrong);
    LAUNCHED(ctx);
}
void tensor_kernels::named(const Ctx& ctx, int* y, Mistake wrong) {
    launch(named_kernel, 1, 128, 64 * sizeof(int), ctx.stream, y, wrong);
    LAUNCHED(ctx);
}

}  // namespace moba

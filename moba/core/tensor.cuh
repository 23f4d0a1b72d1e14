/* Tensor cores and asynchronous copies: thin wrappers of PTX instructions (PTX ISA, sections "Warp Level
   Matrix Instructions", "Asynchronous Warpgroup Level Matrix Instructions", "cp.async"). The simulator has
   functions with the same names (test/simt/async.h). Operands are bf16, sums fp32. Included by .cu only.

   Fragments (lane l of a warp, g = l / 4, c = l % 4; a register holds two neighbouring elements, the one
   with the lower index in its low half):
     A 16 x 16    a[0] (g, 2c)  a[1] (g+8, 2c)  a[2] (g, 2c+8)  a[3] (g+8, 2c+8)          rows x k
     B 16 x 8     b0 (k 2c, n g)   b1 (k 2c+8, n g)                                       k x columns
     C 16 x 8     c[0] c[1] (g, 2c and 2c+1)   c[2] c[3] (g+8, the same)
   So C of two neighbouring products, rounded to bf16, is A of the next product; nothing moves between
   lanes. wgmma: the 64 rows of a warpgroup are 16 rows for each of its 4 warps. Warp w holds A and C of the
   rows from 16 w on; C is one 16 x 8 fragment for every 8 columns.

   Tiles in shared memory: a panel has rows of 64 elements (128 bytes). A tile with longer rows is several
   panels, one after another. The 16-byte piece p of row r is stored at piece p ^ (r & 7) of its row. So the
   same piece of eight neighbouring rows lies in 8 different groups of four banks: ldmatrix, stmatrix and
   cp.async have no bank conflicts. This is also the 128-byte swizzle of wgmma. A panel begins at a multiple
   of 1024 bytes. */
#pragma once
#include "moba/core/device.cuh"

/* Only sm_90a has wgmma. For other architectures its kernels have a body that stops the program. */
#if defined(SIMT_CPU) || !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define HOPPER_CODE 1
#else
#define HOPPER_CODE 0
#endif

#include <cstdint>

namespace moba {

#ifndef SIMT_CPU  // the simulator's versions (test/simt/async.h) are included before every .cu
__device__ __forceinline__ uint32_t shared_address(const void* p) {
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* 2^x and log2 x in one instruction of the special function unit. Error: about 2 units in the last place. */
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
/* c += a b. Fragments: see above. */
__device__ __forceinline__ void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
/* Loads four 8 x 8 matrices. Lane l passes the address of row l % 8 of matrix l / 8. In r[m] it receives
   elements (g, 2c) and (g, 2c+1) of matrix m; with `transposed`, (2c, g) and (2c+1, g). */
template <bool transposed>
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
    if (transposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row))
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row))
                     : "memory");
    }
}

/* Copies 16 bytes from device to shared memory, or writes zeros if `there` is false. This thread may read
   them after cp_async_wait; other threads after a barrier that follows it. */
__device__ __forceinline__ void cp_async_16(void* to, const void* from, bool there = true) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void cp_async_4(void* to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* Waits until all groups of copies except the last `newest` ones have arrived. */
template <int newest>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(newest) : "memory");
}

/* Barriers 1 to 15, for some of the warps of a block (barrier 0 is __syncthreads). */
__device__ __forceinline__ void barrier_sync(unsigned id, unsigned threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void barrier_arrive(unsigned id, unsigned threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

__device__ __forceinline__ void mbarrier_init(uint64_t* b, unsigned count) {
    asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(uint64_t* b) {
    asm volatile("{\n.reg .b64 state;\nmbarrier.arrive.shared.b64 state, [%0];\n}" ::"r"(shared_address(b))
                 : "memory");
}
/* Counts as one of the expected arrivals as soon as all earlier copies of this thread are complete. */
__device__ __forceinline__ void cp_async_arrive(uint64_t* b) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(b)) : "memory");
}

// A store of data that wgmma will read. Afterwards the same thread calls fence_proxy_async; then a barrier.
template <class T>
__device__ __forceinline__ void store_operand(T* p, const T& x) {
    *p = x;
}

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
template <bool transposed>
__device__ __forceinline__ void stmatrix_x4(void* row, const uint32_t (&r)[4]) {
    if (transposed) {
        asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(
                         shared_address(row)),
                     "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                     : "memory");
    } else {
        asm volatile(
            "stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
            "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
            : "memory");
    }
}
__device__ __forceinline__ bool mbarrier_try_wait(uint64_t* b, unsigned parity) {
    uint32_t done;
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(b)), "r"(parity)
        : "memory");
    return done;
}
/* Waits until the phase with this parity has ended. The phases have parity 0, 1, 0, 1, ... */
__device__ __forceinline__ void mbarrier_wait(uint64_t* b, unsigned parity) {
    while (!mbarrier_try_wait(b, parity)) {}
}
__device__ __forceinline__ void mbarrier_fence_init() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void fence_proxy_async() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
#endif

#if HOPPER_CODE
/* A warpgroup gives registers back, or takes more of those that others gave back: n for each thread, a
   multiple of 8. Called by all warps of the warpgroup. */
template <int n>
__device__ __forceinline__ void fewer_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}
template <int n>
__device__ __forceinline__ void more_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}
}  // namespace moba
#include "moba/core/wgmma_ptx.cuh"
namespace moba {
/* d = a b, or d += a b with `accumulate`; asynchronous. a (64, 16) and b (16, N) are in shared memory,
   given by descriptors. Transposed: m (of a) or n (of b) runs along the rows of the tile. */
template <int N, bool a_transposed, bool b_transposed>
__device__ __forceinline__ void wgmma(float (&d)[N / 8][4], uint64_t a, uint64_t b, bool accumulate) {
    wgmma_n<a_transposed, b_transposed>(d, a, b, accumulate);
}
/* The same with a in registers. They must not change before wgmma_wait. */
template <int N, bool b_transposed>
__device__ __forceinline__ void wgmma(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b,
                                      bool accumulate) {
    wgmma_n<b_transposed>(d, a, b, accumulate);
}
/* Call before the first of a sequence of products: makes the registers written so far visible to them. */
__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

/* Empty assembly that names every register as read and written, so that the compiler cannot move an access
   across it. */
template <int columns>
__device__ __forceinline__ void hold(float (&d)[columns][4]) {
#pragma unroll
    for (int j = 0; j < columns; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) { asm volatile("" : "+f"(d[j][i])::"memory"); }
    }
}
template <int steps>
__device__ __forceinline__ void hold(uint32_t (&a)[steps][4]) {
#pragma unroll
    for (int j = 0; j < steps; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) { asm volatile("" : "+r"(a[j][i])::"memory"); }
    }
}
/* Waits until all groups except the last `newest` ones are done. Pass the registers that the finished
   products use: the compiler then reads and writes them only after the wait. */
template <int newest, class... Registers>
__device__ __forceinline__ void wgmma_wait(Registers&... r) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(newest) : "memory");
    (hold(r), ...);
}
#endif
#endif

constexpr int warpgroup_threads = 4 * warp_size;
constexpr int row_bytes = 128;  // of a row of a panel

/* The first of this warp's rows, and this lane's row g, in a tile of which every warp of the thread block has
   16 rows. */
__device__ __forceinline__ int warp_row() { return threadIdx.x / warp_size * 16; }
__device__ __forceinline__ int lane_row() { return warp_row() + threadIdx.x % warp_size / 4; }

/* The offset in bytes of the 16-byte piece `piece` of row `row`, in a tile of `rows` rows. */
HOST_DEVICE constexpr int piece_offset(int row, int piece, int rows) {
    return (piece / 8 * rows + row) * row_bytes + ((piece ^ row) & 7) * 16;
}
/* The offset in bytes of channels 16 * step and on, in a tile of `rows` rows; to be added to an operand's
   descriptor by descriptor_step. */
HOST_DEVICE constexpr int channels_offset(int step, int rows) {
    return step / 4 * rows * row_bytes + step % 4 * 32;
}
/* Panels in a row of D elements: 64 per panel; the last panel may be partly used. */
template <int D>
constexpr int panels = (D + 63) / 64;

/* The descriptor of an operand of wgmma that begins at `p`: a multiple of 1024, plus 32 bytes for every 16
   channels skipped in a panel, or plus 128 bytes per skipped row (a multiple of 8 rows). Not transposed
   (K-major: rows are m or n, k runs along a row): stride = bytes from 8 rows to the next 8; leading is
   unused. Transposed (rows are k, m or n runs along a row): stride = bytes from 8 rows to the next 8;
   leading = bytes from one panel to the next. */
__device__ inline uint64_t operand(const void* p, int panel_bytes = 16) {
    constexpr uint64_t swizzle_128 = 1, rows_8 = 1024;
    return (uint64_t)(shared_address(p) & 0x3FFFF) >> 4 | (uint64_t)(panel_bytes >> 4) << 16 |
           rows_8 >> 4 << 32 | swizzle_128 << 62;
}
/* What to add to a descriptor so that the operand begins `bytes` later: addresses there count 16 bytes. */
__device__ constexpr uint64_t descriptor_step(int bytes) { return bytes / 16; }

/* Exchanged channels: a reordering that lets rows go from device memory directly into A fragments, 16 bytes
   per lane; the other operand stores its channels in the exchanged order. In each group of 32 channels (4
   pieces of 16 bytes), word m (2 channels) of piece c moves to word c of piece m. Then piece c of a row,
   which lane c loads, holds the words at k = 2c and 2c+8 of the first and of the second 16 channels. In a
   result, the elements that lane c holds of 4 neighbouring groups of 8 columns are the 8 channels of piece
   c. A sum over all channels needs no particular order. */
HOST_DEVICE constexpr int exchanged(int channel) {
    const int word = channel % 32 / 2;
    return channel / 32 * 32 + (word % 4 * 4 + word / 4) * 2 + channel % 2;
}
/* Loads the A fragments of 16 rows with exchanged channels. row_g, row_g8: this lane's rows g and g + 8. They
   have `channels` channels, a multiple of 8; the others of D are 0. */
template <int D>
__device__ __forceinline__ void load_exchanged_rows(uint32_t (&a)[D / 16][4], const bf16* row_g,
                                                    const bf16* row_g8, int channels = D) {
    const int c = threadIdx.x % 4;
#pragma unroll
    for (int group = 0; group < D / 32; group++) {
        const int d = 32 * group + 8 * c;
        Pack<uint32_t, 4> x = {}, y = {};
        if (d < channels) {
            x = load_pack<uint32_t, 4>((const uint32_t*)(row_g + d));
            y = load_pack<uint32_t, 4>((const uint32_t*)(row_g8 + d));
        }
#pragma unroll
        for (int h = 0; h < 2; h++) {
            a[2 * group + h][0] = x.at[2 * h], a[2 * group + h][2] = x.at[2 * h + 1];
            a[2 * group + h][1] = y.at[2 * h], a[2 * group + h][3] = y.at[2 * h + 1];
        }
    }
}

template <int n>
__device__ __forceinline__ void set_zero(float (&x)[n][4]) {
#pragma unroll
    for (int j = 0; j < n; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) { x[j][i] = 0; }
    }
}

// Maximum and sum over the four lanes that share a row of a fragment.
template <class X>
__device__ __forceinline__ X quad_max(X x) {
    x = max(x, __shfl_xor_sync(all_lanes, x, 1));
    return max(x, __shfl_xor_sync(all_lanes, x, 2));
}
template <class X>
__device__ __forceinline__ X quad_sum(X x) {
    x += __shfl_xor_sync(all_lanes, x, 1);
    return x + __shfl_xor_sync(all_lanes, x, 2);
}

}  // namespace moba

/* What every .cu shares: launches, checks, reductions, wide loads. Included by .cu files only.

   Rules for kernels, so that the same source runs thread by thread on a CPU (test/simt/): launch through launch(); dynamic shared
   memory by SHARED_MEMORY; no inline PTX outside wrappers here; a lane that has nothing to do stays for the warp's shuffles.

   A number behind a kernel's name is the first version that it is. Where versions differ by the width N of an access only, one kernel
   is both, with N = 1 and N = a pack; it has no number where there is no other. */
#pragma once
#include "moba/core/device_ops.h"
#include <algorithm>
#include <cuda_runtime.h>
#include <initializer_list>
#include <type_traits>

namespace moba {

#ifdef SIMT_CPU
using simt::launch;
#else
template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            A&&... arguments) {
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<P>(arguments)...);
}
#endif

#ifdef SIMT_CPU
#define SHARED_MEMORY using ::shared_memory
#else
#define SHARED_MEMORY extern __shared__ __align__(1024) unsigned char shared_memory[]
#endif

inline void cuda_check(cudaError_t e, const char* call, const char* file, int line) {
    if (e == cudaSuccess) { return; }
    std::fprintf(stderr, "%s:%d: %s: %s (%s)\n", file, line, call, cudaGetErrorString(e),
                 cudaGetErrorName(e));
    std::exit(1);
}
#define CUDA_CHECK(call) cuda_check((call), #call, __FILE__, __LINE__)

extern DeviceCounts device_counts;  // memory.cu

/* After every launch. With MOBA_SYNC=1 in the environment it also waits, so that the line blamed is the line that failed. */
inline void launched(const Ctx& ctx, const char* file, int line) {
    static const bool wait = std::getenv("MOBA_SYNC") != nullptr;
    device_counts.launches++;
    cuda_check(cudaGetLastError(), "kernel launch", file, line);
    if (wait) { cuda_check(cudaStreamSynchronize(ctx.stream), "kernel", file, line); }
}
#define LAUNCHED(ctx) launched((ctx), __FILE__, __LINE__)

/* Shared memory that a block may ask for. */
inline size_t max_shared_memory() {
    static const int bytes = [] {
        int device = 0, value = 0;
        CUDA_CHECK(cudaGetDevice(&device));
        CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
        return value;
    }();
    return bytes;
}
/* Before a launch with so many bytes, which may be more than the 48 KB that every kernel has.
   Shared memory and L1 are one piece of hardware: the kernel asks for as much of it as there is, or
   the driver might leave too little for a second block of threads. Asks the driver only when a
   kernel needs more than before. */
template <auto kernel>
void allow_shared_memory(size_t bytes) {
    static size_t allowed = 0;
    if (bytes <= allowed) { return; }
    CUDA_CHECK(cudaFuncSetAttribute((const void*)kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                    cudaSharedmemCarveoutMaxShared));
    CUDA_CHECK(
        cudaFuncSetAttribute((const void*)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    allowed = bytes;
}

/* One instruction each where the code is compiled for a GPU; the simulator does the same in C++.
     nearest_bf16        bf16(f): to nearest, ties to even; NaN becomes 0x7FFF
     nearest_bf16_pair   two of them, the first in the lower half
     reciprocal          1 / x for x >= 1, without the branch of a division. Relative error at most
                         2^-23 (a division: 2^-24); 0 where the result is below 2^-126; NaN of NaN */
#ifdef __CUDA_ARCH__
__device__ inline uint16_t nearest_bf16(float f) {
    uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(f));
    return bits;
}
__device__ inline uint32_t nearest_bf16_pair(float first, float second) {
    uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}
__device__ inline float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
#else
__device__ inline uint16_t nearest_bf16(float f) { return bf16(f).bits; }
__device__ inline uint32_t nearest_bf16_pair(float first, float second) {
    return nearest_bf16(first) | (uint32_t)nearest_bf16(second) << 16;
}
__device__ inline float reciprocal(float x) { return 1 / x; }
#endif

constexpr int warp_size = 32;
constexpr unsigned all_lanes = 0xFFFFFFFFu;

/* N neighbouring elements, loaded and stored at once. Needs the address to be a multiple of their size. */
template <class E, int N>
struct alignas(sizeof(E) * N) Pack {
    E at[N];
};
template <class E>
constexpr int pack_elements = 16 / (int)sizeof(E);  // of a 16-byte access, the widest there is

template <class E, int N>
__device__ Pack<E, N> load_pack(const E* p) {
    return *(const Pack<E, N>*)p;
}
template <class E, int N>
__device__ void store_pack(E* p, const Pack<E, N>& x) {
    *(Pack<E, N>*)p = x;
}
/* A pack of floats, each rounded once to E. bf16: two in one instruction, where one by one would
   take three, one of them to put the two together. */
template <class E, int N>
__device__ Pack<E, N> round_pack(const Pack<float, N>& x) {
    Pack<E, N> y;
    if constexpr (std::is_same_v<E, bf16> && N % 2 == 0) {
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            const uint32_t pair = nearest_bf16_pair(x.at[j], x.at[j + 1]);
            y.at[j].bits = (uint16_t)pair;
            y.at[j + 1].bits = (uint16_t)(pair >> 16);
        }
    } else {
#pragma unroll
        for (int j = 0; j < N; j++) { y.at[j] = E(x.at[j]); }
    }
    return y;
}
/* Whether these pointers and every row of `width` elements may be accessed in packs. */
template <class E>
bool packable(size_t width, std::initializer_list<const void*> pointers) {
    bool ok = width % pack_elements<E> == 0;
    for (const void* p : pointers) { ok = ok && (uintptr_t)p % 16 == 0; }
    return ok;
}

/* 16 bytes of elements E to shared memory as floats, 16 bytes at a time; of bf16, the upper half
   first if so asked. */
template <class E>
__device__ void store_floats(float* to, const Pack<uint32_t, 4>& x, bool upper_first = false) {
    if constexpr (sizeof(E) == 4) {
        store_pack((uint32_t*)to, x);
    } else {  // a float is a bf16 and 16 zero bits
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const bool upper = upper_first != (i == 1);
            const uint32_t a = upper ? x.at[2] : x.at[0], b = upper ? x.at[3] : x.at[1];
            const Pack<uint32_t, 4> half{a << 16, a & 0xFFFF0000u, b << 16, b & 0xFFFF0000u};
            store_pack((uint32_t*)to + (upper ? 4 : 0), half);
        }
    }
}

/* The sum over a warp, in every lane; always added in the same order. */
template <class X>
__device__ X warp_sum(X x) {
    for (int bits = warp_size / 2; bits > 0; bits /= 2) { x += __shfl_xor_sync(all_lanes, x, bits); }
    return x;
}
inline unsigned blocks_for(size_t items, size_t of_a_block) { return (unsigned)ceil_div(items, of_a_block); }

/* The threads of a matrix: one for each of the `across` packs of each row. The grid tells a thread
   its row and its pack, so no index is divided. A block has at most 256 threads: x counts packs,
   y counts rows. Of the grid it is the other way round, because only x may be longer than 65535. */
struct RowThreads {
    dim3 grid, block;
};
inline RowThreads threads_for_rows(size_t rows, int across) {
    const int most = 256, pieces = ceil_div(across, most);  // blocks side by side
    int x = 1;
    while (x < across && x < warp_size) { x *= 2; }  // short rows: whole rows in a warp
    if (across > warp_size) { x = round_up(ceil_div(across, pieces), warp_size); }
    return {dim3(blocks_for(rows, most / x), pieces), dim3(x, most / x)};
}
__device__ inline size_t row_of_thread() { return (size_t)blockIdx.x * blockDim.y + threadIdx.y; }
__device__ inline int pack_of_thread() { return (int)(blockIdx.y * blockDim.x + threadIdx.x); }

/* Whether this card has wgmma and the kernels were compiled for it: both are sm_90a. memory.cu */
bool has_wgmma();

/* The version to run: the one asked for, else the best of those that fit. Nothing has been launched yet when it throws. */
inline int choose_version(const Ctx& ctx, int best) {
    if (ctx.version < 0 || ctx.version > best) {
        throw Error("kernel version " + std::to_string(ctx.version) + ": " + std::to_string(best) +
                    " is the last that fits these sizes");
    }
    return ctx.version ? ctx.version : best;
}

/* Relative error on the GPU: at most 3e-7, that is 2^-23 of the exponential, 2^-24 of the sum and
   2^-23 of the reciprocal. A result below 2^-126 is 0. */
__device__ inline float sigmoid(float x) { return reciprocal(1 + expf(-x)); }

/* A sum over rows that is too long for one thread: partial sums, added in order. Rows of each, and how many there are at most:
   never more than 256, however many rows, so that adding them does not become the longer half. Never less for more rows. */
constexpr int least_partial_rows = 64, max_partials = 256;
inline int partial_rows(int rows) { return std::max(least_partial_rows, ceil_div(rows, max_partials)); }
inline int most_partials(int rows) { return std::min(ceil_div(rows, least_partial_rows), max_partials); }

/* out[i] += the `count` partial sums of element i. Order: fixed by count */
void add_partials(const Ctx&, float* out, const float* partial, int count, int n);

}  // namespace moba

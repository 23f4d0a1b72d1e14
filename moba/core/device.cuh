/* Helpers for all .cu files: launches, error checks, reductions, wide loads. Included by .cu files only.

   Rules for kernels, so that the same source also runs thread by thread on a CPU (test/simt/): launch kernels
   with launch(); declare dynamic shared memory with SHARED_MEMORY; write inline PTX only in wrappers in this
   file, in tensor.cuh and in wgmma_ptx.cuh; a lane without work must still take part in its warp's shuffles.

   Names: kernelN implements version N. Versions that differ only in the width of a memory access share one
   template with a parameter N (1 element, or a 16-byte pack), named after the lower version. A kernel has no
   number if all versions of its operation share it. */
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
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) { return; }  // no work: CUDA would report an error
    kernel<<<grid, block, shared_bytes, stream>>>(static_cast<P>(arguments)...);
}
#endif

#ifdef SIMT_CPU
#define SHARED_MEMORY using ::shared_memory
#define CHECK_ALIGNED(p, bytes) simt::check_aligned(p, bytes, {__FILE__, __LINE__})
#else
#define CHECK_ALIGNED(p, bytes) (void)0
#define SHARED_MEMORY extern __shared__ __align__(1024) unsigned char shared_memory[]
#endif

inline void cuda_check(cudaError_t e, const char* call, const char* file, int line) {
    if (e == cudaSuccess) { return; }
    std::fprintf(stderr, "%s:%d: %s: %s (%s)\n", file, line, call, cudaGetErrorString(e),
                 cudaGetErrorName(e));
    std::exit(1);
}
#define CUDA_CHECK(call) cuda_check((call), #call, __FILE__, __LINE__)

extern DeviceCounts device_counts;  // defined in device_ops.cu

/* Checks for launch errors; call it after every launch. If MOBA_SYNC is set in the environment it also waits
   for the kernel, so that an error is reported at the line that caused it. */
inline void launched(const Ctx& ctx, const char* file, int line) {
    static const bool wait = std::getenv("MOBA_SYNC") != nullptr;
    device_counts.launches++;
    cuda_check(cudaGetLastError(), "kernel launch", file, line);
    if (wait) { cuda_check(cudaStreamSynchronize(ctx.stream), "kernel", file, line); }
}
#define LAUNCHED(ctx) launched((ctx), __FILE__, __LINE__)

/* The most dynamic shared memory, in bytes, that a thread block can have on this GPU. */
inline size_t max_shared_memory() {
    static const int bytes = [] {
        int device = 0, value = 0;
        CUDA_CHECK(cudaGetDevice(&device));
        CUDA_CHECK(cudaDeviceGetAttribute(&value, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
        return value;
    }();
    return bytes;
}
/* Allows a kernel to use `bytes` of dynamic shared memory; needed before a launch with more than the default
   48 KB. Shared memory and the L1 cache share one memory. The kernel requests the largest possible share for
   shared memory; otherwise the driver might leave too little for a second thread block on the same SM. The
   driver is called only when a kernel needs more than in earlier calls. */
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

/* One instruction each on a GPU; the simulator computes the same in C++.
     nearest_bf16        float to bf16: round to nearest, ties to even; NaN becomes 0x7FFF
     nearest_bf16_pair   two such conversions; the first result is in the lower half
     reciprocal          1 / x for x >= 1, without the branch that a division has. Relative error at most
                         2^-23 (a division: 2^-24); 0 if the result is below 2^-126; NaN for NaN */
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

/* N neighbouring elements, loaded and stored in one access. The address must be a multiple of its size. */
template <class E, int N>
struct alignas(sizeof(E) * N) Pack {
    E at[N];
};
template <class E>
constexpr int pack_elements = 16 / (int)sizeof(E);  // elements in a 16-byte access, the widest one

template <class E, int N>
__device__ Pack<E, N> load_pack(const E* p) {
    CHECK_ALIGNED(p, sizeof(Pack<E, N>));
    return *(const Pack<E, N>*)p;
}
template <class E, int N>
__device__ void store_pack(E* p, const Pack<E, N>& x) {
    CHECK_ALIGNED(p, sizeof(Pack<E, N>));
    *(Pack<E, N>*)p = x;
}
/* A pack of floats, each rounded once to E. For bf16 one instruction converts two floats; converting them one
   by one would take three instructions, because the two halves must also be joined. */
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
/* Can rows of `width` elements at these pointers be accessed in packs? (The pointers and the length of a row
   must be multiples of 16 bytes.) */
template <class E>
bool packable(size_t width, std::initializer_list<const void*> pointers) {
    bool ok = width % pack_elements<E> == 0;
    for (const void* p : pointers) { ok = ok && (uintptr_t)p % 16 == 0; }
    return ok;
}

/* Stores 16 bytes of elements E to shared memory as floats, in 16-byte stores. bf16 needs two stores;
   upper_first swaps their order. */
template <class E>
__device__ void store_floats(float* to, const Pack<uint32_t, 4>& x, bool upper_first = false) {
    if constexpr (sizeof(E) == 4) {
        store_pack((uint32_t*)to, x);
    } else {  // a bf16 followed by 16 zero bits is the same number as a float
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const bool upper = upper_first != (i == 1);
            const uint32_t a = upper ? x.at[2] : x.at[0], b = upper ? x.at[3] : x.at[1];
            const Pack<uint32_t, 4> half{a << 16, a & 0xFFFF0000u, b << 16, b & 0xFFFF0000u};
            store_pack((uint32_t*)to + (upper ? 4 : 0), half);
        }
    }
}

/* The sum over a warp. Every lane gets it; the order of the additions is fixed. */
template <class X>
__device__ X warp_sum(X x) {
    for (int bits = warp_size / 2; bits > 0; bits /= 2) { x += __shfl_xor_sync(all_lanes, x, bits); }
    return x;
}
/* The sum over a thread block of a power of two threads. Every thread gets it; the order of the additions is
   a fixed tree. of_thread: shared memory, (threads of the block); put a barrier between two uses of it. */
template <class X>
__device__ X block_tree_sum(X x, X* of_thread) {
    of_thread[threadIdx.x] = x;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) { of_thread[threadIdx.x] += of_thread[threadIdx.x + half]; }
        __syncthreads();
    }
    return of_thread[0];
}
/* Bisection: the first i in [0, n) for which before(i) is false, n if there is none. before(i) must be true
   up to some place and false after it. */
template <class Before>
__device__ int lower_bound_index(int n, Before before) {
    int low = 0, high = n;
    while (low < high) {
        const int middle = (int)(((unsigned)low + high) / 2);  // unsigned: the sum may exceed 2^31
        if (before(middle)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}
inline unsigned blocks_for(size_t items, size_t of_a_block) { return (unsigned)ceil_div(items, of_a_block); }

/* Launch sizes for a kernel with one thread per pack of a matrix; a row has `across` packs. A thread finds
   its row and its pack without a division. A thread block has at most 256 threads: threadIdx.x counts packs,
   threadIdx.y counts rows. In the grid, x counts rows and y counts packs, because only the grid's x may
   exceed 65535. */
struct RowThreads {
    dim3 grid, block;
};
inline RowThreads threads_for_rows(size_t rows, int across) {
    const int most = 256, pieces = ceil_div(across, most);  // thread blocks per row
    int x = 1;
    while (x < across && x < warp_size) { x *= 2; }  // a short row fits in one warp
    if (across > warp_size) { x = round_up(ceil_div(across, pieces), warp_size); }
    return {dim3(blocks_for(rows, most / x), pieces), dim3(x, most / x)};
}
__device__ inline size_t row_of_thread() { return (size_t)blockIdx.x * blockDim.y + threadIdx.y; }
__device__ inline int pack_of_thread() { return (int)(blockIdx.y * blockDim.x + threadIdx.x); }

/* Does this GPU have wgmma, and were the kernels compiled for it (sm_90a)? Defined in device_ops.cu. */
bool has_wgmma();

/* The kernel version to run: ctx.kernel_version if it is set, else `best`, the highest version that supports
   these sizes. Throws Error if ctx asks for more than `best`. Call it before the first launch, so that
   nothing is half done. */
inline int choose_version(const Ctx& ctx, int best) {
    if (ctx.kernel_version < 0 || ctx.kernel_version > best) {
        throw Error("kernel version " + std::to_string(ctx.kernel_version) + ": " + std::to_string(best) +
                    " is the last that fits these sizes");
    }
    return ctx.kernel_version ? ctx.kernel_version : best;
}

/* Relative error on the GPU at most 3e-7: 2^-23 from the exponential, 2^-24 from the sum and 2^-23 from the
   reciprocal. A result below 2^-126 becomes 0. */
__device__ inline float sigmoid(float x) { return reciprocal(1 + expf(-x)); }

/* A sum over the rows of a matrix is split into partial sums, which are then added in order. partial_rows:
   rows in one partial sum. most_partials: an upper bound of the number of partial sums; it never falls when
   `rows` grows, so a workspace for the largest size fits all smaller ones. There are never more than 256
   partial sums, so that adding them does not take longer than computing them. */
constexpr int least_partial_rows = 64, max_partials = 256;
inline int partial_rows(int rows) { return std::max(least_partial_rows, ceil_div(rows, max_partials)); }
inline int most_partials(int rows) { return std::min(ceil_div(rows, least_partial_rows), max_partials); }

/* out[i] += sum over p of partial[p, i]. Shapes: out (n), partial (count, n). Order: fixed by count. */
void add_partials(const Ctx&, float* out, const float* partial, int count, int n);

}  // namespace moba

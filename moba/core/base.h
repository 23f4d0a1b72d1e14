/* Basics that every folder uses. No CUDA header is included, so the CPU build needs no CUDA toolkit.

   Letters used everywhere in this project (the index is the lower-case letter; dx is the gradient of x):
     B  sequences in a batch     T  tokens in a sequence    M  tokens in a micro-batch, all sequences (B*T)
     H  query heads              G  key/value heads         D  head size        C  hidden size
     F  intermediate size        V  vocabulary size         L  layers
     S  block size in tokens     N  blocks of a sequence    K  blocks a query attends (with its own) */
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

/* For functions that both host code and kernels call. */
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

/* Explicit instantiation of a function template for the element types of tensors: float and bf16, on the CPU
   also double. The signature need not be repeated. */
#define INSTANTIATE_ONE(name, ...) template decltype(name<__VA_ARGS__>) name<__VA_ARGS__>;
#define INSTANTIATE(name) INSTANTIATE_ONE(name, float) INSTANTIATE_ONE(name, bf16)
#define INSTANTIATE_AND_DOUBLE(name) INSTANTIATE_ONE(name, double) INSTANTIATE(name)

struct CUstream_st;  // cudaStream_t points to it; declared here so that no CUDA header is needed

namespace moba {

enum class Device { cpu, gpu };

#ifdef __CUDACC__
__device__ inline uint16_t nearest_bf16(float);  // one instruction; defined in device.cuh
#endif

/* bf16: the upper 16 bits of a float. Converting from float rounds once (to nearest, ties to even);
   converting to float is exact. CPU and GPU give the same bits. Every NaN becomes 0x7FFF, as the GPU's
   instruction does. */
struct bf16 {
    uint16_t bits;

    bf16() = default;
    HOST_DEVICE explicit bf16(float f) {
#ifdef __CUDA_ARCH__
        bits = nearest_bf16(f);
#else
        uint32_t u;
        std::memcpy(&u, &f, 4);
        if ((u & 0x7fffffffu) > 0x7f800000u) {
            bits = 0x7fff;
        } else {
            bits = (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
        }
#endif
    }
    HOST_DEVICE operator float() const {
        const uint32_t u = (uint32_t)bits << 16;
        float f;
        std::memcpy(&f, &u, 4);
        return f;
    }
};

/* acc_t<E>: the type of sums over elements of type E, and of master weights and their gradients. */
template <class E>
struct Acc {
    using type = E;
};
template <>
struct Acc<bf16> {
    using type = float;
};
template <class E>
using acc_t = typename Acc<E>::type;

/* Where and how an operation runs: the first argument of every operation. The other state is global and does
   not change results: cached cuBLASLt plans (linear_cublaslt.cu) and the MOBA_SYNC setting (device.cuh). */
struct Ctx {
    Device device = Device::cpu;
    CUstream_st* stream = nullptr;  // GPU only; nullptr is the default stream
    // Kernel version to run; 0 = the best one. Set by test/, bench and --attention-impl.
    int kernel_version = 0;
    // Scratch memory of the running operation; <op>_workspace_bytes returns the size it needs.
    char* workspace = nullptr;
    size_t workspace_bytes = 0;
    struct Profile* profile = nullptr;  // collects times; null: no profile (profile.h)
};

/* Wrong input from outside (options, files, data). main() prints it as one line and exits with code 1. */
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
/* Refuses input that a user gave; REQUIRE is for mistakes of the program. */
inline void need(bool ok, const std::string& message) {
    if (!ok) { throw Error(message); }
}

template <class I>
HOST_DEVICE constexpr I ceil_div(I a, I b) {
    return (a + b - 1) / b;
}
template <class I>
HOST_DEVICE constexpr I round_up(I a, I b) {
    return ceil_div(a, b) * b;
}

/* Checks a precondition between parts of the code. Always active (NDEBUG does not remove it). If it fails, it
   prints the values and exits with code 1. */
#define REQUIRE(cond, ...)                                                                                   \
    do {                                                                                                     \
        if (!(cond)) {                                                                                       \
            std::fprintf(stderr, "%s:%d: %s: need %s: ", __FILE__, __LINE__, __func__, #cond);               \
            std::fprintf(stderr, __VA_ARGS__);                                                               \
            std::fprintf(stderr, "\n");                                                                      \
            std::exit(1);                                                                                    \
        }                                                                                                    \
    } while (0)

}  // namespace moba

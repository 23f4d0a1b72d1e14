/* What every room shares. Host only, no CUDA header: the CPU build never needs a CUDA toolkit.

   Letters, everywhere in this project (index = the lower-case letter, gradient of x = dx):
     B  sequences in a batch     T  tokens in a sequence    M  tokens in a micro-batch, all sequences (B*T)
     H  query heads              G  key/value heads         D  head size        C  hidden size
     F  intermediate size        V  vocabulary size         L  layers
     S  block size in tokens     N  blocks of a sequence    K  blocks a query attends, its own included */
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

/* Functions that kernels call too. */
#ifdef __CUDACC__
#define HOST_DEVICE __host__ __device__
#else
#define HOST_DEVICE
#endif

/* Compiles a function template, by its name alone, for the element types that tensors have: float and bf16, on the CPU double as well. */
#define INSTANTIATE_ONE(name, ...) template decltype(name<__VA_ARGS__>) name<__VA_ARGS__>;
#define INSTANTIATE(name) INSTANTIATE_ONE(name, float) INSTANTIATE_ONE(name, bf16)
#define INSTANTIATE_AND_DOUBLE(name) INSTANTIATE_ONE(name, double) INSTANTIATE(name)

struct CUstream_st;  // what cudaStream_t points to; declared, never included

namespace moba {

enum class Device { cpu, gpu };

#ifdef __CUDACC__
__device__ inline uint16_t nearest_bf16(float);  // one instruction: device.cuh
#endif

/* bf16: the upper half of a float. One rounding (to nearest, ties to even) on the way in, none on
   the way out. The bits are the same on the CPU and on the GPU. Every NaN becomes 0x7FFF, because
   the instruction of the GPU does so. */
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

/* acc_t<E>: what sums over elements E are held in, and what master weights and their gradients are made of. */
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

/* Where and how an op runs. Passed first to every op; there is no other hidden state. */
struct Ctx {
    Device device = Device::cpu;
    CUstream_st* stream = nullptr;  // GPU only; nullptr is the default stream
    int version = 0;  // kernel version to run; 0 = the best one. Set by test/, bench and --attention-impl
    char* workspace = nullptr;  // scratch of the op that runs; asked for with <op>_workspace_bytes
    size_t workspace_bytes = 0;
    struct Profile* profile = nullptr;  // where times go, if anybody wants them: profile.h
};

/* Wrong input from outside (options, files, data). main() prints it as one line and exits with 1. */
struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};
/* Refuses input that a user gave; REQUIRE is for mistakes of the program. */
inline void need(bool ok, const std::string& message) {
    if (!ok) { throw Error(message); }
}

template <class I>
constexpr I ceil_div(I a, I b) {
    return (a + b - 1) / b;
}
template <class I>
constexpr I round_up(I a, I b) {
    return ceil_div(a, b) * b;
}

/* A promise between parts of the code. Always on (NDEBUG does not remove it), prints the values, exits 1. */
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

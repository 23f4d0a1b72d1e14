/* Compares our Philox with cuRAND's bit by bit: the rounds, and the counter and key that curand_init() and
   curand4() make from seed, subsequence and offset (moba/core/philox.h). cuRAND's device functions are
   compiled for the host as well; on a machine with a GPU they also run there. */
#define QUALIFIERS static inline __host__ __device__
#include "moba/core/device.cuh"
#include "moba/core/philox.h"
#include <curand_kernel.h>
#include <gtest/gtest.h>
#include <random>
#include <vector>

using namespace moba;

namespace {

struct Draw {
    uint64_t seed, subsequence, offset;
};

__host__ __device__ bool same(const Draw& d) {
    const uint32_t lo = (uint32_t)(d.offset / 4), hi = (uint32_t)(d.offset / 4 >> 32),
                   sub_lo = (uint32_t)d.subsequence, sub_hi = (uint32_t)(d.subsequence >> 32);
    const Philox4 ours = philox(d.seed, lo, hi, sub_lo, sub_hi);
    const uint4 rounds = curand_Philox4x32_10(make_uint4(lo, hi, sub_lo, sub_hi),
                                              make_uint2((uint32_t)d.seed, (uint32_t)(d.seed >> 32)));
    curandStatePhilox4_32_10_t state;
    curand_init(d.seed, d.subsequence, d.offset, &state);
    const uint4 drawn = curand4(&state);
    const uint32_t a[] = {rounds.x, rounds.y, rounds.z, rounds.w}, b[] = {drawn.x, drawn.y, drawn.z, drawn.w};
    bool equal = true;
    for (int i = 0; i < 4; i++) { equal = equal && a[i] == ours.word[i] && b[i] == ours.word[i]; }
    return equal;
}

__global__ void compare_kernel(int* differing, const Draw* draws, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n && !same(draws[i])) { atomicAdd(differing, 1); }
}

std::vector<Draw> draws() {
    std::mt19937_64 random(1);
    std::vector<Draw> out{{0, 0, 0}, {~0ull, ~0ull, ~3ull}};
    while (out.size() < 4096) {
        const int shift = (int)(random() % 64);  // large and small numbers
        out.push_back({random() >> shift, random() >> shift, random() >> shift & ~3ull});
    }
    return out;
}

TEST(Curand, SameBitsOnTheHost) {
    for (const Draw& d : draws()) {
        ASSERT_TRUE(same(d)) << d.seed << " " << d.subsequence << " " << d.offset;
    }
}

TEST(Curand, SameBitsOnTheGpu) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || !count) { GTEST_SKIP() << "no GPU"; }
    const std::vector<Draw> in = draws();
    const int n = (int)in.size();
    Draw* there = nullptr;
    int *differing = nullptr, got = -1;
    ASSERT_EQ(cudaMalloc(&there, n * sizeof(Draw)), cudaSuccess);
    ASSERT_EQ(cudaMalloc(&differing, sizeof(int)), cudaSuccess);
    ASSERT_EQ(cudaMemset(differing, 0, sizeof(int)), cudaSuccess);
    ASSERT_EQ(cudaMemcpy(there, in.data(), n * sizeof(Draw), cudaMemcpyHostToDevice), cudaSuccess);
    compare_kernel<<<(n + 255) / 256, 256>>>(differing, there, n);
    ASSERT_EQ(cudaMemcpy(&got, differing, sizeof(int), cudaMemcpyDeviceToHost), cudaSuccess);
    EXPECT_EQ(got, 0) << "of " << n;
    cudaFree(there), cudaFree(differing);
}

}  // namespace

/* Exercise of lessons 5 and 6. A thread block loads tiles of x and w into shared memory, so that each element is
   loaded once and used 16 times. Find the bank conflicts, and remove them. Then let a thread compute a small
   tile of y in registers. */
#include "docs/course/exercises.h"
#include "moba/core/device.cuh"

namespace moba {

static const int tile = 16;

template <class E>
__global__ void my_linear_kernel(E* y, const E* x, const E* w, LinearShape s) {
    __shared__ float a[tile][tile], b[tile][tile];  // rows of x; rows of w
    const int m = blockIdx.y * tile + threadIdx.y, o = blockIdx.x * tile + threadIdx.x;
    const int row_of_w = blockIdx.x * tile + threadIdx.y;
    float sum = 0;
    for (int i0 = 0; i0 < s.I; i0 += tile) {
        const int i = i0 + threadIdx.x;
        a[threadIdx.y][threadIdx.x] = m < s.M && i < s.I ? (float)x[m * s.I + i] : 0.f;
        b[threadIdx.y][threadIdx.x] = row_of_w < s.O && i < s.I ? (float)w[row_of_w * s.I + i] : 0.f;
        __syncthreads();  // the tiles are complete
        for (int j = 0; j < tile; j++) { sum += a[threadIdx.y][j] * b[threadIdx.x][j]; }
        __syncthreads();  // no thread still reads them
    }
    if (m < s.M && o < s.O) { y[m * s.O + o] = E(sum); }
}

template <class E>
void my_linear(const Ctx& ctx, E* y, const E* x, const E* w, LinearShape s) {
    const dim3 grid(ceil_div(s.O, tile), ceil_div(s.M, tile));
    launch(my_linear_kernel<E>, grid, dim3(tile, tile), 0, ctx.stream, y, x, w, s);
}
INSTANTIATE(my_linear)

}  // namespace moba

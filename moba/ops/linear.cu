/* Linear on the GPU, versions 1 to 3 (no library). Contract: linear.h; definition: linear.cpp. Sums in
   fp32. */
#include "moba/ops/linear.cuh"

namespace moba {

// Side of the square tile of C that a thread block computes, by version; threads of a block.
constexpr int tile1 = 16, tile2 = 32, tile3 = 64;
constexpr int threads2 = tile2 * tile2, threads3 = 256;

template <class E, class Out>
__device__ void put(const Product<E, Out>& p, int m, int n, float sum) {
    if (m >= p.M || n >= p.N) { return; }
    Out& c = p.c[(size_t)m * p.N + n];
    c = Out(p.add ? (float)c + sum : sum);
}

/* Maps     a thread -> an element of C
   Memory   2 K loads for each element of C; only the cache saves traffic */
template <class E, class Out>
__global__ void product_kernel1(Product<E, Out> p) {
    const int n = blockIdx.x * blockDim.x + threadIdx.x, m = blockIdx.y * blockDim.y + threadIdx.y;
    if (m >= p.M || n >= p.N) { return; }
    float sum = 0;
    for (int k = 0; k < p.K; k++) {
        sum += (float)p.a[m * p.am + k * p.ak] * (float)p.b[k * p.bk + n * p.bn];
    }
    put(p, m, n, sum);
}

/* Loads a tile of an operand into shared memory as to[k][i], with zeros beyond the operand's end.
   Shapes   to (depth, stride), of which `rows` values in each row are filled
   Memory   neighbouring threads load neighbouring addresses */
template <int rows, int depth, int stride, class E>
__device__ void load_tile(float* to, const E* from, int i0, int num_i, size_t step_i, int k0, int num_k,
                          size_t step_k) {
    for (int o = threadIdx.x; o < rows * depth; o += blockDim.x) {
        const int i = step_k == 1 ? o / depth : o % rows, k = step_k == 1 ? o % depth : o / rows;
        const bool inside = i0 + i < num_i && k0 + k < num_k;
        to[k * stride + i] = inside ? (float)from[(i0 + i) * step_i + (k0 + k) * step_k] : 0.f;
    }
}

/* Maps     a block of 1024 threads -> 32 x 32 of C, a thread -> an element
   Memory   every element of a tile is loaded once and used 32 times; rows are 33 long, so that the elements
            of a column are in different banks
   Sync     a barrier before the sums: the tile is complete; one after them: no thread still reads the tile
   Differs  from 1: tiles in shared memory */
template <class E, class Out>
__global__ void __launch_bounds__(threads2) product_kernel2(Product<E, Out> p) {
    constexpr int T = tile2, stride = T + 1;
    // (T, stride): values of k, then rows of A and columns of B
    __shared__ float a[T * stride], b[T * stride];
    const int tn = threadIdx.x % T, tm = threadIdx.x / T, m0 = blockIdx.y * T, n0 = blockIdx.x * T;
    float sum = 0;
    for (int k0 = 0; k0 < p.K; k0 += T) {
        load_tile<T, T, stride>(a, p.a, m0, p.M, p.am, k0, p.K, p.ak);
        load_tile<T, T, stride>(b, p.b, n0, p.N, p.bn, k0, p.K, p.bk);
        __syncthreads();
        for (int k = 0; k < T; k++) { sum += a[k * stride + tm] * b[k * stride + tn]; }
        __syncthreads();
    }
    put(p, m0 + tm, n0 + tn, sum);
}

/* Maps     a block of 256 threads -> 64 x 64 of C, a thread -> 4 x 4 elements, 16 rows and columns apart
   Memory   8 loads from shared memory for 16 multiply-adds; version 2 needs 2 loads for 1
   Sync     as in version 2
   Differs  from 2: each thread has a tile of C in registers */
template <class E, class Out>
__global__ void __launch_bounds__(threads3) product_kernel3(Product<E, Out> p) {
    constexpr int T = tile3, depth = 16, R = 4, across = T / R;  // R x R elements per thread
    constexpr int stride = T + 2;  // a warp stores 16 values of k of two rows: 2 k + row, a bank for each
    static_assert(across * across == threads3);
    // (depth, stride): values of k, then rows of A and columns of B
    __shared__ float a[depth * stride], b[depth * stride];
    const int tn = threadIdx.x % across, tm = threadIdx.x / across, m0 = blockIdx.y * T, n0 = blockIdx.x * T;
    float sum[R][R] = {};
    for (int k0 = 0; k0 < p.K; k0 += depth) {
        load_tile<T, depth, stride>(a, p.a, m0, p.M, p.am, k0, p.K, p.ak);
        load_tile<T, depth, stride>(b, p.b, n0, p.N, p.bn, k0, p.K, p.bk);
        __syncthreads();
        for (int k = 0; k < depth; k++) {
            float x[R], y[R];
#pragma unroll
            for (int i = 0; i < R; i++) {
                x[i] = a[k * stride + tm + i * across];
                y[i] = b[k * stride + tn + i * across];
            }
#pragma unroll
            for (int i = 0; i < R; i++) {
#pragma unroll
                for (int j = 0; j < R; j++) { sum[i][j] += x[i] * y[j]; }
            }
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < R; i++) {
#pragma unroll
        for (int j = 0; j < R; j++) { put(p, m0 + tm + i * across, n0 + tn + j * across, sum[i][j]); }
    }
}

template <class E, class Out>
static void product(const Ctx& ctx, const Product<E, Out>& p) {
    const int version = choose_version(ctx, best_linear_version());
    if (p.M == 0 || p.N == 0 || (p.K == 0 && p.add)) { return; }  // cuBLASLt refuses it
#ifndef SIMT_CPU
    if (version == 4) {
        product_cublaslt(ctx, p);
        LAUNCHED(ctx);
        return;
    }
#endif
    const int tile = version == 1 ? tile1 : version == 2 ? tile2 : tile3;
    const dim3 grid(blocks_for(p.N, tile), blocks_for(p.M, tile));
    REQUIRE(grid.y <= 65535, "%d rows", p.M);
    if (version == 1) {
        launch(product_kernel1<E, Out>, grid, dim3(tile1, tile1), 0, ctx.stream, p);
    } else if (version == 2) {
        launch(product_kernel2<E, Out>, grid, threads2, 0, ctx.stream, p);
    } else {
        launch(product_kernel3<E, Out>, grid, threads3, 0, ctx.stream, p);
    }
    LAUNCHED(ctx);
}

// y[m,o] = sum_i x[m,i] w[o,i]
template <class E, class Out>
void linear_forward_gpu(const Ctx& ctx, Out* y, const E* x, const E* w, LinearShape s) {
    product<E, Out>(ctx, {y, x, w, s.M, s.O, s.I, (size_t)s.I, 1, 1, (size_t)s.I, false});
}
// dx[m,i] = sum_o dy[m,o] w[o,i]
template <class E>
void linear_backward_input_gpu(const Ctx& ctx, E* dx, const E* dy, const E* w, LinearShape s) {
    product<E, E>(ctx, {dx, dy, w, s.M, s.I, s.O, (size_t)s.O, 1, (size_t)s.I, 1, false});
}
// dw[o,i] += sum_m dy[m,o] x[m,i]
template <class E>
void linear_backward_weight_gpu(const Ctx& ctx, acc_t<E>* dw, const E* dy, const E* x, LinearShape s) {
    product<E, float>(ctx, {dw, dy, x, s.O, s.I, s.M, 1, (size_t)s.O, (size_t)s.I, 1, true});
}

template <class E>
size_t linear_workspace_bytes_gpu(LinearShape) {
    return best_linear_version() == 4 ? 32 << 20 : 0;  // NVIDIA's recommendation for Hopper
}

INSTANTIATE_ONE(linear_forward_gpu, float, float)
INSTANTIATE_ONE(linear_forward_gpu, bf16, bf16)
INSTANTIATE(linear_backward_input_gpu)
INSTANTIATE(linear_backward_weight_gpu)
INSTANTIATE(linear_workspace_bytes_gpu)
INSTANTIATE_ONE(linear_forward_gpu, bf16, float)

}  // namespace moba

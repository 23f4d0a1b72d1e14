/* RMSNorm on the GPU. Contract: norm.h; definition: norm.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/norm.h"
#include "moba/ops/residual.cuh"

namespace moba {

/* Version 1: the same steps as norm.cpp
   Maps     a thread -> a row
   Memory   not coalesced: neighbouring threads access addresses that are C elements apart */
template <class E>
__global__ void norm_forward_kernel1(E* y, float* rstd, const E* x, const E* w, NormShape s) {
    const int m = blockIdx.x * blockDim.x + threadIdx.x;
    if (m >= s.M) { return; }
    const E* row = x + (size_t)m * s.C;
    float sum = 0;
    for (int c = 0; c < s.C; c++) { sum += (float)row[c] * (float)row[c]; }
    const float r = rsqrtf(sum / s.C + s.eps);
    rstd[m] = r;
    for (int c = 0; c < s.C; c++) { y[(size_t)m * s.C + c] = E((float)row[c] * r * (float)w[c]); }
}

// Adds the squares of a pack to a lane's sum. fmaf is written explicitly, so that the norm alone and the norm
// after a residual give the same bits.
template <class E, int N>
__device__ float add_squares(float sum, const Pack<E, N>& p) {
    for (int j = 0; j < N; j++) { sum = fmaf((float)p.at[j], (float)p.at[j], sum); }
    return sum;
}
template <class E, int N>
__device__ void scale_row(E* y, const E* x, const E* w, float r, int lane, int C) {
    for (int c = lane * N; c < C; c += warp_size * N) {
        const Pack<E, N> p = load_pack<E, N>(x + c), g = load_pack<E, N>(w + c);
        Pack<float, N> out;
        for (int j = 0; j < N; j++) { out.at[j] = (float)p.at[j] * r * (float)g.at[j]; }
        store_pack(y + c, round_pack<E>(out));
    }
}

/* Maps     a warp -> a row, a lane -> every 32nd pack of N elements
   Sync     only the shuffles of the sum
   Differs  from 1: coalesced. N = 1 is version 2, N = a 16-byte pack is version 3 */
template <class E, int N>
__global__ void norm_forward_kernel2(E* y, float* rstd, const E* x, const E* w, NormShape s) {
    const int lane = threadIdx.x % warp_size, m = (blockIdx.x * blockDim.x + threadIdx.x) / warp_size;
    if (m >= s.M) { return; }  // whole warps
    const E* row = x + (size_t)m * s.C;
    float sum = 0;
    for (int c = lane * N; c < s.C; c += warp_size * N) { sum = add_squares(sum, load_pack<E, N>(row + c)); }
    const float r = rsqrtf(warp_sum(sum) / s.C + s.eps);
    if (lane == 0) { rstd[m] = r; }
    scale_row<E, N>(y + (size_t)m * s.C, row, w, r, lane, s.C);
}

/* y = x + mask b / (1-p), norm = y r w
   Maps     a warp -> a row, a lane -> every 32nd pack of N elements
   Memory   x and b are read once; a lane reads the packs of y that it has just written again, from the cache
   Differs  from the residual followed by the norm (version 1): the norm does not read y from device memory.
            N = 1 is version 2, N = a 16-byte pack is version 3 */
template <class E, int N>
__global__ void residual_norm_kernel(E* y, E* norm, float* rstd, const E* x, const E* b, const E* w,
                                     const StepState* state, DropoutMask<float> mask, NormShape s) {
    const int lane = threadIdx.x % warp_size, m = (blockIdx.x * blockDim.x + threadIdx.x) / warp_size;
    if (m >= s.M) { return; }  // whole warps
    const size_t row = (size_t)m * s.C, drawn = mask.token ? mask.token[m] * (size_t)s.C : row;
    float sum = 0;
    for (int c = lane * N; c < s.C; c += warp_size * N) {
        const Pack<E, N> p = add_masked<E, N>(x, b, row + c, drawn + c, state, mask);
        sum = add_squares(sum, p);
        store_pack(y + row + c, p);
    }
    const float r = rsqrtf(warp_sum(sum) / s.C + s.eps);
    if (lane == 0) { rstd[m] = r; }
    scale_row<E, N>(norm + row, y + row, w, r, lane, s.C);
}

/* dx[m,c] += r (g[c] - h[c] mean_c(g h)), g = dy w, h = x r. Version 1
   Maps     a thread -> a row */
template <class E>
__global__ void norm_backward_kernel1(E* dx, const E* dy, const E* x, const E* w, const float* rstd,
                                      NormShape s) {
    const int m = blockIdx.x * blockDim.x + threadIdx.x;
    if (m >= s.M) { return; }
    const size_t o = (size_t)m * s.C;
    const float r = rstd[m];
    float gh = 0;
    for (int c = 0; c < s.C; c++) { gh += (float)dy[o + c] * (float)w[c] * ((float)x[o + c] * r); }
    gh /= s.C;
    for (int c = 0; c < s.C; c++) {
        const float h = (float)x[o + c] * r;
        dx[o + c] = E((float)dx[o + c] + r * ((float)dy[o + c] * (float)w[c] - h * gh));
    }
}

/* Maps     a warp -> a row, a lane -> every 32nd pack of N elements. N = 1 is version 2, N = a 16-byte pack
            is version 3 */
template <class E, int N>
__global__ void norm_backward_kernel2(E* dx, const E* dy, const E* x, const E* w, const float* rstd,
                                      NormShape s) {
    const int lane = threadIdx.x % warp_size, m = (blockIdx.x * blockDim.x + threadIdx.x) / warp_size;
    if (m >= s.M) { return; }
    const size_t o = (size_t)m * s.C;
    const float r = rstd[m];
    float gh = 0;
    for (int c = lane * N; c < s.C; c += warp_size * N) {
        const Pack<E, N> d = load_pack<E, N>(dy + o + c), g = load_pack<E, N>(w + c),
                         p = load_pack<E, N>(x + o + c);
        for (int j = 0; j < N; j++) { gh += (float)d.at[j] * (float)g.at[j] * ((float)p.at[j] * r); }
    }
    gh = warp_sum(gh) / s.C;
    for (int c = lane * N; c < s.C; c += warp_size * N) {
        const Pack<E, N> d = load_pack<E, N>(dy + o + c), g = load_pack<E, N>(w + c),
                         p = load_pack<E, N>(x + o + c), before = load_pack<E, N>(dx + o + c);
        Pack<float, N> out;
        for (int j = 0; j < N; j++) {
            const float h = (float)p.at[j] * r;
            out.at[j] = (float)before.at[j] + r * ((float)d.at[j] * (float)g.at[j] - h * gh);
        }
        store_pack(dx + o + c, round_pack<E>(out));
    }
}

/* partial[chunk, c] = sum of dy[m,c] h[m,c] over the rows m of the chunk
   Maps     a block -> a chunk of rows and 256 columns, a thread -> a column
   Memory   coalesced along the columns */
template <class E>
__global__ void norm_dw_kernel(float* partial, const E* dy, const E* x, const float* rstd, int chunk_rows,
                               NormShape s) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x, chunk = blockIdx.y;
    if (c >= s.C) { return; }
    float sum = 0;
    const int begin = chunk * chunk_rows, end = begin + min(chunk_rows, s.M - begin);
    for (int m = begin; m < end; m++) {
        sum += (float)dy[(size_t)m * s.C + c] * ((float)x[(size_t)m * s.C + c] * rstd[m]);
    }
    partial[(size_t)chunk * s.C + c] = sum;
}

template <class E>
size_t norm_workspace_bytes_gpu(NormShape s) {
    return (size_t)most_partials(s.M) * s.C * sizeof(float);
}

template <class E>
void norm_forward_gpu(const Ctx& ctx, E* y, acc_t<E>* rstd, const E* x, const E* w, NormShape s) {
    constexpr int N = pack_elements<E>;
    const int threads = 256, version = choose_version(ctx, packable<E>(s.C, {y, x, w}) ? 3 : 2);
    const unsigned warps = blocks_for(s.M, threads / warp_size);
    if (version == 1) {
        launch(norm_forward_kernel1<E>, blocks_for(s.M, threads), threads, 0, ctx.stream, y, rstd, x, w, s);
    } else {
        launch(version == 2 ? norm_forward_kernel2<E, 1> : norm_forward_kernel2<E, N>, warps, threads, 0,
               ctx.stream, y, rstd, x, w, s);
    }
    LAUNCHED(ctx);
}

template <class E>
void residual_norm_forward_gpu(const Ctx& ctx, E* y, E* norm, acc_t<E>* rstd, const E* x, const E* b,
                               const E* w, const StepState* state, DropoutShape d, NormShape s) {
    REQUIRE(d.n == (size_t)s.M * s.C, "%zu elements in %d rows of %d", d.n, s.M, s.C);
    constexpr int N = pack_elements<E>;
    const int threads = 256, version = choose_version(ctx, packable<E>(s.C, {y, norm, x, b, w}) ? 3 : 2);
    const unsigned warps = blocks_for(s.M, threads / warp_size);
    if (version == 1) {
        residual_forward_gpu(ctx, y, x, b, state, d);
        norm_forward_gpu(ctx, norm, rstd, (const E*)y, w, s);
        return;
    }
    launch(version == 2 ? residual_norm_kernel<E, 1> : residual_norm_kernel<E, N>, warps, threads, 0,
           ctx.stream, y, norm, rstd, x, b, w, state, dropout_mask<float>(d), s);
    LAUNCHED(ctx);
}

template <class E>
void norm_backward_gpu(const Ctx& ctx, E* dx, acc_t<E>* dw, const E* dy, const E* x, const E* w,
                       const acc_t<E>* rstd, NormShape s) {
    REQUIRE(norm_workspace_bytes_gpu<E>(s) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    constexpr int N = pack_elements<E>;
    const int threads = 256, version = choose_version(ctx, packable<E>(s.C, {dx, dy, x, w}) ? 3 : 2);
    const unsigned warps = blocks_for(s.M, threads / warp_size), columns = blocks_for(s.C, threads);
    const int chunk_rows = partial_rows(s.M), chunks = ceil_div(s.M, chunk_rows);
    if (version == 1) {
        launch(norm_backward_kernel1<E>, blocks_for(s.M, threads), threads, 0, ctx.stream, dx, dy, x, w, rstd,
               s);
    } else {
        launch(version == 2 ? norm_backward_kernel2<E, 1> : norm_backward_kernel2<E, N>, warps, threads, 0,
               ctx.stream, dx, dy, x, w, rstd, s);
    }
    LAUNCHED(ctx);
    float* partial = (float*)ctx.workspace;
    launch(norm_dw_kernel<E>, dim3(columns, chunks), threads, 0, ctx.stream, partial, dy, x, rstd, chunk_rows,
           s);
    LAUNCHED(ctx);
    add_partials(ctx, dw, partial, chunks, s.C);
}

INSTANTIATE(norm_forward_gpu)
INSTANTIATE(residual_norm_forward_gpu)
INSTANTIATE(norm_backward_gpu)
INSTANTIATE(norm_workspace_bytes_gpu)

}  // namespace moba

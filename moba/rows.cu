/* Rows on the GPU. Contract: rows.h; definition: rows.cpp. */
#include "moba/device.cuh"
#include "moba/rows.h"

/* y[i,:] = x[row[i],:]
   Maps     a thread -> N neighbouring elements of y; N = 1 is version 1, a 16-byte pack version 2 */
template <class E, int N>
__global__ void gather_rows_kernel(E* y, const E* x, const int* row, RowsShape s) {
    const size_t o = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (o >= (size_t)s.R * s.C) { return; }
    store_pack(y + o, load_pack<E, N>(x + (size_t)row[o / s.C] * s.C + o % s.C));
}

/* dx[row[i],:] = dy[i,:], all other rows 0
   Maps     a thread -> N neighbouring elements of dx; it looks its row up among the ascending ones */
template <class E, int N>
__global__ void scatter_rows_kernel(E* dx, const E* dy, const int* row, RowsShape s) {
    const size_t o = ((size_t)blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (o >= (size_t)s.M * s.C) { return; }
    const int m = (int)(o / s.C);
    int low = 0, high = s.R;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (row[middle] < m) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Pack<E, N> out;
    for (int j = 0; j < N; j++) { out.at[j] = E(0.f); }
    if (low < s.R && row[low] == m) { out = load_pack<E, N>(dy + (size_t)low * s.C + o % s.C); }
    store_pack(dx + o, out);
}

template <class E>
void gather_rows_gpu(const Ctx& ctx, E* y, const E* x, const int* row, RowsShape s) {
    constexpr int N = pack_elements<E>;
    const int threads = 256;
    const size_t n = (size_t)s.R * s.C;
    if (n == 0) { return; }
    if (choose_version(ctx, packable<E>(s.C, {y, x}) ? 2 : 1) == 1) {
        launch(gather_rows_kernel<E, 1>, blocks_for(n, threads), threads, 0, ctx.stream, y, x, row, s);
    } else {
        launch(gather_rows_kernel<E, N>, blocks_for(n / N, threads), threads, 0, ctx.stream, y, x, row, s);
    }
    LAUNCHED(ctx);
}

template <class E>
void scatter_rows_gpu(const Ctx& ctx, E* dx, const E* dy, const int* row, RowsShape s) {
    constexpr int N = pack_elements<E>;
    const int threads = 256;
    const size_t n = (size_t)s.M * s.C;
    if (choose_version(ctx, packable<E>(s.C, {dx, dy}) ? 2 : 1) == 1) {
        launch(scatter_rows_kernel<E, 1>, blocks_for(n, threads), threads, 0, ctx.stream, dx, dy, row, s);
    } else {
        launch(scatter_rows_kernel<E, N>, blocks_for(n / N, threads), threads, 0, ctx.stream, dx, dy, row, s);
    }
    LAUNCHED(ctx);
}

#define INSTANTIATE(E)                                                                                       \
    template void gather_rows_gpu(const Ctx&, E*, const E*, const int*, RowsShape);                          \
    template void scatter_rows_gpu(const Ctx&, E*, const E*, const int*, RowsShape);
INSTANTIATE(float)
INSTANTIATE(bf16)

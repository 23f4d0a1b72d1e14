/* Gathering and scattering rows on the GPU. Contract: rows.h; definition: rows.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/rows.h"

namespace moba {

/* y[i,:] = x[row[i],:]
   Maps     a thread -> N neighbouring elements of y (threads_for_rows). N = 1 is version 1, N = a 16-byte
            pack is version 2 */
template <class E, int N>
__global__ void gather_rows_kernel(E* y, const E* x, const int* row, RowsShape s) {
    const size_t i = row_of_thread();
    const int c = pack_of_thread() * N;
    if (i >= (size_t)s.R || c >= s.C) { return; }
    store_pack(y + i * s.C + c, load_pack<E, N>(x + (size_t)row[i] * s.C + c));
}

/* dx[row[i],:] = dy[i,:], all other rows 0
   Maps     a thread -> N neighbouring elements of dx; a bisection finds the thread's row m in row[].
            Versions as in gather_rows_kernel */
template <class E, int N>
__global__ void scatter_rows_kernel(E* dx, const E* dy, const int* row, RowsShape s) {
    const int m = (int)row_of_thread(), c = pack_of_thread() * N;
    if (m >= s.M || c >= s.C) { return; }
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
    if (low < s.R && row[low] == m) { out = load_pack<E, N>(dy + (size_t)low * s.C + c); }
    store_pack(dx + (size_t)m * s.C + c, out);
}

template <class E>
void gather_rows_gpu(const Ctx& ctx, E* y, const E* x, const int* row, RowsShape s) {
    constexpr int N = pack_elements<E>;
    if (s.R == 0) { return; }
    if (choose_version(ctx, packable<E>(s.C, {y, x}) ? 2 : 1) == 1) {
        const RowThreads t = threads_for_rows(s.R, s.C);
        launch(gather_rows_kernel<E, 1>, t.grid, t.block, 0, ctx.stream, y, x, row, s);
    } else {
        const RowThreads t = threads_for_rows(s.R, s.C / N);
        launch(gather_rows_kernel<E, N>, t.grid, t.block, 0, ctx.stream, y, x, row, s);
    }
    LAUNCHED(ctx);
}

template <class E>
void scatter_rows_gpu(const Ctx& ctx, E* dx, const E* dy, const int* row, RowsShape s) {
    constexpr int N = pack_elements<E>;
    if (choose_version(ctx, packable<E>(s.C, {dx, dy}) ? 2 : 1) == 1) {
        const RowThreads t = threads_for_rows(s.M, s.C);
        launch(scatter_rows_kernel<E, 1>, t.grid, t.block, 0, ctx.stream, dx, dy, row, s);
    } else {
        const RowThreads t = threads_for_rows(s.M, s.C / N);
        launch(scatter_rows_kernel<E, N>, t.grid, t.block, 0, ctx.stream, dx, dy, row, s);
    }
    LAUNCHED(ctx);
}

INSTANTIATE(gather_rows_gpu)
INSTANTIATE(scatter_rows_gpu)

}  // namespace moba

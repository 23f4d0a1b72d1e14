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
    const int i = lower_bound_index(s.R, [=](int j) { return row[j] < m; });
    Pack<E, N> out;
    for (int j = 0; j < N; j++) { out.at[j] = E(0.f); }
    if (i < s.R && row[i] == m) { out = load_pack<E, N>(dy + (size_t)i * s.C + c); }
    store_pack(dx + (size_t)m * s.C + c, out);
}

template <class E>
void gather_rows_gpu(const Ctx& ctx, E* y, const E* x, const int* row, RowsShape s) {
    constexpr int N = pack_elements<E>;
    const int version = choose_version(ctx, packable<E>(s.C, {y, x}) ? 2 : 1);
    const RowThreads t = threads_for_rows(s.R, version == 1 ? s.C : s.C / N);
    launch(version == 1 ? gather_rows_kernel<E, 1> : gather_rows_kernel<E, N>, t.grid, t.block, 0, ctx.stream,
           y, x, row, s);
    LAUNCHED(ctx);
}

template <class E>
void scatter_rows_gpu(const Ctx& ctx, E* dx, const E* dy, const int* row, RowsShape s) {
    constexpr int N = pack_elements<E>;
    const int version = choose_version(ctx, packable<E>(s.C, {dx, dy}) ? 2 : 1);
    const RowThreads t = threads_for_rows(s.M, version == 1 ? s.C : s.C / N);
    launch(version == 1 ? scatter_rows_kernel<E, 1> : scatter_rows_kernel<E, N>, t.grid, t.block, 0,
           ctx.stream, dx, dy, row, s);
    LAUNCHED(ctx);
}

INSTANTIATE(gather_rows_gpu)
INSTANTIATE(scatter_rows_gpu)

}  // namespace moba

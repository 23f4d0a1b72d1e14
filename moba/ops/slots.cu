/* Merging and adding slots, and putting rows, on the GPU. Contract: slots.h; definition: slots.cpp. */
#include "moba/core/device.cuh"
#include "moba/ops/slots.h"

namespace moba {

/* out = sum over the slots of e^(part_lse - top) part / total, lse = top + log(total). With part_lse null:
   only the sum of the parts, and no lse.
   Maps     a thread -> N neighbouring channels of a query in a head. N as in put_rows_kernel
   Memory   coalesced along the channels; the lse of a slot is read by all threads of the query */
template <class E, int N>
__global__ void merge_slots_kernel(E* out, float* lse, const E* part, const float* part_lse, const int* used,
                                   SlotsShape s) {
    const size_t row = row_of_thread(), slot = row * s.K, h = row / s.M, t = row % s.M;
    const int d = pack_of_thread() * N;
    if (h >= (size_t)s.H || d >= s.D) { return; }
    const int count = used[row];
    float top = -INFINITY, total = 0;
    for (int j = 0; part_lse && j < count; j++) { top = fmaxf(top, part_lse[slot + j]); }
    Pack<float, N> sum{};
    for (int j = 0; j < count; j++) {
        const float weight = part_lse ? expf(part_lse[slot + j] - top) : 1.f;
        const Pack<E, N> x = load_pack<E, N>(part + (slot + j) * s.D + d);
        total += weight;
#pragma unroll
        for (int c = 0; c < N; c++) { sum.at[c] += weight * (float)x.at[c]; }
    }
    const float factor = part_lse ? 1 / total : 1.f;
#pragma unroll
    for (int c = 0; c < N; c++) { sum.at[c] *= factor; }
    store_pack(out + (t * s.H + h) * s.D + d, round_pack<E>(sum));
    if (part_lse && d == 0) { lse[row] = top + logf(total); }
}

template <class E>
static void merge(const Ctx& ctx, E* out, float* lse, const E* part, const float* part_lse, const int* used,
                  SlotsShape s) {
    constexpr int N = pack_elements<E>;
    const int version = choose_version(ctx, packable<E>(s.D, {out, part}) ? 2 : 1);
    const RowThreads threads = threads_for_rows((size_t)s.H * s.M, version == 1 ? s.D : s.D / N);
    launch(version == 1 ? merge_slots_kernel<E, 1> : merge_slots_kernel<E, N>, threads.grid, threads.block, 0,
           ctx.stream, out, lse, part, part_lse, used, s);
    LAUNCHED(ctx);
}

template <class E>
void merge_slots_gpu(const Ctx& ctx, E* out, acc_t<E>* lse, const E* part, const acc_t<E>* part_lse,
                     const int* used, SlotsShape s) {
    merge(ctx, out, lse, part, part_lse, used, s);
}
template <class E>
void sum_slots_gpu(const Ctx& ctx, E* dq, const E* part, const int* used, SlotsShape s) {
    merge<E>(ctx, dq, nullptr, part, nullptr, used, s);
}

/* y[row[i],:] = x[i,:], or with `add` y[row[i],:] += x[i,:]
   Maps     a thread -> N neighbouring elements of x. N = 1 is version 1, N = a 16-byte pack is version 2 */
template <class E, int N, bool add>
__global__ void put_rows_kernel(E* y, const E* x, const int* row, RowsShape s) {
    const size_t i = row_of_thread();
    const int c = pack_of_thread() * N;
    if (i >= (size_t)s.R || c >= s.C) { return; }
    Pack<E, N> from = load_pack<E, N>(x + i * s.C + c);
    E* to = y + (size_t)row[i] * s.C + c;
    if (add) {
        const Pack<E, N> old = load_pack<E, N>(to);
        Pack<float, N> sum;
#pragma unroll
        for (int j = 0; j < N; j++) { sum.at[j] = (float)old.at[j] + (float)from.at[j]; }
        from = round_pack<E>(sum);
    }
    store_pack(to, from);
}

template <class E, bool add>
static void put(const Ctx& ctx, E* y, const E* x, const int* row, RowsShape s) {
    constexpr int N = pack_elements<E>;
    const int version = choose_version(ctx, packable<E>(s.C, {y, x}) ? 2 : 1);
    const RowThreads t = threads_for_rows(s.R, version == 1 ? s.C : s.C / N);
    launch(version == 1 ? put_rows_kernel<E, 1, add> : put_rows_kernel<E, N, add>, t.grid, t.block, 0,
           ctx.stream, y, x, row, s);
    LAUNCHED(ctx);
}
template <class E>
void put_rows_gpu(const Ctx& ctx, E* y, const E* x, const int* row, RowsShape s) {
    put<E, false>(ctx, y, x, row, s);
}
template <class E>
void add_rows_gpu(const Ctx& ctx, E* y, const E* x, const int* row, RowsShape s) {
    put<E, true>(ctx, y, x, row, s);
}

INSTANTIATE(merge_slots_gpu)
INSTANTIATE(sum_slots_gpu)
INSTANTIATE(put_rows_gpu)
INSTANTIATE(add_rows_gpu)

}  // namespace moba

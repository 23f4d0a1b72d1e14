#include "moba/ops/linear.h"
#include "moba/core/matmul.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

// Calls f(row, height, column, width, thread) for every tile of a (rows, cols) result.
template <class F>
static void for_tiles(int rows, int cols, F f) {
    const int down = ceil_div(rows, matmul_m), across = ceil_div(cols, matmul_n);
    parallel_for((size_t)down * across, [&](size_t i, int thread) {
        const int r = (int)(i / across) * matmul_m, c = (int)(i % across) * matmul_n;
        f(r, std::min(matmul_m, rows - r), c, std::min(matmul_n, cols - c), thread);
    });
}

template <class E>
static acc_t<E>* scratch_of(const Ctx& ctx, int thread) {
    return thread_scratch<acc_t<E>>(ctx, matmul_scratch * sizeof(acc_t<E>), thread);
}

// Number of partial sums for dw: gives all cores work even if dw is a single tile.
static int weight_splits(LinearShape s) {
    const int tiles = ceil_div(s.O, matmul_m) * ceil_div(s.I, matmul_n);
    return std::max(1, std::min(32 / tiles, s.M / 512));
}

template <class E>
size_t linear_workspace_bytes_cpu(LinearShape s) {
    const int splits = weight_splits(s);
    const size_t partials = splits > 1 ? (size_t)splits * s.O * s.I : 0;
    return (max_threads() * matmul_scratch + partials) * sizeof(acc_t<E>);
}

/* Up to four results of a single row: dot products of x (I) with rows of w. A tile of matmul.h would copy the
   weights before it uses each of them once. */
template <class E, class Out>
static void some_dots(Out* y, const E* x, const E* w, int I, int count) {
    acc_t<E> sums[4];
    four_dots<E>(sums, x, w, I, I, count);
    for (int r = 0; r < count; r++) { y[r] = Out(sums[r]); }
}

template <class E, class Out>
static void single_row(Out* y, const E* x, const E* w, LinearShape s) {
    constexpr int bytes_of_item = 128 << 10;  // enough work to be worth a thread's while
    const int grain = round_up(std::max(1, bytes_of_item / (s.I * (int)sizeof(E))), 4);
    parallel_ranges((size_t)s.O, (size_t)grain, [&](size_t begin, size_t end) {
        for (size_t o = begin; o < end; o += 4) {
            some_dots<E, Out>(y + o, x, w + o * (size_t)s.I, s.I, (int)std::min<size_t>(4, end - o));
        }
    });
}

template <class E, class Out>
void linear_forward_cpu(const Ctx& ctx, Out* y, const E* x, const E* w, LinearShape s) {
    if (s.M == 1) { return single_row<E, Out>(y, x, w, s); }
    for_tiles(s.M, s.O, [&](int m, int rows, int o, int cols, int thread) {
        matmul_tile<E, Out>(y + (size_t)m * s.O + o, s.O, x + (size_t)m * s.I, s.I, 1, w + (size_t)o * s.I, 1,
                            s.I, rows, cols, s.I, Store::replace, scratch_of<E>(ctx, thread));
    });
}

template <class E>
void linear_backward_input_cpu(const Ctx& ctx, E* dx, const E* dy, const E* w, LinearShape s) {
    for_tiles(s.M, s.I, [&](int m, int rows, int i, int cols, int thread) {
        matmul_tile<E, E>(dx + (size_t)m * s.I + i, s.I, dy + (size_t)m * s.O, s.O, 1, w + i, s.I, 1, rows,
                          cols, s.O, Store::replace, scratch_of<E>(ctx, thread));
    });
}

template <class E>
void linear_backward_weight_cpu(const Ctx& ctx, acc_t<E>* dw, const E* dy, const E* x, LinearShape s) {
    using A = acc_t<E>;
    const int splits = weight_splits(s), step = ceil_div(s.M, splits);
    const int down = ceil_div(s.O, matmul_m), across = ceil_div(s.I, matmul_n);
    A* partials = (A*)ctx.workspace + max_threads() * matmul_scratch;
    const size_t size = (size_t)s.O * s.I;
    parallel_for((size_t)splits * down * across, [&](size_t item, int thread) {
        const int split = (int)(item / (down * across)), tile = (int)(item % (down * across));
        const int o = tile / across * matmul_m, i = tile % across * matmul_n;
        const int m = std::min(split * step, s.M), rows = std::min(step, s.M - m);
        A* out = (splits > 1 ? partials + split * size : dw) + (size_t)o * s.I + i;
        if (rows > 0) {
            matmul_tile<E, A>(out, s.I, dy + (size_t)m * s.O + o, 1, s.O, x + (size_t)m * s.I + i, s.I, 1,
                              std::min(matmul_m, s.O - o), std::min(matmul_n, s.I - i), rows,
                              splits == 1 ? Store::add : Store::replace, scratch_of<E>(ctx, thread));
        }
    });
    if (splits == 1) { return; }
    const int used = ceil_div(s.M, step);
    parallel_ranges(size, 4096, [&](size_t b, size_t e) {
        for (int split = 0; split < used; split++) {
            const A* p = partials + split * size;
            for (size_t i = b; i < e; i++) { dw[i] += p[i]; }
        }
    });
}

INSTANTIATE_ONE(linear_forward_cpu, double, double)
INSTANTIATE_ONE(linear_forward_cpu, float, float)
INSTANTIATE_ONE(linear_forward_cpu, bf16, bf16)
INSTANTIATE_AND_DOUBLE(linear_backward_input_cpu)
INSTANTIATE_AND_DOUBLE(linear_backward_weight_cpu)
INSTANTIATE_AND_DOUBLE(linear_workspace_bytes_cpu)
INSTANTIATE_ONE(linear_forward_cpu, bf16, float)

}  // namespace moba

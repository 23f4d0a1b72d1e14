#include "moba/ops/norm.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

static const int chunk_rows = 256;

template <class E>
size_t norm_workspace_bytes_cpu(NormShape s) {
    return (size_t)ceil_div(s.M, chunk_rows) * s.C * sizeof(acc_t<E>);
}

template <class E>
void norm_forward_cpu(const Ctx&, E* y, acc_t<E>* rstd, const E* x, const E* w, NormShape s) {
    using A = acc_t<E>;
    parallel_ranges(s.M, chunk_rows, [&](size_t b, size_t e) {
        for (size_t m = b; m < e; m++) {
            const E* row = x + m * s.C;
            A sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int c = 0; c < s.C; c++) { sum += A(row[c]) * A(row[c]); }
            const A r = 1 / std::sqrt(sum / s.C + A(s.eps));
            rstd[m] = r;
            for (int c = 0; c < s.C; c++) { y[m * s.C + c] = E(A(row[c]) * r * A(w[c])); }
        }
    });
}

template <class E>
void residual_norm_forward_cpu(const Ctx& ctx, E* y, E* norm, acc_t<E>* rstd, const E* x, const E* b,
                               const E* w, const StepState* state, DropoutShape d, NormShape s) {
    REQUIRE(d.n == (size_t)s.M * s.C, "%zu elements in %d rows of %d", d.n, s.M, s.C);
    residual_forward_cpu(ctx, y, x, b, state, d);
    norm_forward_cpu(ctx, norm, rstd, (const E*)y, w, s);
}

template <class E>
void norm_backward_cpu(const Ctx& ctx, E* dx, acc_t<E>* dw, const E* dy, const E* x, const E* w,
                       const acc_t<E>* rstd, NormShape s) {
    using A = acc_t<E>;
    const int chunks = ceil_div(s.M, chunk_rows);
    REQUIRE(norm_workspace_bytes_cpu<E>(s) <= ctx.workspace_bytes, "workspace of %zu bytes",
            ctx.workspace_bytes);
    A* partials = (A*)ctx.workspace;  // (chunks, C)
    parallel_for(chunks, [&](size_t chunk, int) {
        A* sum_dw = partials + chunk * s.C;
        std::fill_n(sum_dw, s.C, A(0));
        const size_t end = std::min<size_t>(s.M, (chunk + 1) * chunk_rows);
        for (size_t m = chunk * chunk_rows; m < end; m++) {
            const E *row = x + m * s.C, *dyr = dy + m * s.C;
            const A r = rstd[m];
            A gh = 0;
#pragma omp simd reduction(+ : gh)
            for (int c = 0; c < s.C; c++) { gh += A(dyr[c]) * A(w[c]) * (A(row[c]) * r); }
            gh /= s.C;
            E* dxr = dx + m * s.C;
            for (int c = 0; c < s.C; c++) {
                const A h = A(row[c]) * r, d = A(dyr[c]);
                sum_dw[c] += d * h;
                dxr[c] = E(A(dxr[c]) + r * (d * A(w[c]) - h * gh));
            }
        }
    });
    for (int chunk = 0; chunk < chunks; chunk++) {
        for (int c = 0; c < s.C; c++) { dw[c] += partials[(size_t)chunk * s.C + c]; }
    }
}

INSTANTIATE_AND_DOUBLE(norm_forward_cpu)
INSTANTIATE_AND_DOUBLE(residual_norm_forward_cpu)
INSTANTIATE_AND_DOUBLE(norm_backward_cpu)
INSTANTIATE_AND_DOUBLE(norm_workspace_bytes_cpu)

}  // namespace moba

#include "moba/ops/residual.h"
#include "moba/core/parallel.h"
#include "moba/core/philox.h"
#include <algorithm>

namespace moba {

// Calls f(i, factor) for every element i: factor = 0 if it is dropped, else 1/(1-p).
template <class A, class F>
static void masked(const StepState* state, DropoutShape s, F f) {
    const DropoutMask<A> mask = dropout_mask<A>(s);
    parallel_ranges(s.n, 8192, [&](size_t b, size_t e) {
        if (s.p == 0) {
            for (size_t i = b; i < e; i++) { f(i, A(1)); }
            return;
        }
        for (size_t i = b; i < e;) {
            // up to the end of the row; without `token` there are no rows
            const size_t row = i / s.width, end = s.token ? std::min(e, (row + 1) * s.width) : e;
            size_t g = s.token ? s.token[row] * (size_t)s.width + i % s.width : i;
            while (i < end) {
                const Philox4 r =
                    philox(state->seed, (uint32_t)(g / 4), state->step, state->micro_batch, mask.site);
                do {
                    f(i++, r.word[g % 4] >= mask.threshold ? mask.keep : A(0));
                } while (++g % 4 != 0 && i < end);
            }
        }
    });
}

template <class E>
void residual_forward_cpu(const Ctx&, E* y, const E* x, const E* b, const StepState* state, DropoutShape s) {
    using A = acc_t<E>;
    masked<A>(state, s, [=](size_t i, A factor) { y[i] = E((x ? A(x[i]) : A(0)) + factor * A(b[i])); });
}

template <class E>
void residual_backward_cpu(const Ctx&, E* db, const E* dy, const StepState* state, DropoutShape s) {
    using A = acc_t<E>;
    masked<A>(state, s, [=](size_t i, A factor) { db[i] = E(factor * A(dy[i])); });
}

INSTANTIATE_AND_DOUBLE(residual_forward_cpu)
INSTANTIATE_AND_DOUBLE(residual_backward_cpu)

}  // namespace moba

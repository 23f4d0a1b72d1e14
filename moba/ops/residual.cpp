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
        for (size_t i = b; i < e; i += 4) {
            const Philox4 r =
                philox(state->seed, (uint32_t)(i / 4), state->step, state->micro_batch, mask.site);
            for (size_t j = i; j < std::min(i + 4, e); j++) {
                f(j, r.word[j - i] >= mask.threshold ? mask.keep : A(0));
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

#include "moba/ops/loss.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

template <class E>
void loss_forward_backward_cpu(const Ctx&, acc_t<E>* loss, int* correct, E* dz, const acc_t<E>* z,
                               const int* target, const StepState* state, LossShape s) {
    using A = acc_t<E>;
    parallel_ranges(s.M, 16, [&](size_t b, size_t e) {
        for (size_t m = b; m < e; m++) {
            const A* row = z + m * s.V;
            E* drow = dz ? dz + m * s.V : nullptr;
            if (target[m] == ignored) {
                loss[m] = 0;
                correct[m] = 0;
                if (dz) { std::fill_n(drow, s.V, E(0)); }
                continue;
            }
            REQUIRE(target[m] >= 0 && target[m] < s.V, "target %d of %zu, V = %d", target[m], m, s.V);
            const A top = highest(row, s.V);
            A sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int v = 0; v < s.V; v++) { sum += fast_exp(row[v] - top); }
            int best = 0;
            while (best < s.V - 1 && row[best] != top) { best++; }
            correct[m] = best == target[m];
            loss[m] = std::log(sum) + top - row[target[m]];
            if (dz) {
                const A scale = (A)state->loss_scale, share = scale / sum;
                const A at_target = (fast_exp(row[target[m]] - top) / sum - 1) * scale;
#pragma omp simd
                for (int v = 0; v < s.V; v++) { drow[v] = E(fast_exp(row[v] - top) * share); }
                drow[target[m]] = E(at_target);
            }
        }
    });
}

INSTANTIATE_AND_DOUBLE(loss_forward_backward_cpu)

}  // namespace moba

#include "moba/ops/loss_sums.h"

namespace moba {

template <class A>
void loss_sums_cpu(const Ctx&, double* sums, const A* loss, const int* correct, int M) {
    double sum = 0;
    long right = 0;
    for (int m = 0; m < M; m++) {
        sum += (double)loss[m];
        right += correct[m];
    }
    sums[0] += sum;
    sums[1] += (double)right;
}

INSTANTIATE_ONE(loss_sums_cpu, float)
INSTANTIATE_ONE(loss_sums_cpu, double)

}  // namespace moba

#include "moba/ops/loss_sums.h"

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

template void loss_sums_cpu(const Ctx&, double*, const float*, const int*, int);
template void loss_sums_cpu(const Ctx&, double*, const double*, const int*, int);

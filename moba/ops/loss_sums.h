/* The losses of a step, summed. The sums stay on the device, so that the host need not wait inside a step.

   Math     sums[0] += sum_m loss[m]        sums[1] += sum_m correct[m]
   Shapes   sums (2) double · loss (M) acc_t<E> · correct (M) int
   Units    nats; tokens
   Needs    M >= 0
   Error    sums in double: 2^-53 for each addition
   Cost     2*M reads by one thread block; a few microseconds
   Order    fixed by M */
#pragma once
#include "moba/core/base.h"

namespace moba {

template <class A>
void loss_sums_cpu(const Ctx&, double* sums, const A* loss, const int* correct, int M);
template <class A>
void loss_sums_gpu(const Ctx&, double* sums, const A* loss, const int* correct, int M);

}  // namespace moba

/* Softmax cross-entropy, forward and backward in one pass over the logits of a chunk of tokens.

   Math     loss[m] = log(sum_v e^z[m,v]) - z[m,target]          0 if target is `ignored`
            dz[m,v] = (softmax(z[m])[v] - [v = target]) scale    0 if target is `ignored`
   Shapes   z (M, V) acc_t<E> · target (M) int · loss (M) acc_t<E> · correct (M) int: 1 if the target has the
            largest logit (of equal logits the lowest index counts), else 0 · dz (M, V) E, may be null (no
            gradient), may alias z
   Units    nats; scale = StepState.loss_scale: 1 / (targets that count in the whole optimizer step)
   Needs    target in [0, V) or ignored
   Error    fp32 against fp64: 2^-23 of |loss| + log V (measured 5e-8), dz 1.3e-6 relative (3e-7)
   Cost     2 reads and 1 write of M*V logits; memory bound
   Order    fixed. On the CPU and in version 1 a row is summed in order of v; in versions 2 and 3 each thread
            sums every 256th or 1024th logit (version 3: pack of 4); then these sums are added */
#pragma once
#include "moba/ops/step_state.h"

namespace moba {

constexpr int ignored = -1;

struct LossShape {
    int M, V;
};

template <class E>
void loss_forward_backward_cpu(const Ctx&, acc_t<E>* loss, int* correct, E* dz, const acc_t<E>* z,
                               const int* target, const StepState*, LossShape);

template <class E>
void loss_forward_backward_gpu(const Ctx&, acc_t<E>* loss, int* correct, E* dz, const acc_t<E>* z,
                               const int* target, const StepState*, LossShape);

}  // namespace moba

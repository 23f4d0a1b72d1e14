/* Adds a branch (attention, MLP) to the residual stream, with dropout on the branch. Also dropout on the
   embedding.

   Source   Srivastava et al. 2014; inverted scaling (elements that are not dropped are divided by 1-p)
   Math     y = x + mask b / (1-p)             (x = null: y = mask b / (1-p))
            backward: db = mask dy / (1-p)     dx = dy, left to the caller
            mask[i] = 1 if word i%4 of philox(key = seed, counter = (i/4, step, micro-batch, 8 layer + site))
            is >= floor(p 2^32), else 0. Only integers are compared, so every device drops the same elements.
   Shapes   x, b, y, dy, db (n) E; y may alias x or b, db may alias dy
   Units    p in [0, 1): the probability that an element is dropped
   Needs    n/4 < 2^32
   Error    the rounding of one multiplication and one addition
   Cost     3*n elements; with p > 0 one Philox block (about 60 integer operations) per 4 elements */
#pragma once
#include "moba/core/base.h"

namespace moba {

/* Values that change from step to step. In device memory, so that a recorded step can be replayed. */
struct StepState {
    uint64_t seed;
    uint32_t step, micro_batch;
    double loss_scale;  // 1 / (number of targets that count in the whole optimizer step)
    double learning_rate;
};

enum class DropoutSite { attention = 0, mlp = 1, embedding = 2 };

struct DropoutShape {
    size_t n;
    float p;
    int layer;
    DropoutSite site;
};

template <class E>
void residual_forward_cpu(const Ctx&, E* y, const E* x, const E* b, const StepState*, DropoutShape);
template <class E>
void residual_backward_cpu(const Ctx&, E* db, const E* dy, const StepState*, DropoutShape);

template <class E>
void residual_forward_gpu(const Ctx&, E* y, const E* x, const E* b, const StepState*, DropoutShape);
template <class E>
void residual_backward_gpu(const Ctx&, E* db, const E* dy, const StepState*, DropoutShape);

}  // namespace moba

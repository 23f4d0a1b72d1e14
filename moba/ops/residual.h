/* Dropout on what is added to the residual stream, and on the embedding; with the addition itself.

   Source   Srivastava et al. 2014; inverted scaling (kept elements divided by 1-p)
   Math     y = x + mask b / (1-p)             (x absent: y = mask b / (1-p))
            backward: db = mask dy / (1-p)     dx = dy, left to the caller
            element i is kept where word i%4 of philox(key = seed, counter = (i/4, step, micro-batch, 8 layer + site))
            is >= floor(p 2^32): integers only, so every device drops the same elements
   Shapes   x, b, y, dy, db (n) E; y may alias x or b, db may alias dy
   Units    p in [0, 1): the share that is dropped
   Needs    n/4 < 2^32
   Error    the rounding of one multiplication and one addition
   Cost     3*n elements; with p > 0 one Philox block (about 60 integer operations) for 4 elements */
#pragma once
#include "moba/core/base.h"

namespace moba {

/* Numbers that change from step to step. They lie in device memory, so that a captured step can be replayed. */
struct StepState {
    uint64_t seed;
    uint32_t step, micro_batch;
    double loss_scale;  // 1 / counted targets of the whole optimizer step
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

/* The values of an optimizer step that several operations read: dropout, loss and AdamW. */
#pragma once
#include "moba/core/base.h"

namespace moba {

/* In device memory, so that a recorded step can be replayed while these values change from step to step. */
struct StepState {
    uint64_t seed;
    uint32_t step, micro_batch;
    double loss_scale;  // 1 / (number of targets that count in the whole optimizer step)
    double learning_rate;
};

}  // namespace moba

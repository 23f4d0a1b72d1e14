/* How long a training step should take on a card that is not here, from counts of its work.

   Math     time = flop / (peak of the card * share reached), or bytes / (memory speed * share reached).
            Products and attention: flops.h. Choice: D for each query, head that chooses, and mean of a block
            of its sequence. All of the rank that has the most tokens
   Shares   measured on an H100 and an H200 with this program's kernels (LOG.md, 28 November 2026); they hold
            from about 8192 tokens for each rank on. A narrow model (hidden size 768) was measured; wider ones
            have faster products
   Left out launches, waits between ranks, the tables that the CPU builds for --context-parallel, the key
            convolution, --num-blocks, --attention-impl naive */
#pragma once
#include "moba/config.h"
#include "train/lab/cards.h"
#include "train/run/trainer.h"

namespace moba {

struct StepWork {                                          // of the rank with the most tokens
    double products = 0, moba = 0, dense = 0, choice = 0;  // flop; dense: full and window layers
    double bytes = 0;                                      // read and written by everything else
};
/* context: ranks that share a sample. */
StepWork step_work(const StepPlan&, int ranks, int context, bool recompute, bool bf16);

struct StepTime {  // seconds
    double products, attention, choice, rest;
    double sum() const { return products + attention + choice + rest; }
};
StepTime step_time(const LabCard&, const Config&, const StepWork&, bool bf16);

}  // namespace moba

/* How long a training step should take on a card that is not here, from counts of its work.

   Math     time = flop / (peak of the card * share reached), or bytes / (memory speed * share reached).
            Products: 6 flop for each weight and token. Attention: 14 D for each query, head and visible key.
            Choice: D for each query, head and block of its sequence
   Shares   measured on an H100 and an H200 with this program's kernels (LOG.md, 28 November 2026); they hold
            from about 8192 tokens for each rank on. A narrow model (hidden size 768) was measured; wider ones
            have faster products
   Left out launches and the waits between ranks, except for what is sent */
#pragma once
#include "moba/config.h"
#include "train/lab/cards.h"
#include "train/run/trainer.h"

namespace moba {

struct StepWork {                                          // of one rank
    double products = 0, moba = 0, dense = 0, choice = 0;  // flop; dense: full and window layers
    double bytes = 0;                                      // read and written by everything else
};
StepWork step_work(const StepPlan&, int ranks, bool recompute, bool bf16);

struct StepTime {  // seconds
    double products, attention, choice, rest;
    double sum() const { return products + attention + choice + rest; }
};
StepTime step_time(const LabCard&, const Config&, const StepWork&, bool bf16);

}  // namespace moba

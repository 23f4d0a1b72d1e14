/* How much of a device's arithmetic a training step uses: MFU, model flop utilisation.

   Source   Chowdhery et al. 2022, arXiv:2204.02311, appendix B
   Math     MFU = flop of a step / its time / peak;   flop of a step = 6 * weights * tokens + 14 * D * H * pairs
            weights: without the embedding; those of the head for counted tokens only, as only they have logits
            pairs: queries and the keys they may see, of all layers; 4 * D forward, 10 * D backward (attention.h)
   Units    flop, and flop/s for peaks */
#pragma once
#include "moba/config.h"

namespace moba {

double step_flop(const Config&, size_t num_parameters, const std::vector<int>& cu_seqlens, int counted);

/* Dense products of bf16, or fp32 without tensor cores, as the maker publishes it; 0 for a device that is not in the list. */
double published_peak(const std::string& device_name, bool low);
/* The fastest of a few products on this device, of growing size; some 80 ms. */
template <class E>
double measured_peak(Device);
/* Published where it is known, else measured. */
template <class E>
double peak_flops(Device);

}  // namespace moba

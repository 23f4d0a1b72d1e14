/* The share of a device's arithmetic that a training step uses: MFU, model flop utilisation.

   Source   Chowdhery et al. 2022, arXiv:2204.02311, appendix B
   Math     MFU = flop of a step / its time / peak
            flop of a step = 6 * weights * tokens + 14 * D * H * pairs
            weights: without the embedding; those of the output layer only for counted tokens, which alone
                     have logits
            pairs:   of a query and a key it may see, in all layers; 4 * D forward, 10 * D backward
                     (attention.h)
   Units    flop, and flop/s for peaks */
#pragma once
#include "moba/config.h"

namespace moba {

double step_flop(const Config&, size_t num_parameters, const std::vector<int>& cu_seqlens, int counted);

/* Its parts. moba and dense: the pairs of moba layers, and of full and window layers. */
struct StepFlop {
    double products = 0, moba = 0, dense = 0;
};
StepFlop step_flop_parts(const Config&, size_t num_parameters, const std::vector<int>& cu_seqlens,
                         int counted);

/* The manufacturer's number for dense products in bf16 (`low`), or in fp32 without tensor cores; 0 for a
   device that is not in the list. */
double published_peak(const std::string& device_name, bool low);
/* The fastest of a few products of growing size on this device; takes about 80 ms. */
template <class E>
double measured_peak(Device);
/* The published peak where it is known, else the measured one. */
template <class E>
double peak_flops(Device);

}  // namespace moba

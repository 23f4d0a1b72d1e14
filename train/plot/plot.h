/* `moba plot`: the curves of training runs as a page, as CSV, and as event files for TensorBoard. */
#pragma once
#include "train/plot/plot_options.h"

namespace moba {

int run_plot(const PlotOptions&);

}  // namespace moba

/* The page of `moba plot`: loss, rate, gradient norm and speed of one or several runs, the options in which
   they differ, and the texts that a model wrote at its validations. */
#pragma once
#include "train/plot/run_curves.h"

namespace moba {

/* reload: seconds after which an open page loads itself again; 0 = never. */
std::string plot_page(const std::vector<RunCurves>&, int reload);

}  // namespace moba

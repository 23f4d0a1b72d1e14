/* What a model folder holds: settings, sizes, origin. */
#pragma once
#include "train/options/options.h"

namespace moba {

int run_info(const InfoOptions&);

}  // namespace moba

/* moba info: prints the settings, sizes and origin of a model folder. */
#pragma once
#include "train/options/options.h"

namespace moba {

int run_info(const InfoOptions&);

}  // namespace moba

/* What a model folder holds: settings, sizes, origin. */
#pragma once
#include "train/options.h"

int run_info(const InfoOptions&);

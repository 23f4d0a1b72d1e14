/* Timing: attention alone, a training step, every operation. Medians over repeated runs after one that does not count. */
#pragma once
#include "train/bench/bench_options.h"

namespace moba {

int run_bench(const BenchOptions&);

}  // namespace moba

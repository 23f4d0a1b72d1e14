/* moba bench: times attention alone, a training step, decoding, or every operation. Medians over repeated
   runs, after one run that does not count. */
#pragma once
#include "train/bench/bench_options.h"

namespace moba {

int run_bench(const BenchOptions&);

}  // namespace moba

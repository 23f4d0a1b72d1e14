/* moba bench op: times every operation at the sizes of one training step. */
#pragma once
#include "train/bench/bench_options.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

template <class E>
void bench_ops(const BenchOptions&, nlohmann::json& result);

}  // namespace moba

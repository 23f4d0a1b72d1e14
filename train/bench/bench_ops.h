/* moba bench op: times every operation at the sizes of one training step. */
#pragma once
#include "train/bench/bench_rows.h"

namespace moba {

/* "B=1 T=1024 C=256 ..." */
std::string op_sizes(const BenchOptions&);

/* Every operation, in sets that share tensors: the name of a set, and what makes its operations. */
using OpSetList = std::vector<std::pair<std::string, MakeBenches>>;
template <class E>
OpSetList op_sets(const BenchOptions&);

template <class E>
void bench_ops(const BenchOptions&, nlohmann::json& result);

}  // namespace moba

/* bench op: every operation at the sizes of one training step. */
#pragma once
#include "train/options.h"
#include <functional>

double median_ms(int repeats, const std::function<void()>& run);
std::vector<float> random_floats(size_t n, uint64_t stream);  // normal, the same on every machine
template <class X>
std::vector<X> random_elements(size_t n, uint64_t stream) {
    const std::vector<float> v = random_floats(n, stream);
    return {v.begin(), v.end()};
}

template <class E>
void bench_ops(const BenchOptions&, nlohmann::json& result);

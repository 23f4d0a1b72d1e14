/* What a rank sends in a training step, as `moba train` prints it at the end and `moba plan` before. */
#pragma once
#include "moba/core/device_ops.h"
#include <algorithm>

namespace moba {

struct StepBytes {
    double all = 0, attention = 0;
    double ring = 0, gathering = 0;  // attention instead, see sent_bytes.h
};

/* of_ranks: of each rank. The line is about the one that sends most. */
inline std::string sent_line(const std::vector<StepBytes>& of_ranks, bool context) {
    const auto most = std::max_element(of_ranks.begin(), of_ranks.end(),
                                       [](const auto& a, const auto& b) { return a.all < b.all; });
    const auto text = [](double bytes) { return readable_bytes((size_t)bytes); };
    std::string line = "sent     " + text(most->all) + " in a step by rank " +
                       std::to_string(most - of_ranks.begin()) + ", the most of all ranks";
    if (!context) { return line; }
    return line + "\n         gradients and weights " + text(most->all - most->attention) + ", attention " +
           text(most->attention) + "; with ring attention " + text(most->ring) +
           ", gathering keys and values " + text(most->gathering);
}

}  // namespace moba

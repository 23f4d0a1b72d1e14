/* The time of a model's attention alone, and the memory for its training, by length at B = 1. */
#pragma once
#include "train/compare/child.h"
#include "train/run/trainer.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

/* Runs `moba <words>`, a bench of attention at length T, with its output in the file `log`. */
using RunBench =
    std::function<ChildResult(const std::vector<std::string>& words, const std::string& log, int T)>;

/* Returns [{"seq_len", "memory_bytes", "forward_ms", "attention_ms" (both passes, all layers)}, ...], without
   the lengths that the task does not allow. Timings are stored in `dir` and not repeated if they are there;
   an empty `bench` times nothing. A row has no times if the model mixes block sizes (`bench attention` has
   only one) or if timing failed; then `problem` says why. */
nlohmann::json attention_by_length(const TrainOptions&, const Config&, const std::vector<int>& lengths,
                                   const std::string& dir, const RunBench& bench, std::string& problem);

}  // namespace moba

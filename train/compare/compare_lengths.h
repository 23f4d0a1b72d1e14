/* What a model's attention takes alone, and its training in memory, by length at B = 1. */
#pragma once
#include "train/compare/child.h"
#include "train/run/trainer.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

/* Runs `moba bench ...`, which prints into `log`. */
using RunBench =
    std::function<ChildResult(const std::vector<std::string>& words, const std::string& log, int T)>;

/* [{"seq_len", "memory_bytes", "forward_ms", "attention_ms" (both passes, all layers)}, ...]. Timings lie in `dir`, and what lies there is not
   timed again; an empty `bench` times nothing. Without times where block sizes are mixed (bench attention knows one), and where timing failed:
   `problem` then says why. */
nlohmann::json attention_by_length(const TrainOptions&, const Config&, const std::vector<int>& lengths,
                                   const std::string& dir, const RunBench& bench, std::string& problem);

}  // namespace moba

/* What a model's attention takes alone, and its training in memory, by length at B = 1. */
#pragma once
#include "train/child.h"
#include "train/trainer.h"
#include <nlohmann/json_fwd.hpp>

/* Runs `moba bench ...`, which prints into `log`. */
using RunBench =
    std::function<ChildResult(const std::vector<std::string>& words, const std::string& log, int T)>;

/* [{"seq_len", "memory_bytes", "forward_ms", "attention_ms" (both passes, all layers)}, ...]. Timings lie in `dir`, and what lies there is not
   timed again. Without times where block sizes are mixed: bench attention knows one. Throws Error where a timing fails. */
nlohmann::json attention_by_length(const TrainOptions&, const Config&, const std::vector<int>& lengths,
                                   const std::string& dir, const RunBench&);

/* A run's figures from its log.jsonl: what a training cost, and its loss by tokens, seconds and flop.

   {"steps", "tokens", "seconds" (of the steps, without validation), "flop", "ms_per_step" and "tokens_per_s" (median over the steps of the
    last length), "curve": [{"step", "tokens", "seconds", "flop", "loss", "accuracy"}, ...] (means over up to 200 stretches of
    steps, placed at the end of each), "validation": [the same at each validation]} */
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

nlohmann::json train_figures(const std::string& log);

}  // namespace moba

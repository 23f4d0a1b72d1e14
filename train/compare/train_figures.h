/* The figures of a run from its log.jsonl: the cost of the training; the loss by tokens, seconds and flop.

   {"steps", "tokens", "flop",
    "seconds"                       of the steps, without validation
    "ms_per_step", "tokens_per_s"   medians over the steps at the last sequence length
    "curve": [{"step", "tokens", "seconds", "flop", "loss", "accuracy"}, ...]
                                    up to 200 points; each has the mean loss and accuracy of a range of steps,
                                    and the step, tokens, seconds and flop at the end of that range
    "validation": [...]             the same keys for each validation} */
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

/* Throws Error if the file is not the log of a run. */
nlohmann::json train_figures(const std::string& log);

}  // namespace moba

/* Shared by the evaluations of tasks and of text. */
#pragma once
#include "train/eval/evaluate.h"
#include "train/eval/tally.h"
#include "train/run/scorer.h"
#include <nlohmann/json.hpp>

namespace moba {

template <class E>
nlohmann::json eval_task(Comm&, const EvalOptions&, const ModelFolder&, const Config&);
template <class E>
nlohmann::json eval_text(Comm&, const EvalOptions&, const ModelFolder&, const Config&, bool print);

// On a terminal only: a line that the next call overwrites; "" clears it.
void show_progress(const std::string&);
// The share of the pairs that MoBA leaves out at this length, for the end of a line; "" without moba layers.
std::string sparsity_note(const Config&, int T);
std::vector<int> lengths_of(const EvalOptions&, const ModelFolder&);  // ascending, each once
nlohmann::json head_of_result(const EvalOptions&, const Config&);

}  // namespace moba

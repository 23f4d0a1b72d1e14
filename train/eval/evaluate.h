/* Evaluation. Tasks: how often all tokens of an answer are right, by length and depth; on request router
   recall. Text: loss. Both: loss by position. */
#pragma once
#include "train/eval/eval_options.h"

namespace moba {

int run_eval(const EvalOptions&);

}  // namespace moba

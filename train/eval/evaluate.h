/* Evaluation. Tasks: how often all tokens of an answer are right, by length and depth; on request router
   recall. Text: loss. Both: loss by position. */
#pragma once
#include "moba/config.h"
#include "moba/core/comm.h"
#include "train/eval/eval_options.h"
#include "train/tasks/task.h"

namespace moba {

/* Ranks share the batches; rank 0 prints and writes. */
int run_eval(Comm&, const EvalOptions&);
/* The memory that a model takes to be evaluated on a task at one length. E: as --precision. */
template <class E>
size_t evaluation_bytes(const EvalOptions&, const Config&, const Task&, int T, int samples);

}  // namespace moba

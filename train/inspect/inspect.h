/* `moba inspect`: which blocks each query chose and what full attention would read, as a page and as JSON.

   JSON     {"model", "precision", "layers": ["moba:rope", ...],
             "tokens": ["k7", ...], "ids": [...],      the prompt
             "question": t, "source": t,               of a test: the token that asks, and the token with the
                                                       answer; otherwise null
             "answer": "v3", "probability", "right",   of a test only: the first token of the answer, the
                                                       probability that the model gives it, and whether no
                                                       other token is more likely
             "reached", "totals", "paths",             of a test only: train/inspect/answer_paths.h
             "views": [...]}                           for each layer and head: train/inspect/head_view.h */
#pragma once
#include "train/inspect/inspect_options.h"

namespace moba {

int run_inspect(const InspectOptions&);

}  // namespace moba

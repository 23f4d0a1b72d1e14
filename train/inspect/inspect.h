/* `moba inspect`: which blocks each query chose, and what full attention would have read, as a page and as JSON.

   JSON     {"model", "precision", "layers": ["moba:rope", ...],
             "tokens": ["k7", ...], "ids": [...],          the prompt
             "question": t, "source": t,                   of a test: which token asks, and which one tells the answer; else null
             "answer": "v3", "probability", "right",       of a test: the answer's first token, and what the model makes of it
             "views": [...]}                               one for each layer and head: train/inspect/head_view.h */
#pragma once
#include "train/inspect/inspect_options.h"

namespace moba {

int run_inspect(const InspectOptions&);

}  // namespace moba

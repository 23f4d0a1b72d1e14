/* The training loop: draws batches, steps the model, validates, saves, resumes. */
#pragma once
#include "train/options.h"

/* Runs until the last step, Ctrl-C, or an Error. Returns the exit status: 0, also after Ctrl-C.
   option_values: every option by name, for the settings shown and saved. */
int run_train(const TrainOptions&, const nlohmann::json& option_values);

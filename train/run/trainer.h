/* The training loop: draws batches, steps the model, validates, saves, resumes. */
#pragma once
#include "moba/core/comm.h"
#include "train/data/data.h"
#include "train/run/train_command.h"

namespace moba {

/* As one of the ranks of a run: reads the words of `moba train`, then trains until the last step, Ctrl-C, or
   an Error. Returns the exit status: 0, also after Ctrl-C. */
int run_train(Comm&, const std::vector<std::string>& words);

/* Describes a run without starting it. Throws Error for every wrong option; allocates and writes nothing. */
struct TrainPlan {
    Config config;
    size_t parameters, memory_bytes;
    nlohmann::json fingerprint;  // of the data, as in check_same_data()
};
TrainPlan plan_training(const TrainOptions&);

/* A step of the last stage, on as many ranks as the Comm has. data: instead of what the options name. */
struct StepPlan {
    Config config;
    size_t parameters, memory_bytes;
    std::string memory;  // of a rank, as text
    struct Samples {
        std::vector<int> cu_seqlens{0};  // {0}: none
        int counted = 0;                 // targets
    };
    std::vector<std::vector<Samples>> batches;  // of each micro-batch and group of ranks (--context-parallel)
};
StepPlan plan_step(const TrainCommand&, Comm&, std::unique_ptr<Data> data);

}  // namespace moba

/* What a training run consists of, as its options and its data decide: the model, the stages, the largest
   batch. */
#pragma once
#include "train/data/data.h"
#include "train/run/train_command.h"

namespace moba {

/* The model that is trained. init: the folder of --init-from. Throws Error. */
Config training_config(const TrainCommand&, const Data&, const std::optional<ModelFolder>& init);
/* The stages of --curriculum, then the final one. Throws Error where no sample fits, or there are too many
   steps. */
std::vector<Stage> training_stages(const TrainOptions&, const Data&);
/* Memory for the largest micro-batch of all stages; so many groups of ranks share it. */
ModelSizes training_sizes(const TrainOptions&, const Data&, const std::vector<Stage>&, int groups);

}  // namespace moba

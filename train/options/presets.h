/* Defaults that depend on what is trained, a text or the weights of another model, and those of --size. What
   the command line or --config gives is used instead. */
#pragma once
#include "train/options/options.h"

namespace moba {

std::vector<std::string> size_names();
std::vector<std::string> size_options(const std::string& size);  // the options that it sets

/* Words for the options that were not given. init: the model of --init-from, nullptr without it. */
std::vector<std::string> preset_words(const TrainOptions&, const Config* init);

/* What they are, for the help. */
struct PresetHelp {
    std::string with, values;  // "--data"; "--top-k 4 --steps 1000 ..."
};
std::vector<PresetHelp> preset_help();

}  // namespace moba

/* The words of `moba train`: the command line, --config behind it, and with --resume the run's own settings. */
#pragma once
#include "train/options/options.h"
#include <nlohmann/json.hpp>

namespace moba {

struct TrainCommand {
    TrainOptions options;
    nlohmann::json values;  // every option by name, for the settings shown and saved
};

/* Throws CLI::ParseError, Error. */
TrainCommand parse_train(const std::vector<std::string>& words);
/* app.parse, which prints the help that words may ask for before it throws CLI::CallForHelp. */
void parse_words(CLI::App&, std::vector<std::string> words);

}  // namespace moba

/* The words of `moba train`: the command line, then --config, and with --resume the settings of the run. */
#pragma once
#include "train/files/checkpoint.h"
#include "train/files/run_folder.h"
#include "train/options/options.h"
#include <optional>

namespace moba {

struct Checkpoint {
    ModelFolder folder;
    RunState state;
    FolderLock lock;  // taken before anything was read
};

struct TrainCommand {
    TrainOptions options;
    nlohmann::json values;              // every option by name, for the settings shown and saved
    std::optional<Checkpoint> resumed;  // of --resume
};

// The message when another process holds the lock.
std::string locked_folder(const std::string& out);

/* take_lock: whether this process takes the lock of a run that continues; of several ranks one does. Throws
   CLI::ParseError, Error. */
TrainCommand parse_train(const std::vector<std::string>& words, bool take_lock = true);
/* app.parse, which prints the help that words may ask for before it throws CLI::CallForHelp. */
void parse_words(CLI::App&, std::vector<std::string> words);

}  // namespace moba

/* The options for a prompt, of `moba sample`, `moba inspect` and `moba tokens`. Only one can be given. */
#pragma once
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace moba {

struct PromptOptions {
    std::string text, file, ids_file;
    std::vector<int> ids;
};

/* Adds --prompt, --prompt-file, --prompt-ids and --prompt-ids-file, and returns them. otherwise: what an
   empty prompt means. */
std::vector<CLI::Option*> add_prompt_options(CLI::App&, PromptOptions&, const std::string& otherwise);

}  // namespace moba

#include "train/options/prompt_options.h"
#include "train/options/option_builder.h"

namespace moba {

std::vector<CLI::Option*> add_prompt_options(CLI::App& app, PromptOptions& o, const std::string& otherwise) {
    const std::vector<CLI::Option*> all = {
        add(app, "--prompt", o.text, "TEXT",
            "Text; for a model of a task its token names, e.g. \"k3 v5 n1 k3\". Empty: " + otherwise),
        add(app, "--prompt-file", o.file, "FILE",
            "Read the text of the prompt from this file, every byte of it. -: from standard input."),
        add_list(app, "--prompt-ids", o.ids, "ID,...", "The prompt as token ids, instead of its text."),
        add(app, "--prompt-ids-file", o.ids_file, "FILE",
            "Read the token ids from this file, with commas or blanks between them. -: from standard "
            "input.")};
    for (CLI::Option* a : all) {
        for (CLI::Option* b : all) {
            if (a != b) { a->excludes(b); }
        }
    }
    return all;
}

}  // namespace moba

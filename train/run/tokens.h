/* moba tokens: the token ids of a text, or the text of token ids. */
#pragma once
#include "train/options/prompt_options.h"

namespace moba {

struct TokensOptions {
    std::string tokenizer, save_tokenizer;
    bool special_tokens = false, pieces = false;
    PromptOptions prompt;
};
void add_tokens_options(CLI::App&, TokensOptions&);

int run_tokens(const TokensOptions&);

}  // namespace moba

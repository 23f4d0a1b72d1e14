/* Prompts for a model, and its tokens as text: shared by `moba sample` and `moba inspect`. */
#pragma once
#include "train/files/checkpoint.h"
#include "train/options/prompt_options.h"
#include "train/tasks/task.h"
#include "train/tokenizer/tokenizer.h"
#include <optional>

namespace moba {

/* The task that a model was trained on or, if it was trained on none, the task `name` with its default
   settings. pairs and pair_every replace those of the model; 0 keeps them. Throws Error when `name`
   contradicts the model's task, or the vocabulary is too small. */
std::unique_ptr<Task> open_task(const ModelFolder&, const std::string& name, int pairs = 0,
                                int pair_every = 0);

/* Converts between a model's tokens and text: names of its task, text of its tokenizer, or plain ids. */
class TokenText {
  public:
    explicit TokenText(const ModelFolder&, const std::string& task_name = "");
    /* The tokens of a prompt. With a tokenizer: names of special tokens become these tokens, and what it puts
       before a text, such as a begin token, comes first. Throws Error. */
    std::vector<int> parse(const std::string& text) const;
    std::vector<int> parse_chat(const std::string& text) const;  // nothing is put before it
    int id_of(const std::string& name) const;                    // of a special token; -1 if there is none
    std::string write(const std::vector<int>& ids) const;
    /* One token by itself, always valid UTF-8 without control characters: "k7", "e", "\n", "\xc3",
       "#128000". */
    std::string name(int id) const;
    std::unique_ptr<Task> task;

  private:
    friend class TokenStream;
    std::unique_ptr<Tokenizer> tokenizer_;
};

/* Tokens that are written one after another. */
class TokenStream {
  public:
    explicit TokenStream(const TokenText& text);
    std::string write(int id);
    std::string write(const std::vector<int>& ids);

  private:
    const TokenText* text_;
    std::optional<TextStream> stream_;  // of a tokenizer
    bool first_ = true;
};

/* Where a prompt comes from: ids if there are any, else text, else a test of the task. */
struct PromptSource {
    std::string text;
    std::vector<int> ids;
    uint64_t seed = 1;  // random seed of the test
    int seq_len = 0;    // tokens of the test; 0 = the length that the model was trained for
    double depth = -1;  // place of what is asked for, 0 = at the start; negative = random
};

/* The text or the ids that the options name; reads their file. Throws Error. */
PromptSource read_prompt(const PromptOptions&);

/* A prompt made from a test ends with a question: the first one or, where each target is a separate answer,
   the last. */
struct Prompt {
    std::vector<int> tokens;
    std::vector<int> answer;  // of a test: the tokens that should follow
    int source = -1;          // of a test: the place that shows the first token of the answer
};

/* A drawn test on one line: long stretches of noise are counted, and the pair with the answer is in brackets:
   "(38 noise) k20 v7 (99 noise) [k10 v14] (27 noise) k10". */
std::string folded_test(const Prompt&, const TokenText&);

/* Throws Error when there is no prompt, a token is unknown, or the test does not fit. */
Prompt make_prompt(const PromptSource&, const ModelFolder&, const TokenText&);

}  // namespace moba

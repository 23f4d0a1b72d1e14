/* What a model is asked, and how its tokens are written: what `moba sample` and `moba inspect` share. */
#pragma once
#include "train/data/tokenizer.h"
#include "train/files/checkpoint.h"
#include "train/tasks/task.h"

namespace moba {

/* The task a model was trained on, or `name` with its default numbers where it was trained on none. Throws Error when the two
   contradict each other, or the vocabulary is too small. */
std::unique_ptr<Task> open_task(const ModelFolder&, const std::string& name);

/* How a model's tokens are read and written: names of its task, text of its tokenizer, or plain ids. */
class Speech {
  public:
    explicit Speech(const ModelFolder&, const std::string& task_name = "");
    std::vector<int> parse(const std::string& text) const;  // throws Error
    std::string write(int id, bool first) const;            // as it comes, behind others or as the first
    std::string write(const std::vector<int>& ids) const;
    /* One token by itself, always valid UTF-8 without control characters: "k7", "e", "\n", "\xc3", "#128000". */
    std::string name(int id) const;
    std::unique_ptr<Task> task;

  private:
    std::unique_ptr<Tokenizer> tokenizer_;
};

/* Where a prompt comes from: text, ids, or else a test of the task. */
struct PromptSource {
    std::string text;
    std::vector<int> ids;
    uint64_t seed = 1;  // of the test
    int seq_len = 0;    // of the test, in tokens; 0 = the length the model was trained for
    double depth = -1;  // of what is asked for, 0 = at the start; negative = drawn, too
};

/* A test ends with its question: the first token that wants an answer or, where every target is an answer of its own, the last. */
struct Prompt {
    std::vector<int> tokens;
    std::vector<int> answer;  // of a test: what should follow
    int source = -1;          // of a test: the place that tells the first token of the answer
};

/* Throws Error: no prompt, an unknown token, a test that does not fit. */
Prompt make_prompt(const PromptSource&, const ModelFolder&, const Speech&);

}  // namespace moba

/* The page of `moba inspect`: for every head the blocks that MoBA chose and the weights of full attention. */
#pragma once
#include "moba/choice_overlap.h"
#include "train/inspect/answer_paths.h"
#include "train/inspect/head_view.h"
#include <map>
#include <string>
#include <vector>

namespace moba {

/* The prompt, and for a test the model's answer. */
struct Inspection {
    std::string model;
    std::vector<std::string> layers;  // "moba:rope", ...
    std::vector<std::string> tokens;  // the name of each token
    std::vector<std::string> text;    // each token as part of the running text
    int question = -1, source = -1;   // the token that asks, the token with the answer; -1: not a test
    std::string answer = "";          // of a test: the first token of the answer
    double probability = 0;           // that the model gives to `answer`
    bool right = false;               // no other token is more likely
    bool reached = false;             // the layers let the answer through to the question
    std::vector<Path> paths = {};     // of the answer, the largest weight first
    std::vector<double> totals = {};  // weights of all paths by their number of hops, from 1 on

    bool is_test() const { return question >= 0; }
};

constexpr size_t max_page_bytes = 8 << 20;  // browsers are slow with larger pages
/* The queries with a row in each map: all, or every n-th one such that the question (without one, the last
   token) is among them. */
class PageRows {
  public:
    /* T: tokens; columns: blocks of all heads together. Throws Error when the page would have too few
       rows. */
    PageRows(int T, int question, size_t columns = 0);
    bool draws(int t) const { return t % step_ == last_ % step_; }
    int step() const { return step_; }
    std::vector<int> list(int T) const;

  private:
    int last_, step_;
};

class InspectPage {
  public:
    explicit InspectPage(Inspection);
    InspectPage(Inspection, const PageRows&);
    // overlap: of this head, empty unless moba. Throws Error when the page becomes too large.
    void add(const HeadView&, const ChoiceOverlap& overlap = {});
    std::string html() const;

  private:
    std::string card(const HeadView&) const;
    enum class Shown { chosen, full_attention };
    std::string matrix(const HeadView&, Shown) const;
    std::string data(const HeadView&) const;
    std::vector<std::string> summary_row(const HeadView&, const ChoiceOverlap&) const;
    std::string prompt() const;
    std::string introduction() const;
    std::string way_of_the_answer() const;

    Inspection about_;
    PageRows rows_;
    std::vector<int> drawn_;  // the queries with a row
    int num_views_ = 0;
    std::map<int, std::string> cards_;               // HTML by layer
    std::string data_;                               // of all views, for the script
    std::vector<std::vector<std::string>> summary_;  // rows of the table of heads
    size_t bytes_ = 0;                               // of cards_ and data_
    bool chooses_ = false, windows_ = false;         // there is a moba layer, a layer with a window
};

}  // namespace moba

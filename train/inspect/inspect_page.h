/* The page of `moba inspect`: for every head MoBA's choice beside full attention's weights, block by block. */
#pragma once
#include "train/inspect/head_view.h"
#include <map>
#include <string>
#include <vector>

namespace moba {

/* What was asked, and what the model made of it. */
struct Inspection {
    std::string model;
    std::vector<std::string> layers;  // names of their kinds
    std::vector<std::string> tokens;  // names, one by one
    std::vector<std::string> text;    // the same as running text
    int question = -1, source = -1;   // tokens; -1: the prompt is no test
    std::string answer = "";          // of a test: its first token
    double probability = 0;           // that the model gives it
    bool right = false;               // no other token is likelier

    bool is_test() const { return question >= 0; }
};

constexpr size_t max_page_bytes = 8 << 20;  // beyond, a browser is slow
constexpr int max_page_rows = 512;          // queries drawn; of more, every n-th

class InspectPage {
  public:
    explicit InspectPage(Inspection);
    void add(const HeadView&);  // throws Error when the page becomes too large
    std::string html() const;

  private:
    std::string card(const HeadView&) const;
    std::string matrix(const HeadView&, bool full) const;
    std::string data(const HeadView&) const;
    std::vector<std::string> summary_row(const HeadView&) const;
    std::string prompt() const;
    std::string introduction() const;

    Inspection about_;
    int step_;                // between two rows
    std::vector<int> drawn_;  // queries
    int num_views_ = 0;
    std::map<int, std::string> cards_;  // by layer
    std::string data_;
    std::vector<std::vector<std::string>> summary_;
    size_t bytes_ = 0;
    bool chooses_ = false, windows_ = false;  // what there is to explain
};

}  // namespace moba

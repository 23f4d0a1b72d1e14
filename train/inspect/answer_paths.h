/* The paths that an answer takes to the question, through the tokens between them.

   A token keeps its state from layer to layer (the residual stream), and each head adds what it reads from
   other tokens. So the answer can reach the question without any head that reads it from there: a token
   reads the answer in one layer, and the question reads that token in a later one.

   Math     a path = for each layer, either one hop (a head of the token that reads, and the token that is
            read), or none; it begins at the source and ends at the question
            weight of a path = product of the attention weights of its hops, each over the keys that the
            reading token sees in that layer
   Limits   a weight says how much attention is paid, not what the values carry. Not followed are paths below
            `least_weight`; and in each layer all tokens but the `widest` with the heaviest paths
   Cost     for each layer and head: `widest` rows of attention, 2*D flop for each key of a row */
#pragma once
#include "moba/attention_view.h"
#include <map>

namespace moba {

struct Hop {
    int layer, head;
    int from, to;   // `to` reads `from`
    double weight;  // attention weight, 0 to 1
};
struct Path {
    double weight = 1;
    std::vector<Hop> hops;  // from the first layer to the last
};

class AnswerPaths {
  public:
    AnswerPaths(const Sequences&, int question, int source);
    /* For every layer, from the last to the first. */
    void add(const AttentionView&, int layer);

    /* After all layers: whether the layers let the answer through to the question at all, whatever the
       weights (train/eval/router_reach.h). */
    bool reached() const { return reach_[source_ - begin_]; }
    /* After all layers: the paths with the largest weights, the largest first. */
    const std::vector<Path>& best() const;
    /* After all layers: the weights of all followed paths with this number of hops, added up. It may be more
       than 1: several layers and heads read the same token. */
    double total(size_t hops) const { return hops < sums_.size() ? sums_[hops][source_ - begin_] : 0; }

    static constexpr size_t widest = 256, most_paths = 8;
    static constexpr double least_weight = 1e-6;

  private:
    int source_, begin_;                     // begin: the first token of the sequence
    std::map<int, std::vector<Path>> from_;  // the best paths from this token's state to the question
    // by number of hops and token: the weights of the paths from this token's state to the question, added up
    std::vector<std::vector<double>> sums_;
    std::vector<char> reach_;  // by token of the sequence
};

}  // namespace moba

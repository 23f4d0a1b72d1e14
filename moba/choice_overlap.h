/* How alike the blocks are that neighbouring queries choose. A kernel could take a tile of neighbouring
   queries, walk over the union of their choices once, and mask what a query did not choose: it needs no lists
   and no merging, but computes pairs that are masked. These two numbers say what that would cost.

   Math     for the past blocks of a query, without its own block:
            same  = share of them that the query before it chose too
            extra = (queries of a tile) · (different blocks that they choose) / (all their choices), >= 1:
                    how many times as many pairs the walk over the union computes as MoBA needs
            Sums over all queries of the moba layers and heads, in tiles that begin with a sequence. */
#pragma once
#include "moba/attention_view.h"

namespace moba {

class ChoiceOverlap {
  public:
    static constexpr int tile = 64;  // queries
    void add(const AttentionView&);
    void add(const AttentionView&, int head);
    bool empty() const { return choices_ == 0; }
    double same() const;
    double extra() const;

  private:
    double choices_ = 0, pairs_of_unions_ = 0;
    // choices of queries with a query before them, and those of them that this query had made too
    double followed_ = 0, again_ = 0;
};

}  // namespace moba

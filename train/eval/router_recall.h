/* Router recall@K: how often the gate chooses the block that holds the answer.

   Source   Xiao et al. 2025, "Optimizing Mixture of Block Attention", arXiv:2511.11571, section 3: the gate's
            signal-to-noise ratio; nobody has published the direct measurement
   Math     for a query and the block that holds the token with its answer, an earlier block of its sequence:
            d      = score of that block - score of another past block    over all queries and such blocks
            SNR    = mean(d) / standard deviation(d)
            recall = share of the queries that chose the block
            predicted, from the SNR alone, for n other past blocks and K chosen ones, the query's included:
                     E over x ~ N(0,1) of P(Bin(n, 1 - Phi(x + sqrt(2) SNR)) <= K-2), mean over the queries
            Queries whose answer lies in their own block are left out: they always see it.
   Units    shares; SNR without unit */
#pragma once
#include "moba/attention_view.h"
#include <map>
#include <nlohmann/json_fwd.hpp>

namespace moba {

double predicted_recall(double snr, int other_blocks, int top_k);

class RouterRecall {
  public:
    /* Query t needs the token at sources[t] (-1: none). */
    void add(int layer, const AttentionView&, const std::vector<int>& sources);
    /* [{"layer", "head", "queries", "recall", "low", "high", "snr", "predicted"}, ...]; heads without queries
       are left out. */
    nlohmann::json to_json() const;

  private:
    struct Head {
        long queries = 0, chosen = 0, pairs = 0;
        double sum = 0, squares = 0;    // of d and of d^2
        std::map<int, long> of_others;  // number of other past blocks -> queries with that number
        int K = 0;
    };
    void add_query(Head&, const AttentionView&, int t, int h, int source);
    std::map<std::pair<int, int>, Head> heads_;  // by layer and head
};

}  // namespace moba

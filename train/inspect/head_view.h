/* One head of one layer for pictures: which blocks each query chose, what it found there, and what it left out.

   Math     s[t,j] = <q[t], k[j]> / sqrt(D), j <= t of t's sequence
            full_weights[t,n] = softmax of s[t] over all of these keys, summed over the keys of block n
            weights[t,n]      = the same over the keys that the layer lets t see: its chosen blocks, its window, or all
            kept[t]           = sum of full_weights over the keys that t sees;   mass_kept = mean of kept over the queries
            The same q and k in both: what full attention would read at this place, not what a model trained with it would.
   Shapes   of query t with its own block `own`: scores own - first, weights and full_weights own - first + 1
   Units    shares; scores as the gate compares them; blocks and tokens by index over all packed sequences
   Cost     2*D flop in double for each causal pair of tokens of a head */
#pragma once
#include "moba/attention_view.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

struct HeadView {
    struct Query {
        int own, first;                            // blocks: the query's, and the first of its sequence
        std::vector<int> chosen;                   // blocks, ascending, the own one last; moba only
        std::vector<float> scores;                 // of the past blocks first..own-1; moba only
        std::vector<float> weights, full_weights;  // of the blocks first..own
        double kept;

        bool chose(int block) const { return std::find(chosen.begin(), chosen.end(), block) != chosen.end(); }
        /* 1 = the highest score among the past blocks; ties go to the lower block, as in the gate. */
        int rank(int past_block) const;
    };
    int layer, head;
    AttentionKind kind;
    int block_size, top_k, window;  // top_k 0 unless moba, window 0 unless window
    std::vector<Query> queries;     // one for each token

    double mass_kept() const;
};

HeadView view_head(const AttentionView&, int layer, int head);

/* Does the question see the token that tells its answer? In a moba layer: has it chosen that block. */
bool sees(const HeadView&, int question, int source);

/* {"layer","head","kind","block_size","top_k","window","mass_kept","answer_chosen",
    "queries":[{"t","own","chosen":[...],"scores":[...],"weights":[...],"full_weights":[...]}]}
   Five significant digits. top_k and each query's chosen and scores with moba only, window with windows only; answer_chosen (what
   sees() says) only where a test tells it: question and source >= 0. */
nlohmann::json to_json(const HeadView&, int question, int source);

}  // namespace moba

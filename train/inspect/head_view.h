/* What one head of one layer reads, for display: the blocks that each query chose, the attention weight of
   each block, and the weight that full attention would give it.

   Math     s[t,j] = <q[t], k[j]> / sqrt(D), for all keys j <= t in the sequence of t
            full_weights[t,n] = softmax of s[t] over all of these keys, summed over the keys of block n
            weights[t,n]      = the same over the keys that t sees in this layer: chosen blocks, window or all
            kept[t]           = sum of the full-attention weights of the keys that t sees
            mass_kept         = mean of kept over the queries that were wanted
            Both use the same q and k: full_weights are what full attention would read at this point of this
            model, not what a model trained with full attention would read.
   Shapes   for query t in block `own`: scores own - first; weights and full_weights own - first + 1
   Units    shares; scores as the gate compares them; blocks and tokens are indices over all packed sequences
   Cost     2*D flop in double and an exponential for each key before a wanted query, for each head */
#pragma once
#include "moba/attention_view.h"
#include <functional>
#include <nlohmann/json_fwd.hpp>

namespace moba {

struct HeadView {
    struct Query {
        int own, first;                                      // the query's block; first block of its sequence
        std::vector<int> chosen = {};                        // blocks, ascending, `own` last; moba only
        std::vector<float> scores = {};                      // of the blocks first..own-1; moba only
        std::vector<float> weights = {}, full_weights = {};  // of the blocks first..own
        double kept = 0;

        void release() { chosen = {}, scores = {}, weights = {}, full_weights = {}; }
        bool chose(int block) const { return std::find(chosen.begin(), chosen.end(), block) != chosen.end(); }
        /* 1 = the highest score among the past blocks; ties go to the lower block, as in the gate. */
        int rank(int past_block) const;
    };
    int layer, head;
    AttentionKind kind;
    int block_size, top_k, window;  // top_k is 0 unless moba, window is 0 unless window
    std::vector<Query> queries;     // one for each token; of those that were not wanted own and first only
    int viewed = 0;                 // number of queries that were wanted

    double mass_kept() const;
};

/* Called for each query in order, as soon as it is known. It may release a query that is not needed any more:
   at T = 65536 the lists of all queries of a head take 400 MB and more. */
using QueryVisit = std::function<void(int t, HeadView::Query&)>;

/* Which queries are looked at; all if it is empty. */
using QueryFilter = std::function<bool(int t)>;
HeadView view_head(const AttentionView&, int layer, int head, const QueryVisit& visit = {},
                   const QueryFilter& wanted = {});

/* Does the question see the token with its answer, the source? In a moba layer: has it chosen that block? */
bool sees(const HeadView&, int question, int source);

/* {"layer","head","kind","block_size","top_k","window","mass_kept","answer_chosen",
    "queries":[{"t","own","chosen":[...],"scores":[...],"weights":[...],"full_weights":[...]}]}
   Numbers have five significant digits. Only moba has top_k, chosen and scores; only windows have window;
   only a test (question and source >= 0) has answer_chosen, the result of sees(). head_json has everything
   but the queries. */
nlohmann::json head_json(const HeadView&, int question, int source);
nlohmann::json query_json(const HeadView::Query&, int t, bool moba);

}  // namespace moba

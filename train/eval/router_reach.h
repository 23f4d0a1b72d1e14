/* Reach: the share of queries that can get their answer at all, directly or through other tokens.

   A query reads the tokens that a layer lets it see; those have read other tokens in the layer before. A
   query is reached when such a path leads to it from the token that shows its answer. All heads of a layer
   count together, and attention weights do not matter: reach is what the routing allows; router_recall.h
   measures what one layer does by itself. */
#pragma once
#include "moba/attention_view.h"
#include "train/eval/tally.h"

namespace moba {

/* layers: all layers of one pass, first to last. Query t needs the token at sources[t] (-1: none). Queries
   whose answer lies in their own block count, too. right = reached queries, answers = all queries. */
Tally router_reach(const std::vector<AttentionView>& layers, const std::vector<int>& sources);

}  // namespace moba

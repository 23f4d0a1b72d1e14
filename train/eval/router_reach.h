/* Reach: the share of queries that the answer can come to at all, directly or through other tokens.

   A query reads the tokens its layer lets it see; those read others in the layer before. A query is reached when some layer lets it, or a
   token it hears of through the layers above, see the token that tells its answer. Heads of a layer count together; nothing is said
   about weights: reach is what routing allows, router_recall.h what one layer does by itself. */
#pragma once
#include "moba/attention_view.h"
#include "train/eval/tally.h"

namespace moba {

/* layers: of one pass, first to last. Query t wants the token at sources[t] (-1: nothing). Queries with their answer in their own block count
   too. right = reached, answers = queries. */
Tally router_reach(const std::vector<AttentionView>& layers, const std::vector<int>& sources);

}  // namespace moba

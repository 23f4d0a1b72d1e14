/* Context parallel: the tokens of a micro-batch on several ranks.

   Dealing  the blocks of a micro-batch go to C ranks there and back: 0 1 .. C-1 C-1 .. 1 0. So each rank has
            early and late ones, and the work of causal attention is even. A rank has its tokens in their
            order
   Rows     the index of a token among those of its rank */
#pragma once
#include "moba/core/sequence.h"
#include <vector>

namespace moba {

struct Dealt {
    int ranks, rank;
    std::vector<int> owner, place;  // (blocks) the rank that has it; its index among those of this rank
    std::vector<std::vector<int>> blocks;  // (ranks) the blocks of each, ascending
    std::vector<int> tokens;               // of this rank: numbers in the micro-batch, ascending
    std::vector<int> owner_of_token, row;  // (M) of the whole micro-batch
};
int dealt_to(int block, int ranks);  // the rank that gets it
Dealt deal(const BlockTable& blocks, int num_tokens, int ranks, int rank);
/* The most tokens that a rank can get. */
int most_dealt(int max_tokens, int max_seqs, int block_size, int ranks);

}  // namespace moba

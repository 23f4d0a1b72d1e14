/* What ranks that share a micro-batch send each other in the attention of a layer, counted without running
   it. For `moba plan`, and for what a run prints at its end.

   Exact    for full and window layers, and for moba layers whose queries attend all blocks before their own.
            Other choices: the mean, if every earlier block were chosen equally often
   Compare  gathering: every rank gets all keys and values, and sends back its shares of their gradients.
            ring: keys and values go around, from neighbour to neighbour, and in the backward pass their
            gradients too (Liu et al. 2023, arXiv:2310.01889) */
#pragma once
#include "moba/config.h"

namespace moba {

struct ContextBytes {
    double forward = 0, backward = 0;  // sent by a rank; forward: with the choice
    double choice = 0;                 // of forward: means of blocks, and who sends what to whom
};

/* Of each rank. number_bytes: of an element; sum_bytes: of acc_t. */
std::vector<ContextBytes> context_bytes(const Config&, int layer, const std::vector<int>& cu_seqlens,
                                        int ranks, size_t number_bytes, size_t sum_bytes);
std::vector<ContextBytes> gathering_bytes(const Config&, const std::vector<int>& cu_seqlens, int ranks,
                                          size_t number_bytes);
std::vector<ContextBytes> ring_bytes(const Config&, const std::vector<int>& cu_seqlens, int ranks,
                                     size_t number_bytes);

}  // namespace moba

/* What ranks send each other in a training step, counted without running it. For `moba plan`, and for what a
   run prints at its end. In attention, ranks send something if they share a micro-batch (context.h).

   Exact    for the update, for full and window layers, and for moba layers whose queries attend all blocks
            before their own. Else the mean, if every earlier block were chosen equally often
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

struct NumberBytes {
    size_t element, sum;  // sizes of E and acc_t<E>
};

/* The tokens of a micro-batch that each of the ranks has. */
std::vector<double> dealt_tokens(const Config&, const std::vector<int>& cu_seqlens, int ranks);

/* The gradients and weights of a step, and the sums for the norm. All ranks send the same. */
double update_bytes(const Config&, int ranks, NumberBytes);

/* Of each rank. */
std::vector<ContextBytes> context_bytes(const Config&, int layer, const std::vector<int>& cu_seqlens,
                                        int ranks, NumberBytes);
std::vector<ContextBytes> gathering_bytes(const Config&, const std::vector<int>& cu_seqlens, int ranks,
                                          NumberBytes);
std::vector<ContextBytes> ring_bytes(const Config&, const std::vector<int>& cu_seqlens, int ranks,
                                     NumberBytes);

/* Of each rank, in all layers, with the backward pass. recompute: what is computed again is sent again.
   Windows always send their halos; moba and full layers as these ranks do, or in another way. */
enum class Sending { ours, ring, gathering };
std::vector<double> attention_bytes(const Config&, const std::vector<int>& cu_seqlens, int ranks, NumberBytes,
                                    bool recompute, Sending);

}  // namespace moba

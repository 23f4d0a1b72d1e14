/* Packed sequences: where each sequence starts, and how it is divided into blocks.

   The M tokens of a micro-batch are stored one after another; cu_seqlens marks where the sequences start. A
   block never crosses the border of a sequence, so the blocks of one size cover all tokens in order: block n
   holds tokens start[n] .. start[n+1]-1, and the last block of a sequence may be shorter. Block indices count
   over the whole micro-batch. own[t] is the block that holds token t, and first[n] is the first block of the
   sequence that block n belongs to, so the past blocks of token t are first[own[t]] .. own[t]-1. In a layer
   with mixed block sizes there is one such division for each level.

   All of this is one table of ints, built on the host and copied to the device unchanged. */
#pragma once
#include "moba/core/base.h"
#include <vector>

namespace moba {

constexpr int max_levels = 4;

/* The sizes of a layer's blocks: level i has blocks of S >> i tokens. Key/value head g uses level
   g % levels. */
struct BlockSizes {
    int S, levels = 1;

    HOST_DEVICE int of_level(int i) const { return S >> i; }  // tokens
    HOST_DEVICE int of_head(int g) const { return of_level(g % levels); }
    HOST_DEVICE int smallest() const { return of_level(levels - 1); }
};

struct BlockTable {
    int num_blocks;
    const int* start;  // (num_blocks + 1) token indices
    const int* first;  // (num_blocks) block indices
    const int* own;    // (M) block indices
    int size;          // S of these blocks, in tokens
};

struct Sequences {
    int num_tokens, num_seqs, longest;
    BlockSizes sizes;
    const int* cu_seqlens;         // (num_seqs + 1) token indices; cu_seqlens[0] = 0, the last = M
    const int* position;           // (M) position of each token in its sequence
    BlockTable level[max_levels];  // (sizes.levels)
};

/* Number of ints that is enough for a table of max_tokens tokens in at most max_seqs sequences, however these
   are divided. max_blocks: the same bound for the number of blocks. */
size_t sequences_capacity(int max_tokens, int max_seqs, BlockSizes sizes);
int max_blocks(int max_tokens, int max_seqs, int block_size);

/* Fills `table` for these sequences. The result points into `table`. */
Sequences build_sequences(std::vector<int>& table, const std::vector<int>& cu_seqlens, BlockSizes sizes);
/* The same sequences in another copy of the table, which starts at `to` instead of `from`. */
Sequences rebase(Sequences s, const int* from, const int* to);

}  // namespace moba

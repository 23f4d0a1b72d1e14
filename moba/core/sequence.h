/* Packed sequences: where each one starts, and how it is cut into blocks.

   All tokens of a micro-batch lie one after another, M of them; cu_seqlens marks the sequences. A block never crosses
   a sequence, so the blocks of one size cover all tokens in order: block n holds tokens start[n] .. start[n+1]-1, and
   the last block of a sequence may be short. Block indices count over the whole micro-batch; first[n] is the first block
   of the sequence that block n belongs to, so the past blocks of token t are first[own[t]] .. own[t]-1.
   Level i of a layer with mixed block sizes (moba.md) uses blocks of S >> i tokens.

   One table of ints, built on the host and copied to the device as it is. */
#pragma once
#include "moba/core/base.h"
#include <vector>

namespace moba {

constexpr int max_levels = 4;

struct BlockTable {
    int num_blocks;
    const int* start;  // (num_blocks + 1) token index
    const int* first;  // (num_blocks) block index
    const int* own;    // (M) block index
    int size;          // S of these blocks, in tokens
};

struct Sequences {
    int num_tokens, num_seqs, longest, num_levels;
    const int* cu_seqlens;  // (num_seqs + 1) token index; cu_seqlens[0] = 0, the last = M
    const int* position;    // (M) place of a token in its sequence
    BlockTable level[max_levels];
};

/* Ints that any cut of max_tokens tokens into at most max_seqs sequences can need. */
size_t sequences_capacity(int max_tokens, int max_seqs, int block_size, int num_levels);
int max_blocks(int max_tokens, int max_seqs, int block_size);

/* Fills `table` for these sequences; the result points into it. */
Sequences build_sequences(std::vector<int>& table, const std::vector<int>& cu_seqlens, int block_size,
                          int num_levels);
/* The same sequences seen from another copy of the table. */
Sequences rebase(Sequences s, const int* from, const int* to);

}  // namespace moba

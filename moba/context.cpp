#include "moba/context.h"
#include <algorithm>

namespace moba {

int dealt_to(int block, int ranks) {
    const int i = block % (2 * ranks);
    return i < ranks ? i : 2 * ranks - 1 - i;
}

Dealt deal(const BlockTable& blocks, int num_tokens, int ranks, int rank) {
    Dealt d{.ranks = ranks,
            .rank = rank,
            .owner = {},
            .place = {},
            .blocks = {},
            .tokens = {},
            .owner_of_token = std::vector<int>(num_tokens),
            .row = std::vector<int>(num_tokens)};
    d.blocks.resize(ranks);
    std::vector<int> rows(ranks);
    for (int n = 0; n < blocks.num_blocks; n++) {
        const int owner = dealt_to(n, ranks);
        d.owner.push_back(owner);
        d.place.push_back((int)d.blocks[owner].size());
        d.blocks[owner].push_back(n);
        for (int t = blocks.start[n]; t < blocks.start[n + 1]; t++) {
            d.owner_of_token[t] = owner;
            d.row[t] = rows[owner]++;
            if (owner == rank) { d.tokens.push_back(t); }
        }
    }
    return d;
}

int most_dealt(int max_tokens, int max_seqs, int block_size, int ranks) {
    const int blocks = ceil_div(max_blocks(max_tokens, max_seqs, block_size), ranks) + 1;
    return (int)std::min<long>(max_tokens, (long)blocks * block_size);
}

}  // namespace moba

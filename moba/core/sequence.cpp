#include "moba/core/sequence.h"
#include <algorithm>

namespace moba {

int max_blocks(int max_tokens, int max_seqs, int block_size) {
    return std::min(max_tokens, max_tokens / block_size + max_seqs);
}

size_t sequences_capacity(int max_tokens, int max_seqs, BlockSizes sizes) {
    size_t n = max_seqs + 1 + (size_t)max_tokens;
    for (int i = 0; i < sizes.levels; i++) {
        n += 2 * (size_t)max_blocks(max_tokens, max_seqs, sizes.of_level(i)) + 1 + max_tokens;
    }
    return n;
}

Sequences build_sequences(std::vector<int>& table, const std::vector<int>& cu, BlockSizes sizes) {
    REQUIRE(cu.size() >= 2 && cu[0] == 0, "%zu entries in cu_seqlens", cu.size());
    REQUIRE(sizes.levels >= 1 && sizes.levels <= max_levels, "%d levels", sizes.levels);
    const int M = cu.back(), num_seqs = (int)cu.size() - 1;
    table = cu;
    int longest = 0;
    for (int s = 0; s < num_seqs; s++) {
        REQUIRE(cu[s + 1] > cu[s], "sequence %d to hold a token", s);
        longest = std::max(longest, cu[s + 1] - cu[s]);
        for (int t = cu[s]; t < cu[s + 1]; t++) { table.push_back(t - cu[s]); }
    }
    size_t level_at[max_levels];
    int blocks[max_levels];
    for (int i = 0; i < sizes.levels; i++) {
        const int S = sizes.of_level(i);
        REQUIRE(S >= 1, "block size %d >> %d", sizes.S, i);
        std::vector<int> start, first, own(M);
        for (int s = 0; s < num_seqs; s++) {
            const int first_block = (int)start.size();
            for (int t = cu[s]; t < cu[s + 1]; t++) {
                if ((t - cu[s]) % S == 0) {
                    start.push_back(t);
                    first.push_back(first_block);
                }
                own[t] = (int)start.size() - 1;
            }
        }
        blocks[i] = (int)start.size();
        level_at[i] = table.size();
        start.push_back(M);
        for (const auto& part : {start, first, own}) { table.insert(table.end(), part.begin(), part.end()); }
    }
    Sequences out{M, num_seqs, longest, sizes, table.data(), table.data() + cu.size(), {}};
    for (int i = 0; i < sizes.levels; i++) {
        const int* start = table.data() + level_at[i];
        out.level[i] = {blocks[i], start, start + blocks[i] + 1, start + 2 * blocks[i] + 1,
                        sizes.of_level(i)};
    }
    return out;
}

Sequences rebase(Sequences s, const int* from, const int* to) {
    const auto move = [&](const int*& p) { p = p ? to + (p - from) : nullptr; };
    move(s.cu_seqlens), move(s.position);
    for (int i = 0; i < s.sizes.levels; i++) {
        move(s.level[i].start), move(s.level[i].first), move(s.level[i].own);
    }
    return s;
}

}  // namespace moba

#include "moba/sent_bytes.h"
#include "moba/context.h"
#include "moba/ops/adamw.h"
#include "moba/params.h"
#include <algorithm>
#include <map>

namespace moba {

namespace {

struct Block {
    int begin, end;  // tokens
    int place;       // in its sequence
    int owner;
};
std::vector<Block> dealt_blocks(const std::vector<int>& cu_seqlens, int block_size, int ranks) {
    std::vector<Block> blocks;
    for (size_t s = 0; s + 1 < cu_seqlens.size(); s++) {
        const int first = (int)blocks.size();
        for (int t = cu_seqlens[s]; t < cu_seqlens[s + 1]; t += block_size) {
            const int n = (int)blocks.size();
            blocks.push_back({t, std::min(t + block_size, cu_seqlens[s + 1]), n - first, dealt_to(n, ranks)});
        }
    }
    return blocks;
}
/* Queries of one head that each rank sends to all others, and gets. */
struct Travelling {
    std::vector<double> out, in;
};
Travelling travelling(const std::vector<Block>& blocks, int K, int ranks) {
    Travelling t{std::vector<double>(ranks), std::vector<double>(ranks)};
    std::vector<double> earlier;  // blocks of this sequence, by owner
    for (const Block& b : blocks) {
        if (b.place == 0) { earlier.assign(ranks, 0); }
        for (int r = 0; b.place > 0 && r < ranks; r++) {
            if (r == b.owner) { continue; }
            const double queries = (b.end - b.begin) * earlier[r] / b.place * std::min(b.place, K - 1);
            t.out[b.owner] += queries, t.in[r] += queries;
        }
        earlier[b.owner]++;
    }
    return t;
}

std::vector<ContextBytes> moba_bytes(const Config& c, const std::vector<Block>& blocks, int ranks,
                                     double number, double sum) {
    const Travelling queries = travelling(blocks, c.top_k, ranks);
    const double H = c.num_heads, D = c.head_dim, others = ranks - 1;
    std::vector<ContextBytes> bytes(ranks);
    for (const Block& b : blocks) {
        bytes[b.owner].choice += others * parts_of(c.gate) * c.num_kv_heads * D * number;
    }
    for (int r = 0; r < ranks; r++) {
        const double out = H * queries.out[r], in = H * queries.in[r];
        // how many queries go from each rank to each, by head; then the block of each query
        bytes[r].choice += others * ranks * H * sizeof(int) + out * sizeof(int);
        bytes[r].forward = bytes[r].choice + out * D * number + in * (D * number + sum);
        bytes[r].backward = out * (2 * D * number + 2 * sum) + in * D * number;
    }
    return bytes;
}

/* Each run of neighbouring blocks of a rank needs the W - 1 tokens before it. */
std::vector<ContextBytes> window_bytes(const Config& c, int window, const std::vector<Block>& blocks,
                                       int ranks, double number) {
    std::vector<double> given(ranks), taken(ranks);  // tokens
    for (size_t n = 0; n < blocks.size(); n++) {
        const Block& b = blocks[n];
        if (b.place == 0 || blocks[n - 1].owner == b.owner) { continue; }  // not the first one of a run
        const int begin = b.begin - window + 1;                            // of the halo
        for (size_t m = n; m-- > 0 && blocks[m].end > begin;) {
            const int tokens = blocks[m].end - std::max(begin, blocks[m].begin);
            if (blocks[m].owner != b.owner) { given[blocks[m].owner] += tokens, taken[b.owner] += tokens; }
            if (blocks[m].place == 0) { break; }
        }
    }
    const double width = 2.0 * c.num_kv_heads * c.head_dim * number;  // key and value
    std::vector<ContextBytes> bytes(ranks);
    for (int r = 0; r < ranks; r++) {
        bytes[r].forward = given[r] * width;
        bytes[r].backward = (given[r] + taken[r]) * width;
    }
    return bytes;
}

}  // namespace

std::vector<double> dealt_tokens(const Config& c, const std::vector<int>& cu_seqlens, int ranks) {
    std::vector<double> tokens(ranks);
    for (const Block& b : dealt_blocks(cu_seqlens, c.block_size, ranks)) {
        tokens[b.owner] += b.end - b.begin;
    }
    return tokens;
}

double update_bytes(const Config& c, int ranks, NumberBytes number) {
    const ParamList list = list_params(c, ranks);
    size_t sums = 0;
    for (const Bucket& b : list.buckets) { sums += square_sums_count(b.slice); }
    return (ranks - 1.0) * (double)(list.owned * (number.sum + number.element) + sums * sizeof(double));
}

std::vector<ContextBytes> gathering_bytes(const Config& c, const std::vector<int>& cu_seqlens, int ranks,
                                          NumberBytes number) {
    const double width = 2.0 * c.num_kv_heads * c.head_dim * (double)number.element, all = cu_seqlens.back();
    std::vector<ContextBytes> bytes;
    for (double own : dealt_tokens(c, cu_seqlens, ranks)) {
        const double forward = (ranks - 1) * own * width;
        bytes.push_back({forward, forward + (all - own) * width});
    }
    return bytes;
}

std::vector<ContextBytes> ring_bytes(const Config& c, const std::vector<int>& cu_seqlens, int ranks,
                                     NumberBytes number) {
    const double width = 2.0 * c.num_kv_heads * c.head_dim * (double)number.element, all = cu_seqlens.back();
    const std::vector<double> tokens = dealt_tokens(c, cu_seqlens, ranks);
    std::vector<ContextBytes> bytes;
    for (int r = 0; r < ranks; r++) {
        // A rank passes on all but what its neighbour began with. Gradients also have to go home.
        const double passed = all - tokens[(r + 1) % ranks];
        bytes.push_back({passed * width, (passed + all) * width});
    }
    return bytes;
}

std::vector<ContextBytes> context_bytes(const Config& c, int layer, const std::vector<int>& cu_seqlens,
                                        int ranks, NumberBytes number) {
    const LayerKind& kind = c.layers[layer];
    if (kind.attention == AttentionKind::full) { return gathering_bytes(c, cu_seqlens, ranks, number); }
    const std::vector<Block> blocks = dealt_blocks(cu_seqlens, c.block_size, ranks);
    return kind.attention == AttentionKind::window
               ? window_bytes(c, kind.window, blocks, ranks, (double)number.element)
               : moba_bytes(c, blocks, ranks, (double)number.element, (double)number.sum);
}

std::vector<double> attention_bytes(const Config& c, const std::vector<int>& cu_seqlens, int ranks,
                                    NumberBytes number, bool recompute, Sending way) {
    std::vector<double> sum(ranks);
    std::map<std::pair<AttentionKind, int>, std::vector<ContextBytes>> of_kinds;
    for (int l = 0; l < c.num_layers; l++) {
        const LayerKind& kind = c.layers[l];
        std::vector<ContextBytes>& bytes = of_kinds[{kind.attention, kind.window}];
        if (bytes.empty()) {
            const bool ours = way == Sending::ours || kind.attention == AttentionKind::window;
            bytes = ours                   ? context_bytes(c, l, cu_seqlens, ranks, number)
                    : way == Sending::ring ? ring_bytes(c, cu_seqlens, ranks, number)
                                           : gathering_bytes(c, cu_seqlens, ranks, number);
        }
        const bool again = recompute && l + 1 < c.num_layers;  // the last layer is still there
        for (int r = 0; r < ranks; r++) {
            sum[r] += bytes[r].forward + bytes[r].backward;
            sum[r] += again ? bytes[r].forward - bytes[r].choice : 0;
        }
    }
    return sum;
}

}  // namespace moba

/* The kernels of attention against the CPU, with the choice of blocks given: every version, kind and head
   size; one tile and many tiles, lists longer than a work item, blocks with more keys than stay in shared
   memory, and a block that every query chooses. */
#include "test/support/attention_case.h"
#include "test/support/kernel_case.h"
#include <sstream>

namespace moba {

// declared again here, because moba/attention/tile.cuh can be included only in .cu files
int keys_at_once(int whole, size_t own, size_t bytes_of_a_key, size_t shared_bytes);

namespace {

using namespace attention_case;
using namespace kernel_case;

// The forward and backward pass of one run; `choice` as in attention_case.h.
template <class R>
void attend(R& on, const Case& c, const PackedBatch& batch, Choice& choice) {
    using E = typename R::E;
    using A = typename R::A;
    const AttentionShape s = shape_of(c);
    const int M = batch.seqs.num_tokens, B = batch.seqs.num_seqs;
    const size_t nq = (size_t)M * c.H * c.D, nk = (size_t)M * c.G * c.D;
    const E *q = on.input(nq, 1, c.scale), *k = on.input(nk, 2), *v = on.input(nk, 3),
            *dout = on.input(nq, 4);
    const Sequences seqs = rebase(batch.seqs, batch.table.data(), on.constant(batch.table));
    const Routing r{on.constant(choice.chosen), on.constant(choice.start), on.constant(choice.list)};
    E *out = on.template output<E>("out", {M, c.H, c.D}), *dq = on.template output<E>("dq", {M, c.H, c.D}),
      *dk = on.template output<E>("dk", {M, c.G, c.D}), *dv = on.template output<E>("dv", {M, c.G, c.D});
    A *lse = on.template output<A>("lse", {c.H, M}), *delta = on.template output<A>("delta", {c.H, M});
    Ctx best = on.ctx;  // the best version of what is not tested here
    best.kernel_version = 0;
    if constexpr (R::gpu) {
        // enough for both passes
        on.workspace(attention_workspace_bytes_gpu<E>(M, B, c.sizes(), s, Direction::backward));
        attention_forward_gpu<E>(on.ctx, out, lse, q, k, v, r, seqs, s);
        attention_delta_gpu<E>(best, delta, dout, out, {M, c.H, c.D});
        attention_backward_gpu<E>(on.ctx, dq, dk, dv, dout, delta, q, k, v, lse, r, seqs, s);
    } else {
        on.workspace(attention_workspace_bytes_cpu<E>(M, B, c.sizes(), s, Direction::backward));
        attention_forward_cpu<E>(on.ctx, out, lse, q, k, v, r, seqs, s);
        attention_delta_cpu<E>(best, delta, dout, out, {M, c.H, c.D});
        attention_backward_cpu<E>(on.ctx, dq, dk, dv, dout, delta, q, k, v, lse, r, seqs, s);
    }
}

void expect_attention(const Case& c, int versions = 2, int first = 1) {
    const PackedBatch batch(c.lengths, c.sizes());
    const int M = tokens(c);
    Choice choice = choose(c, batch, as<double>(draw<bf16>((size_t)M * c.H * c.D, 1, c.scale)),
                           as<double>(draw<bf16>((size_t)M * c.G * c.D, 2)));
    std::ostringstream name;
    name << "attention";
    for (int n : c.lengths) { name << " " << n; }
    name << " D" << c.D << " S" << c.S << " K" << c.K;
    const auto run = [&](auto& on) { attend(on, c, batch, choice); };
    if (first <= 2) { expect_kernels_of<float>(name.str(), versions, run, first); }
    const AttentionShape s = shape_of(c);
    const int tensor = std::min(attention_versions_gpu<bf16>(batch.seqs, s, Direction::forward),
                                attention_versions_gpu<bf16>(batch.seqs, s, Direction::backward));
    expect_kernels_of<bf16>(name.str(), std::max(versions, tensor), run, first);
}
// bf16 on tensor cores: versions 3 and 4, or those of them that fit the card
void expect_tensor_cores(const Case& c) {
    const PackedBatch batch(c.lengths, c.sizes());
    EXPECT_GE(attention_versions_gpu<bf16>(batch.seqs, shape_of(c), Direction::forward), 3);
    expect_attention(c, 2, 3);
}

// The first version with tiles. Version 1 is slow on the simulator because of its shuffles, and runs on few
// tokens.
const int tiles_only = 2;

TEST(KernelsAttention, Delta) {
    for (const auto& [s, versions] :
         {std::pair{DeltaShape{5, 3, 6}, 1}, {{37, 2, 80}, 1}, {{70, 3, 64}, 2}, {{9, 1, 128}, 2}}) {
        expect_kernels("delta", versions, [s = s](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const size_t n = (size_t)s.M * s.H * s.D;
            CALL(attention_delta, E, on.template output<A>("delta", {s.H, s.M}), on.input(n, 1),
                 on.input(n, 2), s);
        });
    }
}

TEST(KernelsAttention, Full) {
    for (const Case& c : {Case{{2}, 1, 1, 2}, {{33, 2}, 1, 1, 16}, {{20, 1, 25}, 4, 2, 6}}) {
        expect_attention(c);
    }
    for (const Case& c : {Case{{70, 1, 65, 17}, 4, 2, 80}, {{129}, 3, 1, 6}}) {
        expect_attention(c, 2, tiles_only);
    }
}

TEST(KernelsAttention, Window) {
    for (const Case& c : {Case{{50}, 2, 1, 18, window, 7}, {{30, 20}, 1, 1, 40, window, 500}}) {
        expect_attention(c);
    }
    for (const Case& c : {Case{{150}, 2, 1, 64, window, 7}, {{170, 1, 30}, 4, 2, 6, window, 129}}) {
        expect_attention(c, 2, tiles_only);
    }
}

TEST(KernelsAttention, Moba) {
    for (const Case& c : {Case{{17}, 1, 1, 16, moba, 0, 16, 2},
                          {{60, 37}, 3, 1, 18, moba, 0, 16, 3, 1, Gate::recent},
                          {{70, 10}, 4, 4, 16, moba, 0, 32, 2, 2},  // mixed block sizes
                          {{40, 30}, 2, 1, 16, moba, 0, 16, 64},
                          {{50, 9}, 2, 1, 16, moba, 0, 4, 7}}) {
        expect_attention(c);
    }
    for (const Case& c : {Case{{150}, 4, 2, 64, moba, 0, 16, 1},  // only the query's own block
                          {{90, 1, 129, 16, 33}, 6, 2, 32, moba, 0, 16, 3},
                          {{120}, 2, 2, 96, moba, 0, 32, 3, 1, Gate::sink},
                          {{201}, 1, 1, 128, moba, 0, 64, 2},
                          {{140}, 1, 1, 128, moba, 0, 128, 2},
                          {{200}, 8, 1, 2, moba, 0, 16, 64},  // most slots for the fewest sums
                          {{150, 30}, 4, 4, 16, moba, 0, 64, 2, 2},
                          {{150, 30}, 4, 2, 64, moba, 0, 4, 9},
                          {{150, 30}, 2, 1, 64, moba, 0, 8, 5}}) {
        expect_attention(c, 2, tiles_only);
    }
}

// Every tile size: 16 to 128 keys in a tile, heads of 64 and 128; blocks shorter than their tile; one query
// and many; a list of many work items.
TEST(KernelsAttention, TensorCores) {
    for (const Case& c : {Case{{140}, 1, 1, 128, moba, 0, 128, 2},
                          {{201}, 1, 1, 128, moba, 0, 64, 2},
                          {{90, 1, 129, 16, 33}, 6, 2, 64, moba, 0, 32, 3},
                          {{300}, 2, 1, 64, moba, 0, 128, 2},
                          {{180}, 2, 1, 128, moba, 0, 16, 5},
                          {{150, 9}, 2, 1, 128, moba, 0, 20, 3},
                          {{150, 9}, 2, 1, 64, moba, 0, 4, 9},
                          {{150, 9}, 2, 2, 128, moba, 0, 8, 5},
                          {{260, 140}, 2, 2, 64, moba, 0, 64, 64},  // every past block
                          {{1, 1, 2}, 2, 1, 128, moba, 0, 128, 2},
                          {{150, 30}, 4, 4, 64, moba, 0, 64, 2, 2},  // mixed block sizes
                          {{1200}, 2, 1, 64, moba, 0, 16, 2, 1, Gate::sink}}) {
        expect_tensor_cores(c);
    }
}

/* Keys that pass in tiles: full and window attention, blocks of more than 128 keys. One tile and many, ragged
   ends; tiles of queries with several sequences; windows that begin inside a tile; grouped heads; popular
   blocks. A mask may be skipped where no row needs it, so there are tiles in which a single row does:
     225   a tile of 64 queries whose first one does not see the last key; one whose first 33 see all keys
     191   a warp, and a tile of 64 queries, whose last one does not see the first key
     146   a warp whose first query does not see the last key */
TEST(KernelsAttention, TensorStreams) {
    for (const Case& c :
         {Case{{140}, 1, 1, 128},
          {{1, 1, 2}, 2, 1, 64},
          {{70, 1, 56, 109, 17}, 4, 2, 64},
          {{400}, 2, 1, 64},
          {{300}, 1, 1, 64, window, 7},
          {{170, 1, 230}, 4, 2, 64, window, 129},
          {{300}, 1, 1, 128, window, 200},
          {{420, 50}, 2, 1, 64, moba, 0, 192, 2},
          {{600}, 2, 2, 128, moba, 0, 256, 2},
          {{1000, 30}, 4, 4, 64, moba, 0, 256, 2, 2},  // mixed block sizes, of 256 and 128 keys
          {{1100}, 2, 1, 64, moba, 0, 146, 2, 1, Gate::sink}}) {
        expect_tensor_cores(c);
    }
}

// Head sizes that only version 3 has, with blocks of every length.
TEST(KernelsAttention, TensorHeadSizes) {
    for (const Case& c : {Case{{170, 1, 30}, 4, 2, 32},
                          {{140, 9}, 2, 1, 80},
                          {{200}, 1, 1, 96, window, 70},
                          {{150, 30}, 4, 2, 32, moba, 0, 16, 3},
                          {{140}, 1, 1, 80, moba, 0, 32, 3},
                          {{300}, 1, 1, 96, moba, 0, 144, 2}}) {
        expect_tensor_cores(c);
    }
}

// Blocks of two tiles of keys that stay in shared memory, and blocks with more keys than can stay.
TEST(KernelsAttention, LongBlocks) {
    expect_attention({{300}, 2, 1, 16, moba, 0, 128, 2}, 2, tiles_only);
    expect_attention({{420, 50}, 1, 1, 16, moba, 0, 192, 2}, 2, tiles_only);
}

// The longest blocks that are supported: work items of 8,300 entries.
TEST(KernelsAttention, LongestBlocks) {
    if (!std::getenv("MOBA_LONG")) { GTEST_SKIP() << "MOBA_LONG=1 runs it"; }
    expect_attention({{4200, 4100}, 1, 1, 16, moba, 0, 4096, 2}, 2, tiles_only);
}

// Every query chooses block 0 in addition to its own block, so its list takes several work items.
TEST(KernelsAttention, PopularBlock) {
    const Case c{{1200}, 2, 1, 16, moba, 0, 16, 2, 1, Gate::sink};
    expect_attention(c, 2, tiles_only);
}

// Like text: many short sequences, and so blocks that are shorter than S. The lists of the four query heads
// of a key/value head give several work items for a block; their sums of dk and dv are stored after those
// of all keys.
TEST(KernelsAttention, ShortSequences) {
    std::vector<int> lengths;
    for (int i = 0; i < 30; i++) { lengths.push_back(1 + i * 7 % 12); }
    lengths.insert(lengths.begin() + 10, {150, 97});
    expect_attention({lengths, 8, 2, 16, moba, 0, 64, 4}, 2, tiles_only);
    expect_attention({lengths, 8, 2, 16, moba, 0, 64, 3, 2}, 2, tiles_only);  // mixed block sizes
}

// As many sequences as tokens need no more memory than one sequence, because no block has more keys than
// its sequence.
TEST(KernelsAttention, WorkspaceOfShortSequences) {
    struct Plan {
        int H, G, D, tokens, K;
        double mib;  // at most
    };
    for (const Plan& p : {Plan{12, 12, 64, 2 * 8192, 4, 260},
                          {16, 16, 128, 2 * 65536, 8, 1035},
                          {12, 12, 64, 1 << 20, 8, 2100},
                          {32, 8, 128, 2 * 8192, 8, 1035}}) {
        const AttentionShape s{p.H, p.G, p.D, moba, 0, {p.H, p.G, p.D, p.K, Gate::topk}};
        for (int levels : {1, 2}) {
            const size_t text = attention_workspace_bytes_gpu<bf16>(p.tokens, p.tokens, {128, levels}, s,
                                                                    Direction::backward),
                         tasks = attention_workspace_bytes_gpu<bf16>(p.tokens, 1, {128, levels}, s,
                                                                     Direction::backward);
            EXPECT_LE(text, 1.02 * tasks);
            if (levels == 1) { EXPECT_LE(text / 1048576.0, p.mib) << p.tokens << " tokens"; }
        }
    }
}

// One key/value head: a batch of fewer tokens fits in the workspace planned for more.
TEST(KernelsAttention, WorkspaceGrowsWithTokens) {
    for (const auto& [H, S, K] : {std::tuple{4, 128, 4}, {8, 64, 16}, {1, 16, 2}, {2, 2048, 3}}) {
        const AttentionShape s{H, 1, 64, moba, 0, {H, 1, 64, K, Gate::topk}};
        size_t before = 0;
        for (int tokens = 1; tokens < 40000; tokens += 1 + tokens / 50) {
            const size_t bytes = attention_workspace_bytes_gpu<bf16>(tokens, 1, {S}, s, Direction::backward);
            EXPECT_GE(bytes, before) << tokens << " tokens";
            before = bytes;
        }
    }
}

// keys_at_once() first allows two thread blocks on a multiprocessor, and then chooses the largest number of
// keys.
TEST(KernelsAttention, KeysInSharedMemory) {
    struct Fit {
        int D, whole, keys;
        size_t own, card;
    };
    const size_t h100 = 232448, a100 = 166912, small = 101376;
    const size_t forward64 = 38400, forward128 = 28160, dq128 = 45056;  // bytes used in addition to the keys
    for (const Fit& r : {Fit{64, 128, 128, forward64, h100},
                         {128, 128, 64, forward128, h100},
                         {128, 64, 64, dq128, h100},
                         {64, 128, 64, forward64, a100},
                         {128, 128, 32, forward128, a100},
                         {128, 64, 32, dq128, a100},
                         {128, 128, 64, forward128, small},  // only one thread block fits
                         {128, 64, 32, dq128, small}}) {
        EXPECT_EQ(keys_at_once(r.whole, r.own, 2 * (r.D + 4) * sizeof(float), r.card), r.keys)
            << "D = " << r.D << ", " << r.own << " of " << r.card << " bytes";
    }
}

// Only version 1 supports every head size.
TEST(KernelsAttention, LargeHeads) {
    expect_attention({{40}, 2, 1, 160}, 1);
    expect_attention({{40}, 2, 1, 256, moba, 0, 16, 2}, 1);
}

// Scores of hundreds: one rounding of lse changes a weight by 3e-5, and its direction is a matter of
// chance. So the floor is the error bound of attention.h.
TEST(KernelsAttention, LargeScores) {
    const Case c{{60, 30}, 2, 1, 16, moba, 0, 16, 3, 1, Gate::topk, 300};
    const PackedBatch batch(c.lengths, {c.S});
    Choice choice = choose(c, batch, as<double>(draw<bf16>((size_t)tokens(c) * c.H * c.D, 1, c.scale)),
                           as<double>(draw<bf16>((size_t)tokens(c) * c.G * c.D, 2)));
    const auto run = [&](auto& on) { attend(on, c, batch, choice); };
    expect_kernels_of<float>("large scores", 2, run, 1, 3e-5);
    expect_kernels_of<bf16>("large scores", 2, run);
    expect_tensor_cores({{60, 30}, 2, 1, 64, moba, 0, 16, 3, 1, Gate::topk, 300});
    // the largest score of a row grows from tile to tile
    expect_tensor_cores({{700}, 1, 1, 64, AttentionKind::full, 0, 16, 1, 1, Gate::topk, 300});
}

}  // namespace

}  // namespace moba

/* The workspace that versions 2 to 4 of attention share, and how heads are grouped into launches. Included
   by the attention kernels only. */
#pragma once
#include "moba/attention/items.cuh"
#include "moba/core/arena.h"
#include <algorithm>

namespace moba {

/* N channels of one query of one head, and the slots of the query. A query uses one slot for the block in
   which it lies and one for each of the best K - 1 past blocks, or for all past blocks if there are fewer.
   So the number of used slots is known without a search for the first unused one. */
struct Channels {
    int t, d, head, used;
    size_t slot;
};
template <int N>
__device__ inline Channels channels_of(const Heads& s) {
    const unsigned i = blockIdx.x * blockDim.x + threadIdx.x, packs = s.D / N;
    const int t = (int)(i / packs), head = blockIdx.y;
    if (t >= s.M) { return {t, 0, head, 0, 0}; }
    const int own = s.blocks.own[t];
    return {t, (int)(i % packs) * N, head, min(s.K - 1, own - s.blocks.first[own]) + 1,
            head * s.slots() + (size_t)t * s.K};
}
constexpr int channels_threads = 256;
inline dim3 channels_grid(const Heads& s, int N, int heads) {
    const size_t packs = (size_t)s.M * (s.D / N);
    REQUIRE(packs < 1ull << 31, "%d tokens", s.M);
    return dim3(blocks_for(packs, channels_threads), heads);
}

/* Number of items that a launch should have: 8 for each of two thread blocks on each of 132 SMs, so that
   few SMs are idle while the last items run. A constant, so that the sums of dk and dv have the same bits
   on every card. */
constexpr int wanted_items = 8 * 2 * 132;

// Items of the forward pass and of dq. How lists are cut does not change the bits of partial results.
inline Items query_items(const Heads& s) {
    return s.chosen ? cut_lists(s.slots(), s.count, 1, wanted_items, 256, 1024) : items_of_tokens(1);
}
/* Items of dk and dv. Computed for all heads with equal block size, even if a launch has only some of them,
   so that the order of the sums does not depend on the launch. An item has sums for S keys and needs as
   many thread blocks as S has tiles; therefore large blocks get large items. */
inline Items key_items(size_t slots, int sets, int group, int S, int D) {
    const int tile = D <= 64 ? tile_size<64> : tile_size<128>;
    return cut_lists(slots, sets, group, wanted_items / ceil_div(S, tile), std::max(256, 2 * S),
                     std::max(1024, 8 * S));
}

/* Partial sums of dk and dv in fp32. The first item of a block uses the rows of the block's keys. Every
   further item uses S rows after the M rows of all keys. So a short block with one item needs only as many
   rows as it has keys. */
struct KeySums {
    float* at;  // (kv_heads, rows, 2, D), dk then dv
    int M, S, D;
    size_t rows;  // of one key/value head

    KeySums(float* at, int M, int S, int D, const Items& items)
        : at(at), M(M), S(std::min(S, M)), D(D), rows(M + (size_t)items.more * this->S) {}
    // The row for key `key` of a block that begins at token `start`; more: as in ListPart
    __device__ float* row(int kv_head, int start, int more, int key) const {
        const size_t r = more < 0 ? (size_t)start + key : M + (size_t)more * S + key;
        return at + (kv_head * rows + r) * 2 * D;
    }
};

/* The workspace of versions 2 to 4 for MoBA and the heads of one launch. */
template <class E>
struct TiledWorkspace {
    E* part = nullptr;          // (heads, M, K, D) partial results of (query, block): out, or dq
    float* part_lse = nullptr;  // (heads, M, K), forward only
    float* keys = nullptr;      // KeySums::at, backward only
    size_t bytes = 0;

    TiledWorkspace() = default;  // full and window attention need none
    TiledWorkspace(char* base, int kv_heads, int group, int M, int K, int S, int D, const Items* key_items) {
        BumpAllocator c(base);
        const size_t slots = (size_t)kv_heads * group * M * K;
        part = c.take<E>(slots * D);
        part_lse = c.take<float>(key_items ? 0 : slots);
        keys = c.take<float>(key_items ? kv_heads * KeySums(nullptr, M, S, D, *key_items).rows * 2 * D : 0);
        bytes = c.bytes();
    }
};

// Partial results of (query, block); null for full and window attention.
template <class E>
struct Part {
    E* out;      // (heads, M, K, D)
    float* lse;  // (heads, M, K)
};

/* Calls f(heads, workspace, items of dk and dv) for all heads, in as few calls as block sizes and workspace
   allow, with about the same number of heads in each call. */
template <class E, class F>
void each_heads(const Ctx& ctx, Routing r, const Sequences& seqs, const AttentionShape& shape,
                Direction direction, F f) {
    if (shape.kind != AttentionKind::moba) {
        f(heads_of(0, shape.G, r, seqs, shape), TiledWorkspace<E>{}, items_of_tokens(shape.H / shape.G));
        return;
    }
    const int group = shape.H / shape.G, together = seqs.sizes.levels > 1 ? 1 : shape.G;
    for (int g = 0, kv; g < shape.G; g += kv) {
        kv = std::min(together, shape.G - g);
        const Heads all = heads_of(g, kv, r, seqs, shape);
        const Items items = key_items(all.slots(), together, group, all.blocks.size, all.D);
        const auto workspace = [&](int kv_heads) {
            return TiledWorkspace<E>(ctx.workspace, kv_heads, group, all.M, all.K, all.blocks.size, all.D,
                                     direction == Direction::backward ? &items : nullptr);
        };
        while (kv >= 1 && workspace(kv).bytes > ctx.workspace_bytes) { kv--; }
        REQUIRE(kv >= 1, "a workspace of more than %zu bytes", ctx.workspace_bytes);
        kv = ceil_div(std::min(together, shape.G - g), ceil_div(std::min(together, shape.G - g), kv));
        f(heads_of(g, kv, r, seqs, shape), workspace(kv), items);
    }
}

/* The kernels of versions 3 and 4 (mma_*.cu, wgmma_*.cu). Forward: partial results of out and lse.
   Backward: partial results of dq, in part (heads, M, K, D); and dk and dv, or partial sums of them where a
   block has several items. */
void mma_forward_gpu(const Ctx&, const AttentionOperands<bf16>&, const Part<bf16>&, const Heads&,
                     const Items&);
void wgmma_forward_gpu(const Ctx&, const AttentionOperands<bf16>&, const Part<bf16>&, const Heads&,
                       const Items&);
void mma_backward_gpu(const Ctx&, const AttentionOperands<bf16>&, bf16* part, const KeySums&, const Heads&,
                      const Items&);
void wgmma_backward_gpu(const Ctx&, const AttentionOperands<bf16>&, bf16* part, const KeySums&, const Heads&,
                        const Items&);
/* The same for full and window attention, and for MoBA with blocks of more than 128 keys (*_stream_*.cu).
   Sums of dk and dv of MoBA are always partial. */
void mma_stream_forward_gpu(const Ctx&, const AttentionOperands<bf16>&, const Part<bf16>&, const Heads&);
void mma_stream_backward_gpu(const Ctx&, const AttentionOperands<bf16>&, bf16* part, const KeySums&,
                             const Heads&, const Items&);
void wgmma_stream_forward_gpu(const Ctx&, const AttentionOperands<bf16>&, const Part<bf16>&, const Heads&);
void wgmma_stream_backward_gpu(const Ctx&, const AttentionOperands<bf16>&, bf16* part, const KeySums&,
                               const Heads&, const Items&);

}  // namespace moba

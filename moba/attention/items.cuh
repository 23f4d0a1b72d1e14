/* Items of work of attention's versions 2 to 4, the workspace that these share, and the heads that go together. Included by
   attention_*.cu only.

   An item is a set of queries against a stretch of keys. Full and window attention: a tile of
   neighbouring queries against all keys that any of them sees. MoBA: a part of one block's list of
   queries against the keys of the block. So one kernel serves all kinds, and comparing them is
   fair. A block of threads takes one item; the queries go through in tiles. */
#pragma once
#include "moba/attention/launch.cuh"
#include "moba/core/arena.h"
#include <algorithm>

namespace moba {

// Rows of a tile of version 2. Items are cut to suit it
template <int DT>
constexpr int tile_rows = DT <= 64 ? 64 : 32;

/* How the lists of MoBA are cut into items. The heads of a set have their lists of a block one after
   another: one head, or all that share a key/value head. Where an item lies needs no table. Let
   begin(b) be the entries of all blocks before b: the items of block b have the places from
   b + begin(b) / entries on. A list of n entries has ceil(n / entries) items. It has at least as
   many places: floor((begin + n) / entries) - floor(begin / entries) + 1. Places that are not
   needed stay empty. */
struct Items {
    int entries;  // of an item, at most; 0: full and window attention
    int group;    // heads of a set
    int more;     // places of a set beyond one for each block

    HOST_DEVICE int places(int num_blocks) const { return num_blocks + more; }
};
/* All lists of `sets` * `group` heads of `slots` entries each, cut into about `wanted` items of
   `least` to `most` entries. `more` never falls when `slots` grows: workspaces are planned with it. */
inline Items cut_lists(size_t slots, int sets, int group, int wanted, int least, int most) {
    const size_t total = slots * sets * group;
    REQUIRE(slots * group < 1ull << 31, "%zu entries of %d heads", slots, group);
    const size_t pieces = std::max({total / most, std::min((size_t)wanted, total / least), (size_t)1});
    return {(int)ceil_div(total, pieces), group, (int)(pieces / sets)};
}

// The entries of all blocks before this one
__device__ inline int list_begin(const Heads& s, int head, int group, int block) {
    int begin = 0;
    for (int i = 0; i < group; i++) { begin += s.starts(head + i)[block]; }
    return begin;
}
__device__ inline int list_length(const Heads& s, int head, int block) {
    const int* start = s.starts(head) + block;
    return start[1] - start[0];
}

/* A part of a block's lists. */
struct ListPart {
    int head, block, skip, rows;  // head: the first of the set; skip: entries before the item
    int more;  // of the places beyond one for each block, the item's; -1: it is the block's first
};
/* The item at place `index` of all sets. False: the place is empty. By whole warps: each lane asks at
   one of 32 blocks, so that the search takes two or three loads, one after another, and not ten. */
__device__ inline bool find_item(ListPart& x, const Heads& s, const Items& items, int index) {
    const int places = items.places(s.blocks.num_blocks), place = index % places,
              lane = threadIdx.x % warp_size;
    x.head = index / places * items.group;
    int low = 0, high = s.blocks.num_blocks;  // the last block whose places begin here or before
    while (high - low > 1) {
        const int step = (high - low + warp_size) / (warp_size + 1), middle = low + step * (lane + 1);
        const bool before =
            middle < high && middle + list_begin(s, x.head, items.group, middle) / items.entries <= place;
        low += step * __popc(__ballot_sync(all_lanes, before));
        high = min(high, low + step);
    }
    const int begin = list_begin(s, x.head, items.group, low),
              end = list_begin(s, x.head, items.group, low + 1), item = place - low - begin / items.entries;
    x.block = low;
    x.skip = item * items.entries;
    x.rows = min(items.entries, end - begin - x.skip);
    x.more = item ? place - low - 1 : -1;
    return x.rows > 0;
}

// -------------------------------------------------------------------------------------------------------------------
// Launches

/* N channels of a query of a head, and the query's slots. A query has a slot for its own block and
   one for each of the best K - 1 blocks before it, or for all of these: nobody needs to look for
   the first slot that is not used. */
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

/* Items that a launch should have: 8 for each of the two blocks of threads on 132 SMs, so that the
   last ones keep few waiting for long. A constant: the sums of dk and dv are the same on every
   card. */
constexpr int wanted_items = 8 * 2 * 132;

// Items of the forward pass and dq. How lists are cut does not change a bit of a part.
inline Items query_items(const Heads& s) {
    return s.chosen ? cut_lists(s.slots(), s.count, 1, wanted_items, 256, 1024) : Items{0, 1, 0};
}
/* Items of dk and dv, for all heads whose blocks are of one size, however many go together: the
   sums do not depend on it. An item has sums of S keys, and is as many blocks of threads as S has
   tiles: large blocks have large items. */
inline Items key_items(size_t slots, int sets, int group, int S, int D) {
    const int tile = D <= 64 ? tile_rows<64> : tile_rows<128>;
    return cut_lists(slots, sets, group, wanted_items / ceil_div(S, tile), std::max(256, 2 * S),
                     std::max(1024, 8 * S));
}

/* Sums of dk and dv in fp32, (rows, 2, D) for each key/value head. The first item of a block has
   the rows of its keys; the others have S rows each, after all keys. So short blocks need no more
   than their keys. */
struct KeySums {
    float* at;
    int M, S, D;
    size_t rows;  // of a key/value head

    KeySums(float* at, int M, int S, int D, const Items& items)
        : at(at), M(M), S(std::min(S, M)), D(D), rows(M + (size_t)items.more * this->S) {}
    // Of key `key` of a block that begins at token `start`
    __device__ float* row(int kv_head, int start, int more, int key) const {
        const size_t r = more < 0 ? (size_t)start + key : M + (size_t)more * S + key;
        return at + (kv_head * rows + r) * 2 * D;
    }
};

/* What versions 2 to 4 keep in their workspace for MoBA and one set of heads. */
template <class E>
struct TiledWorkspace {
    E* part;          // (heads, M, K, D) results of (query, block)
    float* part_lse;  // (heads, M, K), forward only
    float* keys;      // KeySums, backward only
    size_t bytes;

    TiledWorkspace(char* base, int kv_heads, int group, int M, int K, int S, int D, const Items* key_items) {
        Carver c(base);
        const size_t slots = (size_t)kv_heads * group * M * K;
        part = c.take<E>(slots * D);
        part_lse = c.take<float>(key_items ? 0 : slots);
        keys = c.take<float>(key_items ? kv_heads * KeySums(nullptr, M, S, D, *key_items).rows * 2 * D : 0);
        bytes = c.bytes();
    }
};

template <class E>
struct Part {  // results of (query, block); null for full and window
    E* out;
    float* lse;
};

/* f(heads, workspace, items of dk and dv) for all heads, in as few calls as block sizes and
   workspace allow, of about as many heads each. */
template <class E, class F>
void each_heads(const Ctx& ctx, Routing r, const Sequences& seqs, const AttentionShape& shape, bool backward,
                F f) {
    if (shape.kind != AttentionKind::moba) {
        f(heads_of(0, shape.G, r, seqs, shape), TiledWorkspace<E>(nullptr, 0, 0, 0, 0, 0, 0, nullptr),
          Items{0, shape.H / shape.G, 0});
        return;
    }
    const int group = shape.H / shape.G, together = seqs.num_levels > 1 ? 1 : shape.G;
    for (int g = 0, kv; g < shape.G; g += kv) {
        kv = std::min(together, shape.G - g);
        const Heads all = heads_of(g, kv, r, seqs, shape);
        const Items items = key_items(all.slots(), together, group, all.blocks.size, all.D);
        const auto workspace = [&](int kv_heads) {
            return TiledWorkspace<E>(ctx.workspace, kv_heads, group, all.M, all.K, all.blocks.size, all.D,
                                     backward ? &items : nullptr);
        };
        while (kv >= 1 && workspace(kv).bytes > ctx.workspace_bytes) { kv--; }
        REQUIRE(kv >= 1, "a workspace of more than %zu bytes", ctx.workspace_bytes);
        kv = ceil_div(std::min(together, shape.G - g), ceil_div(std::min(together, shape.G - g), kv));
        f(heads_of(g, kv, r, seqs, shape), workspace(kv), items);
    }
}

/* The kernels of versions 3 and 4: parts of out and lse; parts of dq, and dk and dv, or their sums where a block has several items.
   attention_mma*.cu, attention_wgmma*.cu */
void mma_forward_gpu(const Ctx&, const AttentionOperands<bf16>&, const Part<bf16>&, const Heads&,
                     const Items&);
void wgmma_forward_gpu(const Ctx&, const AttentionOperands<bf16>&, const Part<bf16>&, const Heads&,
                       const Items&);
void mma_backward_gpu(const Ctx&, const AttentionOperands<bf16>&, bf16* part, const KeySums&, const Heads&,
                      const Items&);
void wgmma_backward_gpu(const Ctx&, const AttentionOperands<bf16>&, bf16* part, const KeySums&, const Heads&,
                        const Items&);

}  // namespace moba

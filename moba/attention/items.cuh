/* Items of work of versions 2 to 4 of attention. Included by the attention kernels only.

   An item is a set of queries and a range of keys. Full and window attention: a tile of neighbouring
   queries, and all keys that any of them sees. MoBA: a part of one block's list of queries, and the keys of
   the block. So one kernel serves all kinds of attention, which makes comparisons between them fair. One
   thread block computes one item and processes its queries tile by tile. */
#pragma once
#include "moba/attention/launch.cuh"
#include <algorithm>

namespace moba {

// Rows of a tile of version 2: queries, and for dk and dv also keys. The sizes of items are chosen for it.
template <int DT>
constexpr int tile_size = DT <= 64 ? 64 : 32;

/* How the lists of MoBA are cut into items. A set is one head, or all query heads that share a key/value
   head; the lists of its heads for one block count as one list. The place of an item is computed, without a
   table: let begin(b) be the number of entries of all blocks before b; then the items of block b have the
   places from b + begin(b) / entries on. A list of n entries has ceil(n / entries) items, and at least as
   many places: floor((begin + n) / entries) - floor(begin / entries) + 1. Places that are not needed stay
   empty. */
struct Items {
    int entries;  // at most, of one item; 0: full and window attention
    int group;    // heads of a set
    int more;     // places of a set in addition to one per block

    HOST_DEVICE int places(int num_blocks) const { return num_blocks + more; }
};
// The items of full and window attention: no lists.
inline Items items_of_tokens(int group) { return {0, group, 0}; }
/* Cuts the lists of `sets` * `group` heads, `slots` entries each, into about `wanted` items of `least` to
   `most` entries. `more` never decreases when `slots` grows, because the planned size of workspaces depends
   on it. */
inline Items cut_lists(size_t slots, int sets, int group, int wanted, int least, int most) {
    const size_t total = slots * sets * group;
    REQUIRE(slots * group < 1ull << 31, "%zu entries of %d heads", slots, group);
    const size_t pieces = std::max({total / most, std::min((size_t)wanted, total / least), (size_t)1});
    return {(int)ceil_div(total, pieces), group, (int)(pieces / sets)};
}

// The number of entries of all blocks before this one, in all heads of the set.
__device__ inline int list_begin(const Heads& s, int head, int group, int block) {
    int begin = 0;
    for (int i = 0; i < group; i++) { begin += s.starts(head + i)[block]; }
    return begin;
}
__device__ inline int list_length(const Heads& s, int head, int block) {
    const int* start = s.starts(head) + block;
    return start[1] - start[0];
}

/* An item of MoBA: a part of the list of one block. */
struct ListPart {
    int head;  // the first head of the set
    int block;
    int skip;  // entries of the block's list before the item
    int rows;  // entries of the item
    int more;  // index of the item among the additional places of the set; -1: the first item of its block
};
/* The last index below `count` for which before(index) is true. Needs before(0), and true for no index
   after the first false one. Must be called by whole warps with the same arguments: each lane tests one of
   32 indices, so a search in 1000 needs two dependent loads instead of ten. */
template <class Before>
__device__ __forceinline__ int last_index(int count, Before before) {
    int low = 0, high = count;
    while (high - low > 1) {
        const int step = (high - low + warp_size) / (warp_size + 1),
                  middle = low + step * ((int)threadIdx.x % warp_size + 1);
        const bool below = middle < high && before(middle);
        low += step * __popc(__ballot_sync(all_lanes, below));
        high = min(high, low + step);
    }
    return low;
}
/* Finds the item at place `index` of all sets. Returns false if the place is empty. Must be called by whole
   warps. */
__device__ inline bool find_item(ListPart& x, const Heads& s, const Items& items, int index) {
    const int places = items.places(s.blocks.num_blocks), place = index % places;
    const int head = index / places * items.group;
    x.head = head;
    // the last block whose places begin at or before `place`
    const int low = last_index(s.blocks.num_blocks, [&](int block) {
        return block + list_begin(s, head, items.group, block) / items.entries <= place;
    });
    const int begin = list_begin(s, head, items.group, low), end = list_begin(s, head, items.group, low + 1),
              item = place - low - begin / items.entries;
    x.block = low;
    x.skip = item * items.entries;
    x.rows = min(items.entries, end - begin - x.skip);
    x.more = item ? place - low - 1 : -1;
    return x.rows > 0;
}

/* Queries against the keys [key_begin, key_end). */
struct Item {
    int head, rows;
    const int* list;  // MoBA: the list of the head. null: the queries are neighbouring tokens
    int first;        // the first entry of the list, or the first token
    int key_begin, key_end;
};

/* Item `index` of the forward pass and of dq; full and window attention: a tile of `tile_rows` queries.
   Returns false if there is none. Must be called by whole warps. */
__device__ inline bool take_item(Item& it, const Heads& s, const Items& items, int index, int tile_rows) {
    if (!items.entries) {  // neighbouring tokens; those that see most keys come first
        const int tiles = ceil_div(s.M, tile_rows), tile = tiles - 1 - index / s.count;
        it.head = index % s.count;
        it.first = tile * tile_rows;
        it.rows = min(tile_rows, s.M - it.first);
        it.list = nullptr;
        it.key_begin = s.first_key(it.first);
        it.key_end = it.first + it.rows;
        return true;
    }
    ListPart x;
    if (!find_item(x, s, items, index)) { return false; }
    it.head = x.head;
    it.first = s.starts(x.head)[x.block] + x.skip;
    it.rows = x.rows;
    it.list = s.list + it.head * s.slots();
    it.key_begin = s.blocks.start[x.block];
    it.key_end = s.blocks.start[x.block + 1];
    return true;
}

/* Keys against the queries of all heads that share them, one head after another. */
struct KeyItem {
    int g, key, keys;  // key/value head; first key and number of keys
    int head, rows;    // the first query head of the group; rows of all its heads together
    // MoBA: the block; rows of the block before this item; index for KeySums::row
    int block, skip, more;
};

// The end of the sequence in which token t lies
__device__ inline int sequence_end(const Heads& s, int t) {
    return s.cu_seqlens[last_index(s.num_seqs, [&](int i) { return s.cu_seqlens[i] <= t; }) + 1];
}

/* Item `index` of dk and dv: keys of tile `tile` of its block, `tile_keys` keys at most. Returns false if
   there is none. Must be called by whole warps. */
__device__ inline bool take_key_item(KeyItem& it, const Heads& s, const Items& items, int index, int tile,
                                     int tile_keys) {
    if (!items.entries) {
        const int kv_heads = s.count / s.group();
        it.head = index % kv_heads * s.group();
        it.key = index / kv_heads * tile_keys;  // keys that most queries see come first
        it.keys = min(tile_keys, s.M - it.key);
        const int last = it.key + it.keys - 1;
        it.rows = (int)min((long)sequence_end(s, last), (long)last + s.window) - it.key;
        it.rows *= s.group();
        it.block = it.skip = it.more = 0;
    } else {
        ListPart x;
        if (!find_item(x, s, items, index)) { return false; }
        it.head = x.head;
        it.block = x.block;
        it.skip = x.skip;
        it.more = x.more;
        it.rows = x.rows;
        it.key = s.blocks.start[it.block] + tile * tile_keys;
        it.keys = min(tile_keys, s.blocks.start[it.block + 1] - it.key);
        if (it.keys <= 0) { return false; }
    }
    it.g = s.kv_head(it.head);
    return true;
}

// Finds the head and the token of row `index` of the item.
__device__ inline void find_row(int* head, int* token, const Heads& s, const KeyItem& it, int index) {
    if (!s.chosen) {
        const int of_a_head = it.rows / s.group();
        *head = it.head + index / of_a_head;
        *token = it.key + index % of_a_head;
        return;
    }
    int h = it.head;
    for (index += it.skip; index >= list_length(s, h, it.block); h++) {
        index -= list_length(s, h, it.block);
    }
    *head = h;
    *token = s.list[h * s.slots() + s.starts(h)[it.block] + index] / s.K;
}

}  // namespace moba

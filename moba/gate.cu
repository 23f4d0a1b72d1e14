/* The gate on the GPU: the choice turned around into lists. Contract: gate.h; definition: gate.cpp. */
#include "moba/gate.h"
#include "moba/sort.cuh"
#include <algorithm>

size_t gate_lists_workspace_bytes_gpu(int max_tokens, int max_seqs, int S, int num_levels, GateShape g) {
    const int most = g.K << (num_levels - 1);  // slots of a head
    return sort_workspace_bytes((size_t)max_tokens * most,
                                max_blocks(max_tokens, max_seqs, S >> (num_levels - 1)));
}

/* A head's (M, K) choices are keys; the entries t*K + slot of a block are the elements that have it. */
void gate_lists_gpu(const Ctx& ctx, Routing r, const Sequences& seqs, GateShape s) {
    for (int h = 0; h < s.H; h++) {
        sort_by_key_gpu(ctx, r.list_start + s.first_start(seqs, h), r.list + s.first_slot(seqs, h),
                        r.chosen + s.first_slot(seqs, h), (size_t)seqs.num_tokens * s.slots(seqs, h),
                        seqs.level[s.level(seqs, h)].num_blocks);
    }
}

/* The item table of MoBA's version 2, and how much of everything a set of heads needs. */
#include "moba/attention_tile.cuh"

/* count[b] = items of (head, block) b; the one behind the last is 0
   Maps     a thread -> a (head, block) */
static __global__ void attention_items_kernel(int* count, Heads s, int group, int entries, int n) {
    const int b = blockIdx.x * blockDim.x + threadIdx.x, N = s.blocks.num_blocks;
    if (b > n) { return; }
    int length = 0;
    for (int i = 0; b < n && i < group; i++) { length += list_length(s, b / N * group + i, b % N); }
    count[b] = (length + entries - 1) / entries;
}

size_t item_table_ints(int heads, int num_blocks) { return (size_t)heads * num_blocks + 1; }

Items make_items(const Ctx& ctx, int* count, const Heads& s, int group, int entries) {
    const int n = s.count / group * s.blocks.num_blocks;
    launch(attention_items_kernel, blocks_for(n + 1, 256), 256, 0, ctx.stream, count, s, group, entries, n);
    LAUNCHED(ctx);
    prefix_sum_gpu(ctx, count, n + 1);
    return {count, n, entries};
}

static const size_t slots_budget_bytes = 256 << 20;

/* Of as many key/value heads as the budget allows, one at least; with mixed block sizes of one. */
template <class E>
size_t tiled_workspace_bytes_gpu(int max_tokens, int max_seqs, int S, int num_levels, AttentionShape s,
                                 bool backward) {
    if (s.kind != AttentionKind::moba) { return 0; }
    const int group = s.H / s.G;
    size_t most = 0;
    for (int level = 0; level < num_levels; level++) {
        const int size = S >> level, N = max_blocks(max_tokens, max_seqs, size);
        for (int kv = num_levels > 1 ? 1 : s.G; kv >= 1; kv--) {
            const TiledWorkspace<E> w(nullptr, kv * group, group, max_tokens, s.gate.K << level, N, size, s.D,
                                      backward);
            if (w.bytes > slots_budget_bytes && kv > 1) { continue; }
            most = std::max(most, w.bytes);
            break;
        }
    }
    return most;
}
template size_t tiled_workspace_bytes_gpu<float>(int, int, int, int, AttentionShape, bool);
template size_t tiled_workspace_bytes_gpu<bf16>(int, int, int, int, AttentionShape, bool);

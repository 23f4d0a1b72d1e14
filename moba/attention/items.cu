/* Decisions of the host for versions 2 to 4: how many keys fit in shared memory (version 2), the workspace
   size, and how many heads one launch computes. */
#include "moba/attention/tile.cuh"

namespace moba {

int keys_at_once(int whole, size_t own, size_t bytes_of_a_key, size_t shared_bytes) {
    for (int blocks : {2, 1}) {
        for (int keys : {whole, chunk_keys, chunk_keys / 2}) {
            if (blocks * (own + keys * bytes_of_a_key) <= shared_bytes) { return keys; }
        }
    }
    return chunk_keys / 2;
}

/* Large enough for 16 heads of 128 channels in one launch at T = 8192, B = 2, K = 8: few launches, and long
   items. */
static const size_t budget_bytes = (size_t)1 << 30;

/* Workspace for as many key/value heads as the budget allows, at least one; with mixed block sizes one. It
   does not depend on the number of sequences: partial results are per query, sums of dk and dv per key and
   list entry. */
template <class E>
size_t tiled_workspace_bytes_gpu(int max_tokens, int, BlockSizes sizes, AttentionShape s,
                                 Direction direction) {
    if (s.kind != AttentionKind::moba) { return 0; }
    const int group = s.H / s.G, together = sizes.levels > 1 ? 1 : s.G;
    size_t most = 0;
    for (int level = 0; level < sizes.levels; level++) {
        const int size = sizes.of_level(level), K = s.gate.K << level;
        const Items items = key_items((size_t)max_tokens * K, together, group, size, s.D);
        for (int kv = together; kv >= 1; kv--) {
            const TiledWorkspace<E> w(nullptr, kv, group, max_tokens, K, size, s.D,
                                      direction == Direction::backward ? &items : nullptr);
            if (w.bytes > budget_bytes && kv > 1) { continue; }
            most = std::max(most, w.bytes);
            break;
        }
    }
    return most;
}
INSTANTIATE(tiled_workspace_bytes_gpu)

}  // namespace moba

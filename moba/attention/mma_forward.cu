/* Attention on the GPU, version 3: the forward pass of MoBA on tensor cores by mma.sync. */
#include "moba/attention/tensor_forward.cuh"

namespace moba {

namespace {

/* out[m] = p[m] V for 8 * columns channels from 8 * first on; v: tile (S, D), channels exchanged */
template <int columns, int S, int tiles>
__device__ __forceinline__ void weigh_tile(float (&out)[tiles][columns][4],
                                           const uint32_t (&p)[tiles][S / 16][4], const unsigned char* v,
                                           int first) {
    const int lane = threadIdx.x % warp_size, row = lane % 16, odd = lane / 16;
    const unsigned char* base = v + row * row_bytes;
    const int exchange = (odd ^ lane % 8) * 16;
#pragma unroll
    for (int m = 0; m < tiles; m++) { set_zero(out[m]); }
#pragma unroll
    for (int step = 0; step < S / 16; step++) {
#pragma unroll
        for (int j = 0; j < columns; j += 2) {
            const int piece = first + j;
            uint32_t b[4];
            ldmatrix_x4<true>(b, base + piece / 8 * S * row_bytes + step * 16 * row_bytes +
                                     (exchange ^ piece % 8 * 16));
#pragma unroll
            for (int m = 0; m < tiles; m++) {
                mma_bf16(out[m][j], p[m][step], b[0], b[1]);
                mma_bf16(out[m][j + 1], p[m][step], b[2], b[3]);
            }
        }
    }
}

}  // namespace

/* Partial results of out and lse for an item's queries, from one block of keys
   Maps     thread block of 4 warps -> an item; warp -> 32 queries at a time, two tiles of 16; lane -> rows g
            and g + 8 of each tile
   Memory   K and V of the block are loaded once into shared memory. A fragment of K or V is used for 32
            queries: 128 bytes of shared memory per 4096 multiply-adds. The next queries are loaded into
            registers while the current ones are computed
   Sync     one __syncthreads after loading K and V, none in the loop
   Differs  from 2: products on tensor cores, no running maximum, q and out not in shared memory
   Needs    bf16, D = 64 or 128, S <= 128 */
template <int D, int S>
__global__ void __launch_bounds__(forward_threads, 2)
    attention_forward_kernel3(AttentionOperands<bf16> a, Part<bf16> part, Heads s, Items items,
                              Divisor query_of) {
    // tiles of 16 queries per warp; 8-channel columns of the output that are computed at the same time
    constexpr int tiles = 2, columns = 4;
    SHARED_MEMORY;
    const ForwardMemory<D, S> memory(shared_memory);
    unsigned char *k = memory.k, *v = memory.v;
    QueryItem it;
    if (!take_query_item(it, s, items)) { return; }
    const int first = warp_row() * tiles + threadIdx.x % warp_size / 4;
    int id[2 * tiles], next[2 * tiles];
    load_entries(id, s, it.first, first, it.rows);
    load_entries(next, s, it.first, first + forward_rows * tiles, it.rows);
    uint32_t q[tiles][D / 16][4];
    const auto load_q = [&](const int(&id)[2 * tiles]) {
#pragma unroll
        for (int m = 0; m < tiles; m++) {
            load_exchanged_rows<D>(q[m], a.q + s.query(query_of(id[2 * m]), it.head),
                                   a.q + s.query(query_of(id[2 * m + 1]), it.head));
        }
    };
    load_q(id);
    load_exchanged<D, S>(k, it.keys, [&](int r) { return a.k + s.key(it.key + r, it.kv); });
    load_exchanged<D, S>(v, it.keys, [&](int r) { return a.v + s.key(it.key + r, it.kv); });
    __syncthreads();
    const float scale2 = s.scale * log2_e;
#pragma unroll 1
    for (int r0 = first; r0 - first % 16 < it.rows; r0 += forward_rows * tiles) {
        float score[tiles][S / 8][4];
        dot_tile<D, S, S, tiles>(score, q, k);
        uint32_t p[tiles][S / 16][4];
        float factor[tiles][2];
#pragma unroll
        for (int m = 0; m < tiles; m++) {
            const int seen[2] = {min(it.keys, query_of(id[2 * m]) + 1 - it.key),
                                 min(it.keys, query_of(id[2 * m + 1]) + 1 - it.key)};
            float lse[2];
            softmax_tile<S>(p[m], factor[m], lse, score[m], seen, scale2);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (threadIdx.x % 4 == 0 && r0 + 16 * m + 8 * h < it.rows) {
                    part.lse[it.slots + id[2 * m + h]] = lse[h];
                }
            }
        }
        load_q(next);
#pragma unroll
        for (int d = 0; d < D / 8; d += columns) {
            float out[tiles][columns][4];
            weigh_tile<columns, S, tiles>(out, p, v, d);
#pragma unroll
            for (int i = 0; i < 2 * tiles; i++) {
                if (r0 + 8 * i >= it.rows) { continue; }
                const size_t slot = it.slots + id[i];
                store_exchanged<columns>(part.out + slot * D + d * 8, out[i / 2], i % 2,
                                         factor[i / 2][i % 2]);
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * tiles; i++) { id[i] = next[i]; }
        load_entries(next, s, it.first, r0 + 2 * forward_rows * tiles, it.rows);
    }
}

void mma_forward_gpu(const Ctx& ctx, const AttentionOperands<bf16>& a, const Part<bf16>& part, const Heads& s,
                     const Items& items) {
    with_tensor_tile<16>(s.D, s.blocks.size, [&]<int D, int S> {
        const size_t bytes = ForwardMemory<D, S>(nullptr).bytes;
        allow_shared_memory<attention_forward_kernel3<D, S>>(bytes);
        launch(attention_forward_kernel3<D, S>, (unsigned)s.count * items.places(s.blocks.num_blocks),
               forward_threads, bytes, ctx.stream, a, part, s, items, Divisor(s.K));
        LAUNCHED(ctx);
    });
}

}  // namespace moba

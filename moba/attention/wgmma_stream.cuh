/* Shared by the kernels of version 4 whose tiles pass (stream.cuh). D = 64 or 128. Included by
   wgmma_stream_*.cu only.

   A thread block has three warpgroups. Two compute, 64 rows each. The third one only copies: each of its
   warps fills one buffer, again and again, by cp.async. A buffer has two mbarriers: `full` (the copying
   warp arrives) and `empty` (the computing warps arrive). So there is no __syncthreads in the loop, and
   while one warpgroup computes exponentials, the tensor cores work for the other one. */
#pragma once
#include "moba/attention/stream.cuh"
#include "moba/attention/tile_products.cuh"

namespace moba {

constexpr int stream_keys = 128;  // keys in a tile that passes
constexpr int stream_buffers = 4, stream_threads = 3 * warpgroup_threads;
// Registers of a thread after the warpgroups have divided those of the launch (168 each) among them.
constexpr int computing_registers = 232, copying_registers = 40;

/* Two mbarriers for each buffer. Uses of a buffer are counted from 0. */
struct BufferBarriers {
    uint64_t full[stream_buffers], empty[stream_buffers];

#if HOPPER_CODE
    // Called by the whole thread block.
    __device__ void init() {
        if (threadIdx.x == 0) {
            for (int i = 0; i < stream_buffers; i++) {
                mbarrier_init(full + i, warp_size);
                mbarrier_init(empty + i, 2 * warpgroup_threads / warp_size);
            }
            mbarrier_fence_init();
        }
        __syncthreads();
    }
    // for the copying warp
    __device__ __forceinline__ void wait_empty(int buffer, int use) {
        mbarrier_wait(empty + buffer, ~use & 1);
    }
    // All copies of this thread into the buffer are complete, also for the tensor cores.
    __device__ __forceinline__ void fill(int buffer) {
        cp_async_commit();
        cp_async_wait<0>();
        fence_proxy_async();
        mbarrier_arrive(full + buffer);
    }
    // for the computing warps
    __device__ __forceinline__ void wait_full(int buffer, int use) { mbarrier_wait(full + buffer, use & 1); }
    // This warp does not read the buffer any more.
    __device__ __forceinline__ void release(int buffer) {
        __syncwarp();
        if (threadIdx.x % warp_size == 0) { mbarrier_arrive(empty + buffer); }
    }
#endif
};

/* Shared memory of the kernels whose queries stay: queries, and dout for dq; tiles of K and V pass. */
template <int D, int operands>
struct KeyStreamMemory {
    static constexpr int tile_bytes = panels<D> * stream_rows * row_bytes;
    static_assert(stream_rows == stream_keys);
    unsigned char* rows;       // (operands, stream_rows, D) bf16, in panels
    unsigned char* keys;       // (stream_buffers, stream_keys, D) bf16, in panels: K, V, K, V
    BufferBarriers* barriers;  // (1)
    size_t bytes;

    HOST_DEVICE explicit KeyStreamMemory(void* base) {
        SharedLayout layout(base);
        rows = layout.take<unsigned char>(operands * tile_bytes);
        keys = layout.take<unsigned char>(stream_buffers * tile_bytes);
        barriers = layout.take<BufferBarriers>(1);
        bytes = layout.bytes();
    }
};

// The buffers of tile `tile` of the keys, and how often they were used before
__device__ __forceinline__ int k_buffer(int tile) { return tile % 2 * 2; }
__device__ __forceinline__ int v_buffer(int tile) { return tile % 2 * 2 + 1; }
__device__ __forceinline__ int buffer_use(int tile) { return tile / 2; }

#if HOPPER_CODE
/* The copying warpgroup of the kernels whose queries stay: a warp for K and one for V of the tiles 0, 2,
   ..., and the same for the tiles 1, 3, ... */
template <int D, class Memory>
__device__ __forceinline__ void copy_keys(const Memory& m, const AttentionOperands<bf16>& a, const Heads& s,
                                          const Item& it) {
    const PassingKeys<stream_keys> tiles(it);
    const int buffer = __shfl_sync(all_lanes, (int)threadIdx.x / warp_size % 4, 0), g = s.kv_head(it.head);
    const bf16* all = (buffer % 2 ? a.v : a.k) + s.key(0, g);
    const RowCopy<D, stream_keys> copy;
    const size_t stride = (size_t)s.G * D;
    for (int tile = buffer / 2; tile < tiles.count(); tile += 2) {
        // rows before the first key; only in the final tile
        const int skip = it.key_begin - tiles.first(tile);
        unsigned char* to = m.keys + buffer * m.tile_bytes;
        m.barriers->wait_empty(buffer, buffer_use(tile));
        const bf16* from = all + (tiles.first(tile) + copy.row) * (ptrdiff_t)stride + copy.piece * 8;
        if (skip <= 0) {
            copy(0, stream_keys, [&](int, int place) {
                cp_async_16(to + place, from);
                from += copy.together * stride;
            });
        } else {
            copy(0, stream_keys, [&](int r, int place) {
                cp_async_16(to + place, r < skip ? all : from, r >= skip);
                from += copy.together * stride;
            });
        }
        m.barriers->fill(buffer);
    }
}

__device__ __forceinline__ void wait_for_own_rows(int warpgroup) {
    cp_async_commit();
    cp_async_wait<0>();
    fence_proxy_async();
    barrier_sync(1 + warpgroup, warpgroup_threads);
}
#endif

}  // namespace moba

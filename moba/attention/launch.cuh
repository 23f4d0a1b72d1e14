/* Shared by the attention kernels: a struct of the operands, the range of heads that a launch works on, and
   the keys that a query may see. Included by .cu files only. */
#pragma once
#include "moba/attention/attention.h"
#include "moba/core/device.cuh"

namespace moba {

/* Hands out arrays in dynamic shared memory, one after another. A struct that takes the arrays of a kernel
   from it is constructed twice: in the kernel for the pointers, and on the host, without a base, for the
   number of bytes. */
class SharedLayout {
  public:
    HOST_DEVICE explicit SharedLayout(void* base) : base_((unsigned char*)base) {}
    template <class X>
    HOST_DEVICE X* take(size_t count) {
#ifdef __CUDA_ARCH__  // a test of base_ would hide from the compiler that the arrays are in shared memory
        unsigned char* p = base_ + used_;
#else
        unsigned char* p = base_ ? base_ + used_ : nullptr;
#endif
        used_ += count * sizeof(X);
        return (X*)p;
    }
    HOST_DEVICE size_t bytes() const { return used_; }

  private:
    unsigned char* base_;
    size_t used_ = 0;
};

template <class E>
struct AttentionOperands {
    E* out;      // (M, H, D)
    float* lse;  // (H, M); the backward pass only reads it
    const E* q;  // (M, H, D)
    const E* k;  // (M, G, D)
    const E* v;  // (M, G, D)
    // backward
    E* dq;               // (M, H, D)
    E* dk;               // (M, G, D)
    E* dv;               // (M, G, D)
    const E* dout;       // (M, H, D)
    const float* delta;  // (H, M) <dout, out>
};

/* A range of query heads with equal block size; one launch works on them. It has all query heads, or with
   mixed block sizes those of one key/value head. */
struct Heads {
    int first, count;
    int M, H, G, D;
    int window;  // M if there is no window
    float scale;
    const int* position;    // (M) of each token within its sequence
    const int* cu_seqlens;  // (num_seqs + 1) where each sequence begins
    int num_seqs;
    // MoBA only; chosen is null for the other kinds. The pointers are those of the first head of the range
    int K;
    BlockTable blocks;
    const int* chosen;      // (count, M, K)
    const int* list_start;  // (count, num_blocks + 1)
    const int* list;        // (count, M * K)

    HOST_DEVICE int group() const { return H / G; }
    // slots of one head
    HOST_DEVICE size_t slots() const { return (size_t)M * K; }
    HOST_DEVICE const int* starts(int i) const { return list_start + (size_t)i * (blocks.num_blocks + 1); }
    HOST_DEVICE size_t query(int t, int i) const { return ((size_t)t * H + first + i) * D; }
    HOST_DEVICE size_t key(int t, int g) const { return ((size_t)t * G + g) * D; }
    HOST_DEVICE int kv_head(int i) const { return (first + i) / group(); }
    // The first key that query t may see, limited by its sequence and by the window
    HOST_DEVICE int first_key(int t) const {
        const int begin = t - position[t], in_window = t - window + 1;
        return begin > in_window ? begin : in_window;
    }
};

/* The query heads of `kv_heads` key/value heads from g on. With mixed block sizes kv_heads must be 1,
   because neighbouring key/value heads have different block sizes. */
inline Heads heads_of(int g, int kv_heads, Routing r, const Sequences& seqs, const AttentionShape& s) {
    Heads h{};
    h.first = g * (s.H / s.G);
    h.count = kv_heads * (s.H / s.G);
    h.M = seqs.num_tokens, h.H = s.H, h.G = s.G, h.D = s.D;
    h.window = s.kind == AttentionKind::window ? s.window : seqs.num_tokens;
    h.scale = 1 / std::sqrt((float)s.D);
    h.position = seqs.position;
    h.cu_seqlens = seqs.cu_seqlens;
    h.num_seqs = seqs.num_seqs;
    if (s.kind == AttentionKind::moba) {
        const size_t slot = s.gate.first_slot(seqs, h.first);
        h.K = s.gate.slots(seqs, h.first);
        h.blocks = seqs.level[s.gate.level(seqs, h.first)];
        h.chosen = r.chosen + slot;
        h.list = r.list + slot;
        h.list_start = r.list_start + s.gate.first_start(seqs, h.first);
    }
    return h;
}

constexpr int max_tiled_head_dim = 128;

// forward.cu and backward.cu: versions 2 to 4, which share items, partial results and the merging kernels.
template <class E>
void tiled_forward_gpu(const Ctx&, const AttentionOperands<E>&, Routing, const Sequences&, AttentionShape,
                       int version);
template <class E>
void tiled_backward_gpu(const Ctx&, const AttentionOperands<E>&, Routing, const Sequences&, AttentionShape,
                        int version);
template <class E>
size_t tiled_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, AttentionShape,
                                 Direction direction);
// The most keys of a block that a thread block keeps as a whole; versions 3 and 4: the most keys of a tile.
constexpr int max_tile_keys = 128;
// The head sizes of versions 3 and 4: of the kernels in which tiles pass, by mma.sync; of all others.
constexpr bool has_mma_head_dim(int D) { return D == 32 || D == 64 || D == 80 || D == 96 || D == 128; }
constexpr bool has_wgmma_head_dim(int D) { return D == 64 || D == 128; }
/* Whether versions 3 and 4 use the kernels in which tiles pass (stream.cuh): full and window attention,
   long blocks, and head sizes for which the kernels of short blocks are not compiled. block_size: 0 if not
   MoBA. */
inline bool tiles_pass(int block_size, int D) {
    return block_size == 0 || block_size > max_tile_keys || !has_wgmma_head_dim(D);
}
/* Bytes of shared memory that the kernels of versions 3 and 4 need: of the backward pass for blocks of S
   keys (mma_backward.cu, wgmma_backward.cu), and where tiles pass (mma_stream_backward.cu,
   wgmma_stream_backward.cu). */
size_t mma_backward_bytes(int D, int S);
size_t wgmma_backward_bytes(int D, int S);
size_t mma_stream_bytes(int D, Direction direction);
size_t wgmma_stream_bytes(int D, Direction direction);

}  // namespace moba

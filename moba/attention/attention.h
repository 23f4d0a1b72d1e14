/* Attention: softmax over the keys that a query may see. Causal, and within one sequence only.

   Source   Vaswani et al. 2017; MoBA: Lu et al. 2025, arXiv:2502.13189, eq. 2; tiled with a running softmax:
            Milakov & Gimelshein 2018, arXiv:1805.02867, Dao et al. 2022, arXiv:2205.14135
   Math     g = h / (H/G);  s[t,j] = <q[t,h], k[j,g]> / sqrt(D)
            query t sees key j of its sequence when j <= t and
              full    -
              moba    the block of j is among chosen[h,t]       (gate.h)
              window  t - j < window                            (token-exact)
            lse[h,t] = log sum_j e^s[t,j]      p[t,j] = e^(s[t,j] - lse)      out[t,h] = sum_j p[t,j] v[j,g]
            delta[h,t] = <dout[t,h], out[t,h]>
            backward, from these:   ds[t,j] = p[t,j] (<dout[t], v[j]> - delta[t])
            dq[t] = sum_j ds[t,j] k[j] / sqrt(D)     dk[j] = sum_{h,t} ds[t,j] q[t] / sqrt(D)
            dv[j] = sum_{h,t} p[t,j] dout[t]
   Shapes   q, out, dq, dout (M, H, D) E · k, v, dk, dv (M, G, D) E · lse, delta (H, M) acc_t<E>; lse: natural
            log, saved for the backward pass. No two tensors may alias. routing: gate.h, moba only, with its
            lists
   Units    window in tokens
   Needs    H % G == 0, a workspace of attention_workspace_bytes_cpu
   Error    fp32 against fp64, relative to the largest value: out 8e-7, gradients 2.8e-6 (measured 3e-7 and
            1.5e-6; with scores of several hundred: 2e-5 and 3e-5)
   Cost     4*D flop for each pair of a query and a visible key in the forward pass, 10*D in the backward pass
            (14*D where the GPU computes the scores twice: version 2, and in versions 3 and 4 full, window and
            blocks of more than 128 keys); bound by arithmetic. Version 2 stores no T x T matrix. Its
            workspace on the CPU: full and window 5 copies of k and one of q in acc_t; moba K copies of q for
            one group of heads.
   Order    fixed by the shapes and the routing
   Versions 1 naive: follows the equations, one row of scores at a time. 2 fast: tiled.cpp, moba.cpp */
#pragma once
#include "moba/attention/gate.h"
#include "moba/core/base.h"

namespace moba {

enum class AttentionKind { full, moba, window };
enum class Direction { forward, backward };
constexpr int max_head_dim_gpu = 256;  // the CPU has no limit

struct AttentionShape {
    int H, G, D;
    AttentionKind kind;
    int window;      // tokens, window only
    GateShape gate;  // moba only
};

struct DeltaShape {
    int M, H, D;
};

template <class E>
void attention_forward_cpu(const Ctx&, E* out, acc_t<E>* lse, const E* q, const E* k, const E* v, Routing,
                           const Sequences&, AttentionShape);
template <class E>
void attention_delta_cpu(const Ctx&, acc_t<E>* delta, const E* dout, const E* out, DeltaShape);
template <class E>
void attention_backward_cpu(const Ctx&, E* dq, E* dk, E* dv, const E* dout, const acc_t<E>* delta, const E* q,
                            const E* k, const E* v, const acc_t<E>* lse, Routing, const Sequences&,
                            AttentionShape);

/* Workspace of the best version; version 1 needs naive_attention_workspace_bytes. That of Direction::backward
   is large enough for both passes. */
template <class E>
size_t attention_workspace_bytes_cpu(int max_tokens, int max_seqs, BlockSizes sizes, AttentionShape,
                                     Direction direction);
template <class E>
size_t naive_attention_workspace_bytes(int max_tokens, AttentionShape);

/* Versions on the GPU: 1 one warp per query, attention.cu; 2 tiles, D <= 128, forward.cu and backward.cu;
   3 tensor cores by mma.sync, bf16, D = 32, 64, 80, 96 or 128, mma_*.cu; 4 tensor cores by wgmma, bf16,
   D = 64 or 128, sm_90a, wgmma_*.cu. */
template <class E>
void attention_forward_gpu(const Ctx&, E* out, acc_t<E>* lse, const E* q, const E* k, const E* v, Routing,
                           const Sequences&, AttentionShape);
template <class E>
void attention_delta_gpu(const Ctx&, acc_t<E>* delta, const E* dout, const E* out, DeltaShape);
template <class E>
void attention_backward_gpu(const Ctx&, E* dq, E* dk, E* dv, const E* dout, const acc_t<E>* delta, const E* q,
                            const E* k, const E* v, const acc_t<E>* lse, Routing, const Sequences&,
                            AttentionShape);
template <class E>
size_t attention_workspace_bytes_gpu(int max_tokens, int max_seqs, BlockSizes sizes, AttentionShape,
                                     Direction direction);

/* The highest version of the GPU kernels that supports these sizes, the element type E and this card. */
template <class E>
int attention_versions_gpu(const Sequences&, AttentionShape, Direction direction);

}  // namespace moba

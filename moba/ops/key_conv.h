/* Key convolution: mixes each key with the few keys before it, so that the mean key of a block depends on the
   order of its tokens.

   Source   Xiao et al. 2025, arXiv:2511.11571, appendix C. Our choices for what it leaves open: keys before
            the start of the sequence count as 0; the convolution comes before RoPE; its result is used for
            routing and for attention.
   Math     u[t,c] = sum_{l<W} w[c,l] k[t-l,c]            y[t,c] = k[t,c] + SiLU(u[t,c])
            backward, with du = dy SiLU'(u):
            dk[t,c] = dy[t,c] + sum_{l<W} w[c,l] du[t+l,c]     dw[c,l] += sum_t du[t,c] k[t-l,c]
   Shapes   k, y, dk, dy (M, C) E with C = G*D · w (C, W) E, w[:,0] is the tap of the token itself ·
            dw (C, W) acc_t<E> · position (M) int. Nothing may alias.
            cached (forward only): k holds all tokens of one sequence, (T, C), and row t of y is the result
            for row position[t] of k
   Units    W in tokens
   Needs    W in 1..8; backward: workspace of key_conv_workspace_bytes_cpu or _gpu
   Error    fp32 against fp64, relative to the largest value: 1.2e-6 (measured y 1.6e-7, dk 2.8e-7, dw 5.1e-7)
   Cost     (W + 1) * M*C elements read through the cache; memory bound
   Order    dw: partial sums of 256 tokens on the CPU; on the GPU of 64 tokens, or of more if 64 would give
            more than 256 partial sums; added in a fixed order */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct KeyConvShape {
    int M, C, W;
    bool cached = false;  // row t of y belongs to row position[t] of k, not to row t
};

template <class E>
void key_conv_forward_cpu(const Ctx&, E* y, const E* k, const E* w, const int* position, KeyConvShape);
template <class E>
void key_conv_backward_cpu(const Ctx&, E* dk, acc_t<E>* dw, const E* dy, const E* k, const E* w,
                           const int* position, KeyConvShape);

template <class E>
size_t key_conv_workspace_bytes_cpu(KeyConvShape);

template <class E>
void key_conv_forward_gpu(const Ctx&, E* y, const E* k, const E* w, const int* position, KeyConvShape);
template <class E>
void key_conv_backward_gpu(const Ctx&, E* dk, acc_t<E>* dw, const E* dy, const E* k, const E* w,
                           const int* position, KeyConvShape);
template <class E>
size_t key_conv_workspace_bytes_gpu(KeyConvShape);

}  // namespace moba

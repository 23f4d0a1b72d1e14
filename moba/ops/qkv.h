/* One matrix product computes queries, keys and values, side by side in one row per token. qkv_split copies
   them to separate tensors and rotates queries and keys (RoPE). In the backward pass qkv_join puts the
   gradients side by side again, for one product.

   Math     split   q[m,h] = R q'[m,h],  k[m,g] = R k'[m,g],  v[m,g] = v'[m,g],
                    qkv[m] = q'[m,:] k'[m,:] v'[m,:]
            join    the backward pass of split: R^T instead of R
            R: the rotation of rope.h by position[m]; none for q or k if rotate_q or rotate_k is false
   Shapes   qkv (M, H+2G, D) E · q (M, H, D) E · k, v (M, G, D) E · position (M) int · table: rope.h.
            Nothing may alias.
   Units    as rope.h
   Needs    D even, on the GPU at most 512; 0 <= position < the length that the table was made for
   Error    as rope.h; exact for what is not rotated
   Cost     2*M*(H+2G)*D elements; memory bound */
#pragma once
#include "moba/core/base.h"

namespace moba {

struct QkvShape {
    int M, H, G, D;
    bool rotate_q, rotate_k;
    HOST_DEVICE int heads() const { return H + 2 * G; }
};

template <class E>
void qkv_split_cpu(const Ctx&, E* q, E* k, E* v, const E* qkv, const int* position, const acc_t<E>* table,
                   QkvShape);
template <class E>
void qkv_join_cpu(const Ctx&, E* dqkv, const E* dq, const E* dk, const E* dv, const int* position,
                  const acc_t<E>* table, QkvShape);

template <class E>
void qkv_split_gpu(const Ctx&, E* q, E* k, E* v, const E* qkv, const int* position, const acc_t<E>* table,
                   QkvShape);
template <class E>
void qkv_join_gpu(const Ctx&, E* dqkv, const E* dq, const E* dk, const E* dv, const int* position,
                  const acc_t<E>* table, QkvShape);

}  // namespace moba

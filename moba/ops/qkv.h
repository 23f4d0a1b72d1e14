/* Queries, keys and values come out of one product, side by side in a row for each token. This takes the rows apart, and rotates
   queries and keys on the way (RoPE); the backward pass puts the gradients together again for one product.

   Math     split   q[m,h] = R q'[m,h],  k[m,g] = R k'[m,g],  v[m,g] = v'[m,g],   qkv[m] = q'[m,:] k'[m,:] v'[m,:]
            join    the backward of it: R^T in place of R
            R: the rotation of rope.h by position[m], or none where rotate_q, rotate_k are false
   Shapes   qkv (M, H+2G, D) E · q (M, H, D) E · k, v (M, G, D) E · position (M) int · table: rope.h. Nothing may alias.
   Units    as rope.h
   Needs    D even; 0 <= position < the length the table was made for
   Error    as rope.h; exact where nothing is rotated
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

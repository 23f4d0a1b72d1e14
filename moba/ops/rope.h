/* RoPE: rotates pairs of elements of each query and key by an angle proportional to the token's position.

   Source   Su et al. 2021, arXiv:2104.09864, eq. 34; pairing as in Llama ("half-split")
   Math     a[t,i]   = t * f[i],  f[i] = theta^(-2i/D) / factor          i in [0, D/2)
            y[i]     = x[i] cos a - x[i+D/2] sin a
            y[i+D/2] = x[i] sin a + x[i+D/2] cos a
            backward: the same rotation by -a (the matrix of a rotation is orthogonal)
   Shapes   x, y, dx, dy (M, H, D) E, may alias (in place) · position (M) int · table: rope_table_size numbers
   Units    angles in radians; position in tokens from the start of the sequence; factor: linear scaling (1:
            none). A table can also have a length: then y is longer than x by it, and so is dx than dy (yarn)
   Needs    D even, on the GPU at most 512; 0 <= position < the length that the table was made for
   Error    the table is computed in fp64 and split (t = 1024 a + b, two rotations), so in fp32 the error is
            at most 1.9e-7 of |x| at any length (measured 8e-8; angles in fp32 would have an error of 3e-3 at
            t = 65536)
   Cost     2*M*H*D elements; memory bound. The table is (1024 + T/1024) * D numbers. */
#pragma once
#include "moba/core/base.h"
#include <vector>

namespace moba {

struct RopeShape {
    int M, H, D;
};

constexpr int rope_split = 1024;

size_t rope_table_size(int max_positions, int D);
/* cos and sin of position * f[i], for i < D/2, from a table. */
template <class A>
void rope_angles_cpu(A* cosine, A* sine, const A* table, int position, int D);
/* y = one head x of D elements, rotated by these angles. y may be x. */
template <class E>
void rope_head_cpu(E* y, const E* x, const acc_t<E>* cosine, const acc_t<E>* sine, int D);
/* Fills a table in host memory. frequencies: the D/2 values f[i]; length: what y is longer than x by. */
template <class A>
void rope_fill_table(A* table, const std::vector<double>& frequencies, int max_positions, double length = 1);

template <class E>
void rope_forward_cpu(const Ctx&, E* y, const E* x, const int* position, const acc_t<E>* table, RopeShape);
template <class E>
void rope_backward_cpu(const Ctx&, E* dx, const E* dy, const int* position, const acc_t<E>* table, RopeShape);

template <class E>
void rope_forward_gpu(const Ctx&, E* y, const E* x, const int* position, const acc_t<E>* table, RopeShape);
template <class E>
void rope_backward_gpu(const Ctx&, E* dx, const E* dy, const int* position, const acc_t<E>* table, RopeShape);

}  // namespace moba

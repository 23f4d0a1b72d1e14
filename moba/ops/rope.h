/* RoPE: rotate each query/key pair by an angle that grows with its position.

   Source   Su et al. 2021, arXiv:2104.09864, eq. 34; pairing as in Llama ("half-split")
   Math     a[t,i]   = t * f[i],  f[i] = theta^(-2i/D) / factor          i in [0, D/2)
            y[i]     = x[i] cos a - x[i+D/2] sin a
            y[i+D/2] = x[i] sin a + x[i+D/2] cos a
            backward: the same rotation by -a (the matrix is orthogonal)
   Shapes   x, y, dx, dy (M, H, D) E, may alias (in place) · position (M) int · table: rope_table_size numbers
   Units    angles in radians; position in tokens from the start of its sequence; factor: linear scaling, 1 = none
   Needs    D even; 0 <= position < the length the table was made for
   Error    angles come from float64 and a split table (t = 1024 a + b, two rotations), so fp32 stays within
            1.9e-7 of |x| at any length (measured 8e-8; angles in fp32 would lose 3e-3 at t = 65536)
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
/* y = the rotation of one head x of D elements by these angles; y may be x. */
template <class E>
void rope_head_cpu(E* y, const E* x, const acc_t<E>* cosine, const acc_t<E>* sine, int D);
/* frequencies: D/2 values f[i]. Host memory. */
template <class A>
void rope_fill_table(A* table, const std::vector<double>& frequencies, int max_positions);

template <class E>
void rope_forward_cpu(const Ctx&, E* y, const E* x, const int* position, const acc_t<E>* table, RopeShape);
template <class E>
void rope_backward_cpu(const Ctx&, E* dx, const E* dy, const int* position, const acc_t<E>* table, RopeShape);

template <class E>
void rope_forward_gpu(const Ctx&, E* y, const E* x, const int* position, const acc_t<E>* table, RopeShape);
template <class E>
void rope_backward_gpu(const Ctx&, E* dx, const E* dy, const int* position, const acc_t<E>* table, RopeShape);

}  // namespace moba

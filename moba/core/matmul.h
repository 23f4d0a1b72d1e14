/* One tile of a matrix product, for any element type; linear is built from such tiles. CPU only.

   Math     C (m,n) = A (m,k) · B (k,n), or C += A · B with Store::add; sums in acc_t, one rounding when C is
            stored
   Shapes   c (m, n), rows ldc apart · element (i,p) of A is a[i*ar + p*ac] · element (p,j) of B is
            b[p*br + j*bc]; one of ar, ac and one of br, bc is 1. c does not alias a or b.
   Needs    m <= matmul_m, n <= matmul_n; any k >= 1; scratch of matmul_scratch elements per thread
   Cost     2*m*n*k flop. fp32 and fp64 in a build with a BLAS: one call of it, with one thread, so that the
            bits do not depend on the number of threads. Otherwise: the sum over k in pieces of 256, B packed
            into rows, tile.h.
   Order    fixed by the shapes */
#pragma once
#include "moba/core/tile.h"

namespace moba {

constexpr int matmul_m = 128, matmul_n = 256, matmul_k = 256;
constexpr size_t matmul_scratch =
    (size_t)matmul_k * matmul_n + (size_t)matmul_m * matmul_n + (size_t)matmul_m * matmul_k;

/* The BLAS this program was built with, or "none". */
const char* blas_name();

template <class E, class Out>
void matmul_tile(Out* c, size_t ldc, const E* a, size_t ar, size_t ac, const E* b, size_t br, size_t bc,
                 int m, int n, int k, Store store, acc_t<E>* scratch);

}  // namespace moba

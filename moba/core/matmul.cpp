#include "moba/core/matmul.h"
#include "moba/core/tile.h"
#include <algorithm>
#ifdef MOBA_BLAS
#include <cblas.h>
#endif

namespace moba {

#ifdef MOBA_BLAS
// Otherwise OpenBLAS would start threads inside each of our threads.
static const bool single_threaded = (openblas_set_num_threads(1), true);

const char* blas_name() { return "OpenBLAS"; }

static void gemm(float* c, int ldc, const float* a, CBLAS_TRANSPOSE ta, int lda, const float* b,
                 CBLAS_TRANSPOSE tb, int ldb, int m, int n, int k, Store store) {
    cblas_sgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, store == Store::add, c, ldc);
}
static void gemm(double* c, int ldc, const double* a, CBLAS_TRANSPOSE ta, int lda, const double* b,
                 CBLAS_TRANSPOSE tb, int ldb, int m, int n, int k, Store store) {
    cblas_dgemm(CblasRowMajor, ta, tb, m, n, k, 1, a, lda, b, ldb, store == Store::add, c, ldc);
}
#else
const char* blas_name() { return "none"; }
#endif

// Copies a piece (depth, n) of B into rows of length `width`, converted to the accumulator type and padded
// with zeros.
template <class E>
static void pack(acc_t<E>* dst, int width, const E* b, size_t br, size_t bc, int depth, int n) {
    for (int p = 0; p < depth; p++) {
        acc_t<E>* row = dst + (size_t)p * width;
        for (int j = 0; j < n; j++) { row[j] = acc_t<E>(b[p * br + j * bc]); }
        std::fill(row + n, row + width, acc_t<E>(0));
    }
}

template <class E, class Out>
static void plain(Out* c, size_t ldc, const E* a, size_t ar, size_t ac, const E* b, size_t br, size_t bc,
                  int m, int n, int k, Store store, acc_t<E>* scratch) {
    using A = acc_t<E>;
    const int width = round_up(n, lanes<A>);
    A* packed = scratch;
    A* sum = packed + (size_t)matmul_k * matmul_n;
    A* left = sum + (size_t)matmul_m * matmul_n;
    for (int p = 0; p < k; p += matmul_k) {
        const int depth = std::min(matmul_k, k - p);
        pack(packed, width, b + p * br, br, bc, depth, n);
        if constexpr (std::is_same_v<A, E>) {
            tile_matmul<A>(sum, width, a + p * ac, ar, ac, packed, width, m, width, depth,
                           p > 0 ? Store::add : Store::replace);
        } else {
            pack(left, depth, a + p * ac, ar, ac, m, depth);
            tile_matmul<A>(sum, width, left, depth, 1, packed, width, m, width, depth,
                           p > 0 ? Store::add : Store::replace);
        }
    }
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            const A x = sum[(size_t)i * width + j];
            c[i * ldc + j] = Out(store == Store::add ? A(c[i * ldc + j]) + x : x);
        }
    }
}

template <class E, class Out>
void matmul_tile(Out* c, size_t ldc, const E* a, size_t ar, size_t ac, const E* b, size_t br, size_t bc,
                 int m, int n, int k, Store store, acc_t<E>* scratch) {
    REQUIRE(m <= matmul_m && n <= matmul_n && k >= 1, "m = %d, n = %d, k = %d", m, n, k);
#ifdef MOBA_BLAS
    if constexpr (std::is_same_v<E, Out> && !std::is_same_v<E, bf16>) {
        // An operand is passed as stored or as transposed. A single row or column is both at the same time;
        // the BLAS then still requires a leading dimension of at least the full row length.
        const bool a_plain = ac == 1 && (ar >= (size_t)k || m == 1),
                   b_plain = bc == 1 && (br >= (size_t)n || k == 1);
        const int lda = a_plain ? std::max((int)ar, k) : std::max((int)ac, m);
        const int ldb = b_plain ? std::max((int)br, n) : std::max((int)bc, k);
        gemm(c, std::max((int)ldc, n), a, a_plain ? CblasNoTrans : CblasTrans, lda, b,
             b_plain ? CblasNoTrans : CblasTrans, ldb, m, n, k, store);
        return;
    }
#endif
    plain(c, ldc, a, ar, ac, b, br, bc, m, n, k, store, scratch);
}

INSTANTIATE_ONE(matmul_tile, double, double)
INSTANTIATE_ONE(matmul_tile, float, float)
INSTANTIATE_ONE(matmul_tile, bf16, bf16)
INSTANTIATE_ONE(matmul_tile, bf16, float)

}  // namespace moba

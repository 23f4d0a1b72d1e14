/* Small dense matrix products for tiles that fit in the L1 and L2 caches: the inner loop of attention, of the
   gate, and of linear in a build without a BLAS. CPU only.

   Math     C (m,n) = A (m,k) · B (k,n), or C += A · B with Store::add
   Shapes   c (m, n), rows ldc apart · element (i,p) of A is a[i*ar + p*ac], so a transposed A costs nothing ·
            b (k, n), rows ldb apart. c does not alias a or b.
   Needs    n a multiple of lanes<A>: pad the rows of b and c (with any values)
   Cost     2*m*n*k flop. A block of up to 8 rows x 2 vectors of C stays in registers during the whole sum, so
            each step of k takes 2 loads of B, 8 broadcasts of A and 16 fused multiply-adds.
   Order    c[i][j] is summed over p = 0, 1, ..., k-1, for any m and n */
#pragma once
#include "moba/core/base.h"

namespace moba {

// What a product does to the values that its result C already has.
enum class Store { replace, add };

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
#elif defined(__AVX__)
constexpr int vector_bytes = 32;
#else
constexpr int vector_bytes = 16;  // SSE2, NEON
#endif

template <class A>
constexpr int lanes = vector_bytes / (int)sizeof(A);

/* A SIMD register of elements A, which may be loaded from any address. */
template <class A>
struct Vector;
template <>
struct Vector<float> {
    typedef float type __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
};
template <>
struct Vector<double> {
    typedef double type __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
};

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

template <class A>
inline typename Vector<A>::type load_vector(const A* p) {
    return *(const typename Vector<A>::type*)p;
}
// A bf16 is the upper half of a float.
inline Vector<float>::type load_vector(const bf16* p) {
    typedef uint16_t Halves __attribute__((vector_size(vector_bytes / 2), aligned(2), may_alias));
    typedef uint32_t Words __attribute__((vector_size(vector_bytes)));
    return (Vector<float>::type)(__builtin_convertvector(*(const Halves*)p, Words) << 16);
}

/* out[r] = x · row r of w, for `count` <= 4 rows of I elements, `stride` apart: one pass over memory, for a
   single row x. Two sums for each lane, of even and of odd vectors; then the lanes are added by halves, and
   last come the elements that fill no vector. The order depends on I alone. */
template <class E>
inline void four_dots(acc_t<E>* out, const E* x, const E* w, size_t stride, int I, int count) {
    using A = acc_t<E>;
    using V = typename Vector<A>::type;
    constexpr int W = lanes<A>;
    const E* rows[4];
    UNROLL for (int r = 0; r < 4; r++) { rows[r] = w + (size_t)(r < count ? r : count - 1) * stride; }
    V even[4] = {}, odd[4] = {};  // two sums, because one would wait for its own last addition
    int i = 0;
    for (; i + 2 * W <= I; i += 2 * W) {
        const V x0 = load_vector(x + i), x1 = load_vector(x + i + W);
        UNROLL for (int r = 0; r < 4; r++) {
            even[r] += x0 * load_vector(rows[r] + i);
            odd[r] += x1 * load_vector(rows[r] + i + W);
        }
    }
    A sums[4][W];
    UNROLL for (int r = 0; r < 4; r++) { *(V*)sums[r] = even[r] + odd[r]; }
    for (int half = W / 2; half > 0; half /= 2) {
        for (int r = 0; r < 4; r++) {
            for (int l = 0; l < half; l++) { sums[r][l] += sums[r][l + half]; }
        }
    }
    for (int r = 0; r < count; r++) {
        for (int rest = i; rest < I; rest++) { sums[r][0] += A(x[rest]) * A(rows[r][rest]); }
        out[r] = sums[r][0];
    }
}

// Computes one block of C: MR rows, NV vectors wide.
template <class A, int MR, int NV>
inline void tile_block(A* c, size_t ldc, const A* a, size_t ar, size_t ac, const A* b, size_t ldb, int k,
                       Store store) {
    using V = typename Vector<A>::type;
    V sum[MR][NV];
    UNROLL for (int i = 0; i < MR; i++) {
        UNROLL for (int j = 0; j < NV; j++) {
            sum[i][j] = store == Store::add ? *(const V*)(c + i * ldc + j * lanes<A>) : V{};
        }
    }
    for (int p = 0; p < k; p++) {
        V row[NV];
        UNROLL for (int j = 0; j < NV; j++) { row[j] = *(const V*)(b + p * ldb + j * lanes<A>); }
        UNROLL for (int i = 0; i < MR; i++) {
            const A x = a[i * ar + p * ac];
            UNROLL for (int j = 0; j < NV; j++) { sum[i][j] += x * row[j]; }
        }
    }
    UNROLL for (int i = 0; i < MR; i++) {
        UNROLL for (int j = 0; j < NV; j++) { *(V*)(c + i * ldc + j * lanes<A>) = sum[i][j]; }
    }
}

// Computes a column of C, NV vectors wide: blocks of MR rows; the remaining rows in smaller blocks.
template <class A, int MR, int NV>
inline void tile_rows(A* c, size_t ldc, const A* a, size_t ar, size_t ac, const A* b, size_t ldb, int m,
                      int k, Store store) {
    int i = 0;
    for (; i + MR <= m; i += MR) {
        tile_block<A, MR, NV>(c + i * ldc, ldc, a + i * ar, ar, ac, b, ldb, k, store);
    }
    if constexpr (MR > 1) {
        if (i < m) {
            tile_rows<A, MR / 2, NV>(c + i * ldc, ldc, a + i * ar, ar, ac, b, ldb, m - i, k, store);
        }
    }
}

template <class A>
void tile_matmul(A* c, size_t ldc, const A* a, size_t ar, size_t ac, const A* b, size_t ldb, int m, int n,
                 int k, Store store = Store::replace) {
    constexpr int MR = vector_bytes == 64 ? 8 : 4, W = lanes<A>;
    int j = 0;
    for (; j + 2 * W <= n; j += 2 * W) {
        tile_rows<A, MR, 2>(c + j, ldc, a, ar, ac, b + j, ldb, m, k, store);
    }
    for (; j < n; j += W) { tile_rows<A, MR, 1>(c + j, ldc, a, ar, ac, b + j, ldb, m, k, store); }
}

}  // namespace moba

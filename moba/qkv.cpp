#include "moba/qkv.h"
#include "moba/parallel.h"
#include "moba/rope.h"
#include <algorithm>

// y = the rotation of a head by the angles; sign = -1: back
template <class E>
static void rotate(E* y, const E* x, const acc_t<E>* cosine, const acc_t<E>* sine, int D, int sign) {
    using A = acc_t<E>;
    const int half = D / 2;
#pragma omp simd
    for (int i = 0; i < half; i++) {
        const A re = A(x[i]), im = A(x[i + half]), s = sign * sine[i];
        y[i] = E(re * cosine[i] - im * s);
        y[i + half] = E(re * s + im * cosine[i]);
    }
}

// f(part of the head, place in qkv, rotated?, cosine, sine) for every head of every token. parts: q, k, v
template <class E, class P, class F>
static void each_head(P* const (&parts)[3], const int* position, const acc_t<E>* table, const QkvShape& s,
                      F f) {
    REQUIRE(s.D % 2 == 0, "D = %d", s.D);
    const int heads_of[] = {s.H, s.G, s.G};
    const bool rotated[] = {s.rotate_q, s.rotate_k, false};
    parallel_ranges(s.M, 64, [&](size_t b, size_t e) {
        std::vector<acc_t<E>> angle(s.D);
        for (size_t m = b; m < e; m++) {
            if (s.rotate_q || s.rotate_k) {
                rope_angles_cpu(angle.data(), angle.data() + s.D / 2, table, position[m], s.D);
            }
            size_t at = m * s.heads() * s.D;
            for (int part = 0; part < 3; part++) {
                for (int h = 0; h < heads_of[part]; h++, at += s.D) {
                    f(parts[part] + (m * heads_of[part] + h) * s.D, at, rotated[part], angle.data(),
                      angle.data() + s.D / 2);
                }
            }
        }
    });
}

template <class E>
void qkv_split_cpu(const Ctx&, E* q, E* k, E* v, const E* qkv, const int* position, const acc_t<E>* table,
                   QkvShape s) {
    using A = acc_t<E>;
    E* const parts[] = {q, k, v};
    each_head<E>(parts, position, table, s,
                 [&](E* part, size_t at, bool rotated, const A* cosine, const A* sine) {
                     if (rotated) {
                         rotate(part, qkv + at, cosine, sine, s.D, 1);
                     } else {
                         std::copy_n(qkv + at, s.D, part);
                     }
                 });
}

template <class E>
void qkv_join_cpu(const Ctx&, E* dqkv, const E* dq, const E* dk, const E* dv, const int* position,
                  const acc_t<E>* table, QkvShape s) {
    using A = acc_t<E>;
    const E* const parts[] = {dq, dk, dv};
    each_head<E>(parts, position, table, s,
                 [&](const E* part, size_t at, bool rotated, const A* cosine, const A* sine) {
                     if (rotated) {
                         rotate(dqkv + at, part, cosine, sine, s.D, -1);
                     } else {
                         std::copy_n(part, s.D, dqkv + at);
                     }
                 });
}

#define INSTANTIATE(E)                                                                                       \
    template void qkv_split_cpu(const Ctx&, E*, E*, E*, const E*, const int*, const acc_t<E>*, QkvShape);    \
    template void qkv_join_cpu(const Ctx&, E*, const E*, const E*, const E*, const int*, const acc_t<E>*,    \
                               QkvShape);
INSTANTIATE(double)
INSTANTIATE(float)
INSTANTIATE(bf16)

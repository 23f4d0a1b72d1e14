#include "moba/ops/qkv.h"
#include "moba/core/parallel.h"
#include "moba/ops/rope.h"
#include <algorithm>

namespace moba {

// Calls f(head, index of its first element in qkv, is it rotated?, cosine, sine) for every head of every
// token. `head` is in one of parts = q, k, v. sign = -1 rotates back.
template <class E, class P, class F>
static void each_head(P* const (&parts)[3], const int* position, const acc_t<E>* table, const QkvShape& s,
                      int sign, F f) {
    REQUIRE(s.D % 2 == 0, "D = %d", s.D);
    const int heads_of[] = {s.H, s.G, s.G};
    const bool rotated[] = {s.rotate_q, s.rotate_k, false};
    parallel_ranges(s.M, 64, [&](size_t b, size_t e) {
        std::vector<acc_t<E>> angle(s.D);
        for (size_t m = b; m < e; m++) {
            if (s.rotate_q || s.rotate_k) {
                rope_angles_cpu(angle.data(), angle.data() + s.D / 2, table, position[m], s.D);
                for (int i = s.D / 2; i < s.D; i++) { angle[i] *= sign; }
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
    each_head<E>(parts, position, table, s, 1,
                 [&](E* part, size_t at, bool rotated, const A* cosine, const A* sine) {
                     if (rotated) {
                         rope_head_cpu(part, qkv + at, cosine, sine, s.D);
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
    each_head<E>(parts, position, table, s, -1,
                 [&](const E* part, size_t at, bool rotated, const A* cosine, const A* sine) {
                     if (rotated) {
                         rope_head_cpu(dqkv + at, part, cosine, sine, s.D);
                     } else {
                         std::copy_n(part, s.D, dqkv + at);
                     }
                 });
}

INSTANTIATE_AND_DOUBLE(qkv_split_cpu)
INSTANTIATE_AND_DOUBLE(qkv_join_cpu)

}  // namespace moba

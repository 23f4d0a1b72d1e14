#include "moba/ops/rope.h"
#include "moba/core/parallel.h"

namespace moba {

// Table, rows of D numbers: row b (0..1023) holds (cos, sin) of b * f[i], row 1024 + a those of 1024 a *
// f[i].
size_t rope_table_size(int max_positions, int D) {
    return (size_t)(rope_split + ceil_div(max_positions, rope_split)) * D;
}

template <class A>
void rope_fill_table(A* table, const std::vector<double>& f, int max_positions, double length) {
    const int rows = rope_split + ceil_div(max_positions, rope_split);
    for (int r = 0; r < rows; r++) {
        const double t = r < rope_split ? r : (double)(r - rope_split) * rope_split;
        const double factor = r < rope_split ? 1 : length;  // an angle is the product of one row of each kind
        for (double freq : f) {
            *table++ = (A)(factor * std::cos(t * freq));
            *table++ = (A)(factor * std::sin(t * freq));
        }
    }
}

template <class A>
void rope_angles_cpu(A* cosine, A* sine, const A* table, int position, int D) {
    const A* fine = table + (size_t)(position % rope_split) * D;
    const A* coarse = table + (size_t)(rope_split + position / rope_split) * D;
    for (int i = 0; i < D / 2; i++) {  // cos(a + b), sin(a + b)
        const A ca = coarse[2 * i], sa = coarse[2 * i + 1], cb = fine[2 * i], sb = fine[2 * i + 1];
        cosine[i] = ca * cb - sa * sb;
        sine[i] = sa * cb + ca * sb;
    }
}

template <class E>
void rope_head_cpu(E* y, const E* x, const acc_t<E>* cosine, const acc_t<E>* sine, int D) {
    using A = acc_t<E>;
    const int half = D / 2;
#pragma omp simd
    for (int i = 0; i < half; i++) {
        const A re = A(x[i]), im = A(x[i + half]);
        y[i] = E(re * cosine[i] - im * sine[i]);
        y[i + half] = E(re * sine[i] + im * cosine[i]);
    }
}

// sign = +1 forward, -1 backward
template <class E>
static void rotate(E* y, const E* x, const int* position, const acc_t<E>* table, RopeShape s, int sign) {
    using A = acc_t<E>;
    REQUIRE(s.D % 2 == 0, "D = %d", s.D);
    const int half = s.D / 2;
    parallel_ranges(s.M, 64, [&](size_t b, size_t e) {
        std::vector<A> angle(s.D);
        for (size_t m = b; m < e; m++) {
            A *cosine = angle.data(), *sine = cosine + half;
            rope_angles_cpu(cosine, sine, table, position[m], s.D);
            for (int i = 0; i < half; i++) { sine[i] *= sign; }
            for (int h = 0; h < s.H; h++) {
                const size_t o = (m * s.H + h) * s.D;
                rope_head_cpu(y + o, x + o, cosine, sine, s.D);
            }
        }
    });
}

template <class E>
void rope_forward_cpu(const Ctx&, E* y, const E* x, const int* position, const acc_t<E>* table, RopeShape s) {
    rotate(y, x, position, table, s, 1);
}
template <class E>
void rope_backward_cpu(const Ctx&, E* dx, const E* dy, const int* position, const acc_t<E>* table,
                       RopeShape s) {
    rotate(dx, dy, position, table, s, -1);
}

INSTANTIATE_AND_DOUBLE(rope_head_cpu)
INSTANTIATE_AND_DOUBLE(rope_forward_cpu)
INSTANTIATE_AND_DOUBLE(rope_backward_cpu)
INSTANTIATE_ONE(rope_angles_cpu, float)
INSTANTIATE_ONE(rope_angles_cpu, double)
INSTANTIATE_ONE(rope_fill_table, float)
INSTANTIATE_ONE(rope_fill_table, double)

}  // namespace moba

#include "moba/ops/slots.h"
#include "moba/core/parallel.h"
#include <algorithm>
#include <vector>

namespace moba {

// Calls f(h, t, first slot, used) for all queries.
template <class F>
static void each_query(const int* used, SlotsShape s, F f) {
    parallel_ranges((size_t)s.H * s.M, 256, [&](size_t b, size_t e) {
        for (size_t i = b; i < e; i++) {
            REQUIRE(used[i] >= 1 && used[i] <= s.K, "%d of %d slots", used[i], s.K);
            f((int)(i / s.M), i % s.M, i * s.K, used[i]);
        }
    });
}

template <class E>
void merge_slots_cpu(const Ctx&, E* out, acc_t<E>* lse, const E* part, const acc_t<E>* part_lse,
                     const int* used, SlotsShape s) {
    using A = acc_t<E>;
    each_query(used, s, [=](int h, size_t t, size_t slot, int count) {
        const A top = *std::max_element(part_lse + slot, part_lse + slot + count);
        std::vector<A> sum(s.D);
        A total = 0;
        for (int j = 0; j < count; j++) {
            const A weight = fast_exp(part_lse[slot + j] - top);
            total += weight;
            for (int d = 0; d < s.D; d++) { sum[d] += weight * A(part[(slot + j) * s.D + d]); }
        }
        for (int d = 0; d < s.D; d++) { out[(t * s.H + h) * s.D + d] = E(sum[d] / total); }
        lse[(size_t)h * s.M + t] = top + std::log(total);
    });
}

template <class E>
void sum_slots_cpu(const Ctx&, E* dq, const E* part, const int* used, SlotsShape s) {
    using A = acc_t<E>;
    each_query(used, s, [=](int h, size_t t, size_t slot, int count) {
        for (int d = 0; d < s.D; d++) {
            A sum = 0;
            for (int j = 0; j < count; j++) { sum += A(part[(slot + j) * s.D + d]); }
            dq[(t * s.H + h) * s.D + d] = E(sum);
        }
    });
}

// Calls f(element of y, element of x).
template <class E, class F>
static void each_row(E* y, const E* x, const int* row, RowsShape s, F f) {
    parallel_ranges(s.R, 256, [&](size_t b, size_t e) {
        for (size_t i = b; i < e; i++) {
            REQUIRE(row[i] >= 0 && row[i] < s.M, "row %d of %d", row[i], s.M);
            for (int c = 0; c < s.C; c++) { f(y[(size_t)row[i] * s.C + c], x[i * s.C + c]); }
        }
    });
}

template <class E>
void put_rows_cpu(const Ctx&, E* y, const E* x, const int* row, RowsShape s) {
    each_row(y, x, row, s, [](E& to, E from) { to = from; });
}
template <class E>
void add_rows_cpu(const Ctx&, E* y, const E* x, const int* row, RowsShape s) {
    each_row(y, x, row, s, [](E& to, E from) { to = E(acc_t<E>(to) + acc_t<E>(from)); });
}

INSTANTIATE_AND_DOUBLE(merge_slots_cpu)
INSTANTIATE_AND_DOUBLE(sum_slots_cpu)
INSTANTIATE_AND_DOUBLE(put_rows_cpu)
INSTANTIATE_AND_DOUBLE(add_rows_cpu)

}  // namespace moba

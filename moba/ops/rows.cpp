#include "moba/ops/rows.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

template <class E>
void gather_rows_cpu(const Ctx&, E* y, const E* x, const int* row, RowsShape s) {
    parallel_ranges(s.R, 256, [&](size_t b, size_t e) {
        for (size_t i = b; i < e; i++) {
            REQUIRE(row[i] >= 0 && row[i] < s.M, "row %d of %d", row[i], s.M);
            std::copy_n(x + (size_t)row[i] * s.C, s.C, y + i * s.C);
        }
    });
}

template <class E>
void scatter_rows_cpu(const Ctx&, E* dx, const E* dy, const int* row, RowsShape s) {
    parallel_ranges(s.M, 256, [&](size_t b, size_t e) {
        size_t i = std::lower_bound(row, row + s.R, (int)b) - row;
        for (size_t m = b; m < e; m++) {
            if (i < (size_t)s.R && row[i] == (int)m) {
                std::copy_n(dy + i++ * s.C, s.C, dx + m * s.C);
            } else {
                std::fill_n(dx + m * s.C, s.C, E(0));
            }
        }
    });
}

INSTANTIATE_AND_DOUBLE(gather_rows_cpu)
INSTANTIATE_AND_DOUBLE(scatter_rows_cpu)

}  // namespace moba

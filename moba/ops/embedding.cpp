#include "moba/ops/embedding.h"
#include "moba/core/parallel.h"
#include <algorithm>

namespace moba {

template <class E>
void embedding_forward_cpu(const Ctx&, E* y, const int* token, const E* w, EmbeddingShape s) {
    parallel_ranges(s.M, 256, [&](size_t b, size_t e) {
        for (size_t m = b; m < e; m++) {
            REQUIRE(token[m] >= 0 && token[m] < s.V, "token %d of %zu, V = %d", token[m], m, s.V);
            std::copy_n(w + (size_t)token[m] * s.C, s.C, y + m * s.C);
        }
    });
}

template <class E>
void embedding_backward_cpu(const Ctx&, acc_t<E>* dw, const int* token, const E* dy, EmbeddingShape s) {
    parallel_ranges(s.C, 32, [&](size_t b, size_t e) {
        for (int m = 0; m < s.M; m++) {
            acc_t<E>* row = dw + (size_t)token[m] * s.C;
            for (size_t c = b; c < e; c++) { row[c] += acc_t<E>(dy[(size_t)m * s.C + c]); }
        }
    });
}

INSTANTIATE_AND_DOUBLE(embedding_forward_cpu)
INSTANTIATE_AND_DOUBLE(embedding_backward_cpu)

}  // namespace moba

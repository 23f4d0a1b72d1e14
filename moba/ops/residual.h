/* Adds a branch (attention, MLP) to the residual stream, with dropout on the branch. Also dropout on the
   embedding.

   Source   Srivastava et al. 2014; inverted scaling (elements that are not dropped are divided by 1-p)
   Math     y = x + mask b / (1-p)             (x = null: y = mask b / (1-p))
            backward: db = mask dy / (1-p)     dx = dy, left to the caller
            mask[i] = 1 if word g%4 of philox(key = seed, counter = (g/4, step, micro-batch, 8 layer + site))
            is >= floor(p 2^32), else 0. g = i; with `token`, g = token[i / width] width + i % width.
            Only integers are compared, so every device drops the same elements.
   Shapes   x, b, y, dy, db (n) E; y may alias x or b, db may alias dy
   Units    p in [0, 1): the probability that an element is dropped
   Needs    every g/4 < 2^32
   Error    the rounding of one multiplication and one addition
   Cost     3*n elements; with p > 0 one Philox block (about 60 integer operations) per 4 elements */
#pragma once
#include "moba/ops/step_state.h"

namespace moba {

enum class DropoutSite { attention = 0, mlp = 1, embedding = 2 };

struct DropoutShape {
    size_t n;
    float p;
    int layer;
    DropoutSite site;
    // Where a rank has only some tokens of the micro-batch: which one each row is, so that it drops what one
    // rank alone would. (n / width); nullptr: row m is token m.
    const int* token = nullptr;
    int width = 1;
};

/* What decides whether an element is dropped, in the form that the inner loops of both devices need. A: float
   on the GPU, acc_t<E> on the CPU. */
template <class A>
struct DropoutMask {
    uint32_t threshold;  // an element is dropped if its word is below this; 0: no words are drawn
    A keep;              // 1 / (1-p), the factor of elements that are not dropped
    uint32_t site;       // the last word of the counter: 8 layer + site
    const int* token;    // as in DropoutShape
    uint32_t width;
};
template <class A>
DropoutMask<A> dropout_mask(DropoutShape s) {
    REQUIRE(s.p >= 0 && s.p < 1 && s.n / 4 <= 0xFFFFFFFFull, "p = %g, n = %zu", s.p, s.n);
    return {(uint32_t)((double)s.p * 4294967296.0), A(1 / (1 - (double)s.p)),
            (uint32_t)(8 * s.layer + (int)s.site), s.token, (uint32_t)s.width};
}

template <class E>
void residual_forward_cpu(const Ctx&, E* y, const E* x, const E* b, const StepState*, DropoutShape);
template <class E>
void residual_backward_cpu(const Ctx&, E* db, const E* dy, const StepState*, DropoutShape);

template <class E>
void residual_forward_gpu(const Ctx&, E* y, const E* x, const E* b, const StepState*, DropoutShape);
template <class E>
void residual_backward_gpu(const Ctx&, E* db, const E* dy, const StepState*, DropoutShape);

}  // namespace moba

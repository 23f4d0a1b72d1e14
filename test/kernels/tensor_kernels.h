/* Small kernels, each of which uses some of the wrappers of moba/core/tensor.cuh; for
   test_kernels_tensor.cpp, and built only into the test programs. On the simulator, where it does no harm,
   each can make mistakes on purpose, which must be detected. */
#pragma once
#include "moba/core/base.h"

namespace moba {

namespace tensor_kernels {

enum Mistake {
    none,
    // in matrices()
    swapped_matrices,
    shifted_lane,
    untransposed,
    unswizzled,
    no_copy_wait,
    // in copies()
    one_group_less,
    no_barrier,
    copy_too_early,
    // in ring() and named()
    wrong_parity,
    wrong_count,
    few_threads,
    no_sync,
    // in warpgroup_product(), and unswizzled
    no_proxy_fence,
    one_fences,
    plain_store,
    no_wgmma_fence,
    no_wgmma_wait,
    wrong_mode,
    strides_swapped,
    row_off,
    operand_overwritten,
    a_changed,
    accumulator_touched,
    lanes_differ,
    half_warpgroup
};

bool simulated();
// The architecture whose code runs, 900 for sm_90; the driver may have compiled it for a newer card.
int arch_of_code(const Ctx&);

/* Counted by the simulator since the program began: 8-row accesses of ldmatrix and stmatrix, and how often
   rows had to wait for other rows. */
struct MatrixAccesses {
    long rows8, conflicts;
};
MatrixAccesses matrix_accesses();

/* Three times c (16, 16) = a (16, 32) b, with b stored as (16, 32), or as (32, 16) if b_transposed. a and b
   are read through shared memory. The three results are stored from registers, by stmatrix, and by its
   transposed form as (column, row); the last two need sm_90. */
void matrices(const Ctx&, bf16* c, const bf16* a, const bf16* b, bool b_transposed, Mistake = none);

/* c (16, 8) = a (16, 64) b, with b stored as (8, 64); a by load_exchanged_rows, and the channels of b
   exchanged */
void exchanged_product(const Ctx&, float* c, const bf16* a, const bf16* b);

/* y (4, n): 2^x, log2 |x|, and the maximum and the sum over 4 neighbouring lanes */
void functions(const Ctx&, float* y, const float* x, int n);

/* y = x (6 turns, 128 threads, 4 words), copied through three buffers of shared memory, `bytes` (16 or 4) at
   a time. With 16 bytes, turn 2 is filled with zeros instead. */
void copies(const Ctx&, int* y, const int* x, int bytes, Mistake = none);

/* y (turns, 32): each is the sum of 4 neighbours of x (turns, 128), with the lanes in another order. One warp
   fetches, another adds. sm_90 */
void ring(const Ctx&, float* y, const float* x, int turns, Mistake = none);

/* y (4, 64): turn t gives 64 t + 63 down to 64 t. Two warps write, two others read. */
void named(const Ctx&, int* y, Mistake = none);

/* c (64, N) = a (64, 128) b (128, N); N = 16, 32, 64, 96 or 128. sm_90a. In tensor_wgmma.cu.
   A: a is (m, k) in shared memory, (k, m) in shared memory, or in the registers of the lanes */
enum class A { rows, transposed, registers };
void warpgroup_product(const Ctx&, float* c, const bf16* a, const bf16* b, int N, A, bool b_transposed,
                       Mistake = none);

}  // namespace tensor_kernels

}  // namespace moba

/* Small kernels that use the wrappers of moba/core/tensor.cuh one by one, for test_kernels_tensor.cpp; built into the test programs only.
   Each can make mistakes on purpose: on the simulator, where they do no harm and must be seen. */
#pragma once
#include "moba/core/base.h"

namespace moba {

namespace tensor_kernels {

enum Mistake {
    none,
    // matrices
    swapped_matrices,
    shifted_lane,
    untransposed,
    unswizzled,
    no_copy_wait,
    // copies
    one_group_less,
    no_barrier,
    copy_too_early,
    // ring, named
    wrong_parity,
    wrong_count,
    few_threads,
    no_sync,
    // products of a warpgroup; unswizzled too
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
int arch_of_code(
    const Ctx&);  // 900 for sm_90: the code that runs, which the driver may have made for a later card

/* Since the program began, of the simulator: 8-row accesses of ldmatrix and stmatrix, and how often rows had to wait for others. */
struct MatrixAccesses {
    long rows8, conflicts;
};
MatrixAccesses matrix_accesses();

/* c (3, 16, 16), each a (16, 32) b, b as (16, 32) or transposed (32, 16), in and out through shared memory: stored from registers; by
   stmatrix; by its transpose as (column, row). The last two need sm_90. */
void matrices(const Ctx&, bf16* c, const bf16* a, const bf16* b, bool b_transposed, Mistake = none);

/* c (16, 8) = a (16, 64) b, b as (8, 64): a by load_exchanged_rows, b's channels exchanged */
void exchanged_product(const Ctx&, float* c, const bf16* a, const bf16* b);

/* y (4, n): 2^x, log2 |x|, the largest and the sum of the 4 that neighbours hold */
void functions(const Ctx&, float* y, const float* x, int n);

/* y = x (6, 128, 4 words) through three buffers of shared memory, `bytes` (16 or 4) at a time. With 16, turn 2 is zeros. */
void copies(const Ctx&, int* y, const int* x, int bytes, Mistake = none);

/* y (turns, 32), each the sum of 4 neighbours of x (turns, 128), lanes in another order: a warp brings, another takes. sm_90 */
void ring(const Ctx&, float* y, const float* x, int turns, Mistake = none);

/* y (4, 64): turn t's are 64 t + 63 .. 64 t; two warps write, two others read. */
void named(const Ctx&, int* y, Mistake = none);

/* c (64, N) = a (64, 128) b (128, N), N 16, 32, 64, 96 or 128. sm_90a. tensor_wgmma.cu */
enum class A { rows, transposed, registers };  // (m, k) or (k, m) in shared memory; or each lane its own
void warpgroup_product(const Ctx&, float* c, const bf16* a, const bf16* b, int N, A, bool b_transposed,
                       Mistake = none);

}  // namespace tensor_kernels

}  // namespace moba

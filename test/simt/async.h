/* Tensor cores, asynchronous copies and barriers of the simulator, as strict as the PTX manual. Included
   before every .cu file in the simulator's build; moba/core/tensor.cuh has the same names for a GPU.

   cp.async   the destination is NaN from the issue of the copy until cp_async_wait; the source is read at the
              wait
   wgmma      accumulators are NaN from the issue until wgmma_wait; shared memory and the registers of A are
              read at the wait. So waiting too late, or writing an operand too early, gives wrong numbers in
              every order of threads. An A in shared memory must be there with the rows of all four warps
   mbarrier   in greedy orders, what a thread does after its arrival comes after all other warps have run
   proxies    the tensor cores have a separate copy of shared memory, which starts as NaN. What a thread
              writes by store_operand, stmatrix or cp.async is copied there when that thread calls
              fence_proxy_async
   Errors     stop with a line of the kernel: no wgmma_fence between a wait and the next product, accumulators
              used while a product runs, lanes with different descriptors, half a warpgroup, copies or
              products not complete when a thread ends, an mbarrier that was not initialised, a named barrier
              with two numbers of threads, addresses outside shared memory
   Counted    bank conflicts of ldmatrix and stmatrix
   Not seen   the rounding of the tensor cores, the order of memory between warps beyond the order of threads,
              clusters, TMA */
#pragma once
#include "test/simt/simt.h"

extern thread_local unsigned char shared_memory[];  // dynamic shared memory of the block

namespace simt {

/* Counts of all ldmatrix and stmatrix so far: accesses to 8 rows, and accesses in addition to one for each 8
   rows. */
struct MatrixAccesses {
    long rows8, conflicts;
};
MatrixAccesses matrix_accesses();

// Offset in bytes from the start of dynamic shared memory.
uint32_t shared_address(const void*);

void cp_async(void* to, const void* from, uint32_t bytes, bool there, Site);
void cp_async_commit();
void cp_async_wait_for(int newest);

void mbarrier_init(uint64_t*, unsigned count);
void mbarrier_arrive(uint64_t*);
bool mbarrier_try_wait(uint64_t*, unsigned parity);
void mbarrier_poll(uint64_t*, unsigned parity, Site);
void cp_async_arrive(uint64_t*);
void named_barrier(unsigned id, unsigned threads, bool wait, Site);

// These bytes were written; the thread's next fence copies them to the tensor cores.
void note_operand(const void*, uint32_t bytes);
void fence_proxy_async();

void mma_16x8x16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Site);
void load_matrices(uint32_t* r, const void* row, bool transposed, Site);
void store_matrices(void* row, const uint32_t* r, bool transposed, Site);

// A product of one warpgroup. a: registers, or null if A is described by desc_a.
struct Product {
    int N;
    bool a_transposed, b_transposed, accumulate;
    float* d;
    const uint32_t* a;
    uint64_t desc_a, desc_b;
};
void wgmma_issue(const Product&, Site);
void wgmma_fence_warp(Site);
void wgmma_commit_warp(Site);
void wgmma_wait_for(int newest, Site);

}  // namespace simt

// ---- what a kernel sees: the wrappers of tensor.cuh ----

// Part of the function that calls it, so that its accesses are counted there.
#define SIMT_WRAPPER inline __attribute__((always_inline))

namespace moba {

using simt::cp_async_arrive, simt::cp_async_commit, simt::fence_proxy_async, simt::mbarrier_arrive,
    simt::mbarrier_init, simt::mbarrier_try_wait, simt::shared_address;

SIMT_WRAPPER void cp_async_16(void* to, const void* from, bool there = true, SIMT_SITE) {
    simt::cp_async(to, from, 16, there, SIMT_HERE);
}
SIMT_WRAPPER void cp_async_4(void* to, const void* from, SIMT_SITE) {
    simt::cp_async(to, from, 4, true, SIMT_HERE);
}
template <int newest>
void cp_async_wait() {
    simt::cp_async_wait_for(newest);
}
inline void mbarrier_wait(uint64_t* b, unsigned parity, SIMT_SITE) {
    simt::mbarrier_poll(b, parity, SIMT_HERE);
}
inline void mbarrier_fence_init() {}
inline void barrier_sync(unsigned id, unsigned threads, SIMT_SITE) {
    simt::named_barrier(id, threads, true, SIMT_HERE);
}
inline void barrier_arrive(unsigned id, unsigned threads, SIMT_SITE) {
    simt::named_barrier(id, threads, false, SIMT_HERE);
}
template <class T>
SIMT_WRAPPER void store_operand(T* p, const T& x) {
    *p = x;
    simt::note_operand(p, sizeof(T));
}
inline void mma_bf16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, SIMT_SITE) {
    simt::mma_16x8x16(c, a, b0, b1, SIMT_HERE);
}
template <bool transposed>
SIMT_WRAPPER void ldmatrix_x4(uint32_t (&r)[4], const void* row, SIMT_SITE) {
    simt::load_matrices(r, row, transposed, SIMT_HERE);
}
template <bool transposed>
SIMT_WRAPPER void stmatrix_x4(void* row, const uint32_t (&r)[4], SIMT_SITE) {
    simt::store_matrices(row, r, transposed, SIMT_HERE);
}
template <int N, bool a_transposed, bool b_transposed>
void wgmma(float (&d)[N / 8][4], uint64_t a, uint64_t b, bool accumulate, SIMT_SITE) {
    simt::wgmma_issue({N, a_transposed, b_transposed, accumulate, &d[0][0], nullptr, a, b}, SIMT_HERE);
}
template <int N, bool b_transposed>
void wgmma(float (&d)[N / 8][4], const uint32_t (&a)[4], uint64_t b, bool accumulate, SIMT_SITE) {
    simt::wgmma_issue({N, false, b_transposed, accumulate, &d[0][0], a, 0, b}, SIMT_HERE);
}
inline void wgmma_fence(SIMT_SITE) { simt::wgmma_fence_warp(SIMT_HERE); }
inline void wgmma_commit(SIMT_SITE) { simt::wgmma_commit_warp(SIMT_HERE); }
template <int newest, class... Registers>
void wgmma_wait(Registers&...) {
    // the caller's line cannot be a default argument after a parameter pack, so messages name this line
    simt::wgmma_wait_for(newest, {__builtin_FILE(), __builtin_LINE()});
}
template <class T, int n>
void hold(T (&)[n][4]) {}
template <int n>
void fewer_registers() {}
template <int n>
void more_registers() {}
inline float exp2_fast(float x) { return exp2f(x); }
inline float log2_fast(float x) { return log2f(x); }

}  // namespace moba

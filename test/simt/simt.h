/* Runs CUDA kernels on the CPU, thread by thread: every CUDA thread of a block is a fiber, and at every
   barrier and warp operation the fibers really wait for each other; blocks are distributed over the cores. So
   every kernel is tested, and can be stepped through in a debugger, on machines without a GPU. It says
   nothing about speed.

   Use      compile a .cu as C++ with `-include test/simt/async.h -I test/simt/cuda`, and link simt.cpp,
            async.cpp, tensor_cores.cpp and cuda_runtime.cpp (the library moba_kernels_simt)
   Finds    a missing __syncthreads (dynamic shared memory starts as NaN; the order of threads can be chosen),
            threads of one block at different barriers, a warp operation that some lanes of its mask never
            reach (with the line at which each thread waits), reads of lanes that do not take part; more than
            48 KB of dynamic shared memory that was not allowed for the kernel, or more than the device has;
            with the sanitizers also races and accesses out of bounds
   Settings environment variables:
            SIMT_ORDER = forward | reverse | random:SEED: the order in which threads run, each to its next
            barrier or warp operation; greedy-forward | greedy-reverse | greedy-random:SEED: the order in
            which warps run, each as far as it can without the others, which shows what a warp reads or
            overwrites too early
            SIMT_THREADS = number of cores to use
            SIMT_MEMORY = bytes of memory that the GPU reports
            SIMT_SHARED_MEMORY = bytes that a block may have (232448, of sm_90; sm_80: 166912; sm_86 and
            sm_89: 101376)
            SIMT_CAPABILITY = compute capability of the GPU (90; 80: no wgmma)
            SIMT_RECORD = file for the largest launch of each kernel (test/kernels/resources.sh)
   Not      static __shared__ arrays keep the values of the block that ran before on the same core: they are
            thread_local variables, and no list of them exists; streams are synchronous; no cooperative
            groups, no clusters. Tensor cores and asynchronous copies are in async.h */
#pragma once
#define SIMT_CPU 1
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

// At block scope thread_local implies static: one copy for each core, and a core works on one block at a
// time.
#define __shared__ thread_local
#define __launch_bounds__(...)

// For functions of the simulator: ThreadSanitizer must not report what they do as a race of the kernel's
// threads.
#if defined(SIMT_LAB)
#define SIMT_UNSEEN __attribute__((no_sanitize("thread"), no_sanitize_coverage))
#else
#define SIMT_UNSEEN __attribute__((no_sanitize("thread")))
#endif

namespace simt {

constexpr int warp_lanes = 32;
constexpr size_t max_shared_bytes = 227 << 10;  // of a block on sm_90
constexpr size_t free_shared_bytes = 48 << 10;  // of a block, without cudaFuncSetAttribute
enum class State : uint8_t { ready, at_barrier, at_named, at_warp_op, polling, done };
enum class WarpOp : uint8_t {
    syncwarp,
    ballot,
    shuffle_xor,
    shuffle_up,
    shuffle,
    mma,
    ldmatrix,
    ldmatrix_transposed,
    stmatrix,
    stmatrix_transposed,
    wgmma,
    wgmma_fence,
    wgmma_commit,
    wgmma_wait
};

// A line of a kernel, for messages.
struct Site {
    const char* file;
    int line;
};
struct Fiber {
    void* stack_pointer;
    void* sanitizer;  // the fiber's handle of ThreadSanitizer
    uint3 thread;
    unsigned lane, warp;
    State state;
    Site site;
};
// The state of the warp operation that the lanes of a warp wait at.
struct Warp {
    uint32_t live, waiting, meetings;
    char place[2];
    uint32_t mask[warp_lanes];
    WarpOp operation[warp_lanes];
    void* operand[warp_lanes];
};
// The block that this core works on.
struct Context {
    uint3 thread, block, block_size, grid_size;
    Fiber *current, *fibers;
    Warp* warps;
    unsigned num_threads, num_live, num_at_barrier, barriers;
    // serial: number of the block on this core; rounds: of the scheduler since the block began
    unsigned serial, rounds;
};
extern __thread Context context;
// Set by async.cpp: called before a thread ends, and after every round of the scheduler.
extern __thread void (*thread_ends)(), (*round_ends)();

/* An observer of kernels. If `watcher` is set, the simulator calls these functions, and runs kernels on one core.
   Used by lab.cpp. */
struct Watcher {
    virtual ~Watcher() = default;
    virtual void launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes) = 0;
    virtual void launch_ends() = 0;
    virtual void block_begins(unsigned index) = 0;
    virtual void block_ends() = 0;
    virtual void barrier(Site) = 0;
    virtual void warp_operation(unsigned warp, uint32_t lanes, Site) = 0;
    virtual void tensor_flop(double) = 0;
    // An instruction at `pc` accesses these bytes; of plain loads and stores the compiler tells.
    virtual void access(const void*, unsigned bytes, bool write, void* pc) = 0;
    virtual void allocated(void*, size_t bytes) = 0;
    virtual void freed(void*) = 0;
};
extern Watcher* watcher;

// Continues with the next thread of the block.
void yield();
// The same for a thread that tests a condition in every round. If all threads only do this for many rounds,
// it is a deadlock.
void poll(Site);
// In greedy orders: the thread goes on when all other warps have run.
void pause(Site);
[[noreturn]] void fail(const char* what, Site);
[[noreturn]] void fail_shuffle(int lane, int source, Site);
// A wide access needs an address that is a multiple of its size.
inline void check_aligned(const void* p, size_t bytes, Site site) {
    if ((uintptr_t)p % bytes) { fail("a wide access that is not aligned", site); }
}
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
// Stops if the kernel has not been allowed this many bytes of dynamic shared memory.
void check_shared(const void* kernel, size_t bytes);
size_t device_shared_bytes();  // that a block may have: SIMT_SHARED_MEMORY
void record(const void* kernel, dim3 block, size_t shared_bytes);
// Runs the work immediately, or adds it to the graph that is being captured.
void enqueue(std::function<void()> work);
void barrier(Site);
/* For ThreadSanitizer: what a thread does before it arrives at a place happens before what other threads do
   after they leave the place. Two places are used in turn. With only one, a thread that arrives early at the
   next meeting would seem to come before a thread that leaves the present one late. */
void arrive(char* place);
void leave(char* place);

/* A warp operation. Each lane passes its operands, which are on the stack of the lane. The last lane of
   `mask` that arrives computes the results of all lanes with f(operands, mask). */
template <class Operand, class F>
SIMT_UNSEEN void collective(uint32_t mask, Operand& mine, WarpOp operation, Site site, F f) {
    Fiber* me = context.current;
    Warp& warp = context.warps[me->warp];
    if (!(mask >> me->lane & 1)) { fail("a lane is not in the mask of its own warp operation", site); }
    warp.mask[me->lane] = mask;
    warp.operation[me->lane] = operation;
    warp.operand[me->lane] = &mine;
    warp.waiting |= 1u << me->lane;
    // shuffles and votes do not order memory
    const bool orders_memory = operation == WarpOp::syncwarp;
    char* place = &warp.place[warp.meetings & 1];
    if (orders_memory) { arrive(place); }
    const uint32_t needed = mask & warp.live;
    if ((warp.waiting & needed) != needed) {
        me->state = State::at_warp_op;
        me->site = site;
        yield();
        if (orders_memory) { leave(place); }
        return;
    }
    if (orders_memory) { leave(place); }
    for (uint32_t m = needed; m; m &= m - 1) {
        const int lane = __builtin_ctz(m);
        if (warp.mask[lane] != mask || warp.operation[lane] != operation) {
            fail("lanes of one warp wait at different warp operations", site);
        }
    }
    if (watcher) { watcher->warp_operation(me->warp, needed, site); }
    f((Operand**)warp.operand, needed);
    warp.waiting &= ~needed;
    warp.meetings++;
    for (uint32_t m = needed; m; m &= m - 1) {
        context.fibers[me->warp * warp_lanes + __builtin_ctz(m)].state = State::ready;
    }
}

// source(lane): the lane to read; -1: the lane keeps its own value.
template <class T, class Source>
SIMT_UNSEEN T shuffle(unsigned mask, T value, WarpOp operation, Site site, Source source) {
    struct Operand {
        T in, out;
        int source;
    } mine{value, value, source((int)context.current->lane)};
    collective(mask, mine, operation, site, [&](Operand** lane, uint32_t needed) SIMT_UNSEEN {
        for (uint32_t m = needed; m; m &= m - 1) {
            Operand& to = *lane[__builtin_ctz(m)];
            if (to.source < 0) { continue; }
            if (!(needed >> to.source & 1)) { fail_shuffle(__builtin_ctz(m), to.source, site); }
            to.out = lane[to.source]->in;
        }
    });
    return mine.out;
}

SIMT_UNSEEN inline uint32_t ballot(unsigned mask, bool vote, WarpOp operation, Site site) {
    struct Operand {
        bool vote;
        uint32_t out;
    } mine{vote, 0};
    collective(mask, mine, operation, site, [](Operand** lane, uint32_t needed) SIMT_UNSEEN {
        uint32_t votes = 0;
        for (uint32_t m = needed; m; m &= m - 1) {
            const int l = __builtin_ctz(m);
            if (lane[l]->vote) { votes |= 1u << l; }
        }
        for (uint32_t m = needed; m; m &= m - 1) { lane[__builtin_ctz(m)]->out = votes; }
    });
    return mine.out;
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
            A&&... arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) { return; }
    std::tuple<std::decay_t<P>...> values(static_cast<P>(arguments)...);
    check_shared((const void*)kernel, shared_bytes);
    record((const void*)kernel, block, shared_bytes);
    enqueue([=] {
        if (watcher) { watcher->launch((const void*)kernel, grid, block, shared_bytes); }
        run(grid, block, shared_bytes, [&] { std::apply(kernel, values); });
        if (watcher) { watcher->launch_ends(); }
    });
}

}  // namespace simt

// ---- what a kernel sees ----
#define threadIdx (simt::context.thread)
#define blockIdx (simt::context.block)
#define blockDim (simt::context.block_size)
#define gridDim (simt::context.grid_size)

#define SIMT_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define SIMT_HERE                                                                                            \
    simt::Site { file, line }

inline void __syncthreads(SIMT_SITE) { simt::barrier(SIMT_HERE); }
inline void __syncwarp(unsigned mask = ~0u, SIMT_SITE) {
    simt::ballot(mask, true, simt::WarpOp::syncwarp, SIMT_HERE);
}
inline unsigned __ballot_sync(unsigned mask, int vote, SIMT_SITE) {
    return simt::ballot(mask, vote, simt::WarpOp::ballot, SIMT_HERE);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SIMT_SITE) {
    return simt::shuffle(mask, value, simt::WarpOp::shuffle_xor, SIMT_HERE, [=](int lane) {
        const int source = lane ^ bits;
        return (source & ~(width - 1)) <= (lane & ~(width - 1)) ? source : -1;
    });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32, SIMT_SITE) {
    return simt::shuffle(mask, value, simt::WarpOp::shuffle_up, SIMT_HERE,
                         [=](int lane) { return lane % width < (int)lanes ? -1 : lane - (int)lanes; });
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_SITE) {
    return simt::shuffle(mask, value, simt::WarpOp::shuffle, SIMT_HERE,
                         [=](int lane) { return (lane & ~(width - 1)) + (source & (width - 1)); });
}
using std::isfinite;
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }
[[noreturn]] inline void __trap() { std::abort(); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}

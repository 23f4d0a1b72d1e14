/* Runs CUDA kernels on the CPU, thread by thread: every CUDA thread of a block is a fiber, every barrier and warp operation a
   real meeting of fibers, blocks are spread over the cores. So every kernel is tested, and can be stepped through in a debugger,
   on machines without a GPU. It says nothing about speed.

   Use      compile a .cu as C++ with `-include test/simt/simt.h -I test/simt/cuda` and link simt.cpp
   Finds    a missing __syncthreads (dynamic shared memory starts as NaN; threads run in an order of choice), threads of one block
            at different barriers, a warp operation that some lanes of its mask never reach (with the line each thread waits at),
            reads of lanes that do not take part; more than 48 KB of dynamic shared memory that the kernel was not allowed, or more
            than the device has; with the sanitizers also races and accesses out of bounds
   Settings in the environment: SIMT_ORDER = forward | reverse | random:SEED, the order in which threads run, each to its next
            barrier or warp operation; greedy-forward | greedy-reverse | greedy-random:SEED, the order in which warps run, each as far
            as it can without the others: what a warp reads too early or overwrites too early shows;
            SIMT_THREADS = cores to use; SIMT_MEMORY = bytes that the GPU says it has;
            SIMT_SHARED_MEMORY = bytes that a block may have (232448, of sm_90; sm_80: 166912; sm_86 and sm_89: 101376);
            SIMT_RECORD = a file for the largest launch of each kernel (test/kernels/resources.sh)
   Not      static __shared__ arrays keep what the block before left on this core: they are thread_local variables, and nothing
            lists them; streams are synchronous; no cooperative groups, no asynchronous copies, no clusters */
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

// At block scope thread_local implies static: one copy for each core, and a core works on one block at a time.
#define __shared__ thread_local
#define __launch_bounds__(...)

// What the simulator does between threads is no race of theirs.
#define SIMT_UNSEEN __attribute__((no_sanitize("thread")))

namespace simt {

constexpr int warp_lanes = 32;
constexpr size_t max_shared_bytes = 227 << 10;  // of a block on sm_90
enum class State : uint8_t { ready, at_barrier, at_named, at_warp_op, polling, done };

struct Site {  // a line of a kernel, for messages
    const char* file;
    int line;
};
struct Fiber {
    void* stack_pointer;
    void* sanitizer;  // what ThreadSanitizer knows it by
    uint3 thread;
    unsigned lane, warp;
    State state;
    Site site;
};
struct Warp {  // where the lanes of a warp meet
    uint32_t live, waiting, meetings;
    char place[2];
    uint32_t mask[warp_lanes];
    const void* kind[warp_lanes];
    void* operand[warp_lanes];
};
struct Context {  // of the block that this core works on
    uint3 thread, block, block_size, grid_size;
    Fiber *current, *fibers;
    Warp* warps;
    unsigned num_threads, num_live, num_at_barrier, barriers;
    unsigned serial, rounds;  // of the block on this core; of the scheduler in the block
};
extern __thread Context context;
// What async.cpp does before a thread ends, and after every round of the scheduler
extern __thread void (*thread_ends)(), (*round_ends)();

void yield();  // to the next thread of the block
void poll(
    Site);  // the same, of a thread that looks again in the next round: all of them in vain are a deadlock
[[noreturn]] void fail(const char* what, Site);
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body);
void check_shared(const void* kernel, size_t bytes);  // that this launch may have so much
void record(const void* kernel, dim3 block, size_t shared_bytes);
void enqueue(std::function<void()> work);  // runs at once, or later where a graph is being made
void barrier(Site);
/* For ThreadSanitizer: what a thread did before it came to a place happens before what others do after they left it. Two places
   take turns, or who comes early to the next meeting would seem ordered before who leaves this one late. */
void come(char* place);
void leave(char* place);

template <int N>
struct Kind {
    static constexpr char id = 0;
};

/* A warp operation. Each lane brings its operands, on its own stack; the last lane of `mask` to come computes for all with
   f(operands, mask). `kind` tells operations apart. */
template <class Operand, class F>
SIMT_UNSEEN void collective(uint32_t mask, Operand& mine, const void* kind, Site site, F f) {
    Fiber* me = context.current;
    Warp& warp = context.warps[me->warp];
    if (!(mask >> me->lane & 1)) { fail("a lane is not in the mask of its own warp operation", site); }
    warp.mask[me->lane] = mask;
    warp.kind[me->lane] = kind;
    warp.operand[me->lane] = &mine;
    warp.waiting |= 1u << me->lane;
    const bool orders_memory = kind == &Kind<1>::id;  // __syncwarp does; shuffles and votes do not
    char* place = &warp.place[warp.meetings & 1];
    if (orders_memory) { come(place); }
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
        if (warp.mask[lane] != mask || warp.kind[lane] != kind) {
            fail("lanes of one warp wait at different warp operations", site);
        }
    }
    f((Operand**)warp.operand, needed);
    warp.waiting &= ~needed;
    warp.meetings++;
    for (uint32_t m = needed; m; m &= m - 1) {
        context.fibers[me->warp * warp_lanes + __builtin_ctz(m)].state = State::ready;
    }
}

// source(lane): the lane to read, -1 for none.
template <class T, class Source>
SIMT_UNSEEN T shuffle(unsigned mask, T value, const void* kind, Site site, Source source) {
    struct Operand {
        T in, out;
        int source;
    } mine{value, value, source((int)context.current->lane)};
    collective(mask, mine, kind, site, [&](Operand** lane, uint32_t needed) SIMT_UNSEEN {
        for (uint32_t m = needed; m; m &= m - 1) {
            Operand& to = *lane[__builtin_ctz(m)];
            if (to.source < 0) { continue; }
            if (!(needed >> to.source & 1)) { fail("a shuffle reads a lane that does not take part", site); }
            to.out = lane[to.source]->in;
        }
    });
    return mine.out;
}

SIMT_UNSEEN inline uint32_t ballot(unsigned mask, bool vote, const void* kind, Site site) {
    struct Operand {
        bool vote;
        uint32_t out;
    } mine{vote, 0};
    collective(mask, mine, kind, site, [](Operand** lane, uint32_t needed) SIMT_UNSEEN {
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
    std::tuple<std::decay_t<P>...> values(static_cast<P>(arguments)...);
    check_shared((const void*)kernel, shared_bytes);
    record((const void*)kernel, block, shared_bytes);
    enqueue([=] { run(grid, block, shared_bytes, [&] { std::apply(kernel, values); }); });
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
    simt::ballot(mask, true, &simt::Kind<1>::id, SIMT_HERE);
}
inline unsigned __ballot_sync(unsigned mask, int vote, SIMT_SITE) {
    return simt::ballot(mask, vote, &simt::Kind<2>::id, SIMT_HERE);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SIMT_SITE) {
    return simt::shuffle(mask, value, &simt::Kind<3>::id, SIMT_HERE, [=](int lane) {
        const int source = lane ^ bits;
        return (source & ~(width - 1)) <= (lane & ~(width - 1)) ? source : -1;
    });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32, SIMT_SITE) {
    return simt::shuffle(mask, value, &simt::Kind<4>::id, SIMT_HERE,
                         [=](int lane) { return lane % width < (int)lanes ? -1 : lane - (int)lanes; });
}
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_SITE) {
    return simt::shuffle(mask, value, &simt::Kind<5>::id, SIMT_HERE,
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

/* The state of asynchronous copies, barriers and tensor cores for the block that runs on this core. Private
   to async.cpp (copies, barriers) and tensor_cores.cpp (products, matrices). */
#pragma once
#include "test/simt/async.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include <deque>
#include <map>
#include <vector>
#if defined(SIMT_TSAN)
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif

namespace simt {

/* For ThreadSanitizer. It does not instrument this file, but it checks malloc, free, memset and memcpy
   wherever they are called. Unseen: ignores them, because the simulator's data is not a race of the kernel's
   threads. Seen: inside Unseen, checks again; for copies, which access the kernel's memory. */
#if defined(SIMT_TSAN)
struct Unseen {
    Unseen() { __tsan_ignore_thread_begin(); }
    ~Unseen() { __tsan_ignore_thread_end(); }
};
struct Seen {
    Seen() { __tsan_ignore_thread_end(); }
    ~Seen() { __tsan_ignore_thread_begin(); }
};
#else
struct Unseen {
    Unseen() {}
};
struct Seen {
    Seen() {}
};
#endif

struct Copy {
    unsigned char* to;
    const void* from;
    uint32_t bytes;
    bool there;
};
// Words of shared memory.
struct Words {
    uint32_t first, count;
};
struct ThreadAsync {
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
    std::vector<Words> written;  // since the thread's last fence
};
struct WarpProduct {
    Product shared;                 // what all lanes have in common
    const uint32_t* a[warp_lanes];  // registers of A, (4) of each lane; null if A is in shared memory
};
// The accumulators of a warp while products run.
struct Accumulators {
    int N, products = 0;
    std::vector<float> value;  // (16, N): the rows of this warp
    float* d[warp_lanes];      // registers, (N / 2) of each lane
};
struct WarpAsync {
    std::vector<WarpProduct> open;
    std::deque<std::vector<WarpProduct>> groups;
    std::map<float*, Accumulators> running;  // by the registers of lane 0
    bool fenced = false;
};
struct NamedBarrier {
    unsigned arrived = 0, threads = 0;
    std::vector<Fiber*> waiting;
};
// An arrival at an mbarrier, due when copies are complete.
struct Arrival {
    unsigned thread, round;
    std::vector<Copy> copies;
    uint64_t* barrier;
};
// The state of the block on this core.
struct Async {
    unsigned serial = 0;
    std::vector<ThreadAsync> threads;
    std::vector<WarpAsync> warps;
    NamedBarrier named[16];
    std::vector<Arrival> arrivals;
    std::vector<unsigned char> view;  // shared memory as the tensor cores see it
    std::vector<uint16_t> owner;      // the last thread that wrote each word
    char place[2];                    // for arrive() and leave()
};

/* The state, made new at the first use in a block. */
Async& async();
inline unsigned thread_index() { return (unsigned)(context.current - context.fibers); }
inline ThreadAsync& my_thread() { return async().threads[thread_index()]; }
inline WarpAsync& my_warp() { return async().warps[context.current->warp]; }

[[noreturn]] inline void fail_here(const char* what) { fail(what, context.current->site); }
// Of these bytes, from the start of dynamic shared memory.
uint32_t offset_of(const void*, size_t bytes);
// The thread wrote these bytes. The tensor cores do not see them before its next fence.
void note_write(unsigned thread, const void*, uint32_t bytes);

}  // namespace simt

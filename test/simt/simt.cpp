/* The scheduler of the simulator: fibers, blocks, barriers. The CUDA runtime is in cuda_runtime.cpp. */
#include "test/simt/simt.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include <condition_variable>
#include <link.h>
#include <map>
#include <mutex>
#include <numeric>
#include <pthread.h>
#include <random>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>
#if defined(SIMT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

// What kernels declare as `extern __shared__`.
alignas(1024) thread_local unsigned char shared_memory[simt::max_shared_bytes];

namespace simt {

__thread Context context;
Watcher* watcher;
__thread void (*thread_ends)(), (*round_ends)();

namespace {

static constexpr size_t stack_bytes = 128 << 10;
const size_t page_bytes = sysconf(_SC_PAGESIZE);  // 4 KB; 16 or 64 KB on some Arm systems

struct Settings {
    unsigned cores = std::max(1u, std::thread::hardware_concurrency());
    enum { forward, reverse, random } order = forward;
    bool greedy = false;
    unsigned seed = 1;
    size_t shared_bytes = max_shared_bytes;

    Settings() {
        if (const char* text = std::getenv("SIMT_THREADS")) { cores = std::max(1, std::atoi(text)); }
        if (const char* text = std::getenv("SIMT_SHARED_MEMORY")) {
            shared_bytes = std::strtoull(text, nullptr, 10);
            if (shared_bytes < free_shared_bytes || shared_bytes > max_shared_bytes) {
                std::fprintf(stderr, "SIMT_SHARED_MEMORY = '%s': must be %zu to %zu bytes\n", text,
                             free_shared_bytes, max_shared_bytes);
                std::exit(1);
            }
        }
        std::string text = std::getenv("SIMT_ORDER") ? std::getenv("SIMT_ORDER") : "forward";
        if (text.rfind("greedy-", 0) == 0) {
            greedy = true;
            text = text.substr(7);
        }
        if (text == "reverse") {
            order = reverse;
        } else if (text.rfind("random:", 0) == 0) {
            order = random;
            seed = (unsigned)std::atoi(text.c_str() + 7);
        } else if (text != "forward") {
            std::fprintf(
                stderr,
                "SIMT_ORDER = '%s': must be forward, reverse or random:SEED, or greedy- before one of them\n",
                text.c_str());
            std::exit(1);
        }
    }
};
const Settings& settings() {
    static const Settings s;
    return s;
}

// ---- switching stacks ----

// Saves the registers that a call must preserve on the old stack, and restores those of the new stack.

extern "C" void simt_switch(void** save, void* to);
#if defined(__x86_64__)
asm(R"(
.text
.globl simt_switch
.type simt_switch,@function
simt_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp,(%rdi)
    movq %rsi,%rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size simt_switch,.-simt_switch
)");
static constexpr int saved_registers = 6;
#elif defined(__aarch64__)
asm(R"(
.text
.globl simt_switch
.type simt_switch,%function
simt_switch:
    sub sp, sp, #176
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #176
    ret
.size simt_switch,.-simt_switch
)");
#else
#error "simt: no stack switch for this processor"
#endif

__thread void* scheduler_stack;
#if defined(SIMT_TSAN)
__thread void* scheduler_sanitizer;
#endif
thread_local const std::function<void()>* kernel_body;

thread_local char block_begin, barrier_place[2], block_end;  // only their addresses are used

void thread_main() {
    leave(&block_begin);
    (*kernel_body)();
    if (thread_ends) { thread_ends(); }
    arrive(&block_end);
    Fiber* me = context.current;
    me->state = State::done;
    context.num_live--;
    context.warps[me->warp].live &= ~(1u << me->lane);
    yield();
    __builtin_trap();
}

// Prepares a stack that starts thread_main(). The stacks are shifted against each other, because otherwise
// all of them would use the same cache lines.
void* fresh_stack(char* low, unsigned i) {
    void** top = (void**)(low + stack_bytes - 64 - (i & 63) * 64);
#if defined(__x86_64__)
    *--top = nullptr;  // thread_main never returns
    *--top = (void*)&thread_main;
    for (int r = 0; r < saved_registers; r++) { *--top = nullptr; }
#else
    top -= 22;
    std::fill_n(top, 22, nullptr);
    top[11] = (void*)&thread_main;  // x30
#endif
    return top;
}

// The fibers of one core, reused for every block.
struct Fibers {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    std::vector<char*> stacks;
    std::vector<unsigned> order;

    void reserve(unsigned n) {
        while (stacks.size() < n) {
            char* p = (char*)mmap(nullptr, stack_bytes + page_bytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) { fail("no memory for the stack of a CUDA thread", {}); }
            mprotect(p, page_bytes, PROT_NONE);  // a stack overflow is a segmentation fault
            stacks.push_back(p + page_bytes);
            fibers.emplace_back();
#if defined(SIMT_TSAN)
            fibers.back().sanitizer = __tsan_create_fiber(0);
#endif
        }
        warps.resize((stacks.size() + warp_lanes - 1) / warp_lanes);
    }
    ~Fibers() {
        for (char* s : stacks) { munmap(s - page_bytes, stack_bytes + page_bytes); }
#if defined(SIMT_TSAN)
        for (Fiber& f : fibers) { __tsan_destroy_fiber(f.sanitizer); }
#endif
    }
};
thread_local Fibers pool;

void to_fiber(Fiber& f) {
#if defined(SIMT_TSAN)
    __tsan_switch_to_fiber(f.sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
    simt_switch(&scheduler_stack, f.stack_pointer);
}

[[noreturn]] void report_deadlock() {
    std::fprintf(stderr, "simt: deadlock in block (%u,%u,%u)\n", context.block.x, context.block.y,
                 context.block.z);
    for (unsigned i = 0; i < context.num_threads; i++) {
        const Fiber& f = context.fibers[i];
        const char* where = f.state == State::at_barrier   ? "__syncthreads"
                            : f.state == State::at_named   ? "named barrier"
                            : f.state == State::at_warp_op ? "warp operation"
                            : f.state == State::polling    ? "mbarrier"
                                                           : nullptr;
        if (where) {
            std::fprintf(stderr, "  thread (%u,%u,%u) waits at a %s, %s:%d\n", f.thread.x, f.thread.y,
                         f.thread.z, where, f.site.file, f.site.line);
        }
    }
    std::abort();
}

// All live threads have arrived at the barrier and continue. Threads that have returned count as arrived, as
// on a GPU.
void open_barrier() {
    Site first{};
    for (unsigned i = 0; i < context.num_threads; i++) {
        Fiber& f = context.fibers[i];
        if (f.state != State::at_barrier) { continue; }
        if (!first.file) { first = f.site; }
        if (first.line != f.site.line || std::strcmp(first.file, f.site.file) != 0) {
            fail("threads of one block wait at different __syncthreads", f.site);
        }
        f.state = State::ready;
    }
    context.num_at_barrier = 0;
    context.barriers++;
    if (watcher) { watcher->barrier(first); }
}

/* The order in which the threads of block `index` run. Greedy orders keep the threads of a warp together. */
void order_threads(unsigned index) {
    const Settings& set = settings();
    std::vector<unsigned>& order = pool.order;
    order.resize(context.num_threads);
    std::iota(order.begin(), order.end(), 0u);
    if (set.order == Settings::reverse) { std::reverse(order.begin(), order.end()); }
    if (set.order != Settings::random) { return; }
    std::shuffle(order.begin(), order.end(), std::mt19937(set.seed * 7919 + index));
    if (!set.greedy) { return; }
    std::vector<unsigned> rank((context.num_threads + warp_lanes - 1) / warp_lanes);
    std::iota(rank.begin(), rank.end(), 0u);
    std::shuffle(rank.begin(), rank.end(), std::mt19937(set.seed * 7919 + index));
    std::stable_sort(order.begin(), order.end(),
                     [&](unsigned a, unsigned b) { return rank[a / warp_lanes] < rank[b / warp_lanes]; });
}

struct Launch {
    dim3 grid, block;
    size_t shared_bytes;
    const std::function<void()>* body;
    unsigned blocks, begun = 0, ended = 0;
};

constexpr unsigned max_idle_rounds = 1000;  // far more than the few rounds in which copies arrive

void run_block(unsigned index, const Launch& launch) {
    const auto [grid, block] = std::pair(launch.grid, launch.block);
    const unsigned n = block.x * block.y * block.z;
    kernel_body = launch.body;
    pool.reserve(n);
    context.fibers = pool.fibers.data();
    context.warps = pool.warps.data();
    context.num_threads = context.num_live = n;
    context.num_at_barrier = context.barriers = context.rounds = 0;
    context.serial++;
    context.grid_size = {grid.x, grid.y, grid.z};
    context.block_size = {block.x, block.y, block.z};
    context.block = {index % grid.x, index / grid.x % grid.y, index / grid.x / grid.y};
    std::memset(shared_memory, 0xFF,
                std::min(max_shared_bytes, (launch.shared_bytes + 255) / 256 * 256));  // NaN
    for (unsigned w = 0; w * warp_lanes < n; w++) {
        const unsigned lanes = std::min<unsigned>(warp_lanes, n - w * warp_lanes);
        context.warps[w].live = lanes == 32 ? ~0u : (1u << lanes) - 1;
        context.warps[w].waiting = 0;
    }
    for (unsigned i = 0; i < n; i++) {
        Fiber& f = context.fibers[i];
        f.thread = {i % block.x, i / block.x % block.y, i / block.x / block.y};
        f.lane = i % warp_lanes;
        f.warp = i / warp_lanes;
        f.state = State::ready;
        f.stack_pointer = fresh_stack(pool.stacks[i], i);
    }
    if (watcher) { watcher->block_begins(index); }
    arrive(&block_begin);
    order_threads(index);
    unsigned idle_rounds = 0;  // rounds in which threads only polled
    while (context.num_live) {
        bool any = false, polled = false;
        for (unsigned begin = 0, end; begin < n; begin = end) {
            // greedy: runs the threads of one warp until all of them wait for other warps; else every thread
            // once
            const unsigned warp = context.fibers[pool.order[begin]].warp;
            end = begin + 1;
            while (end < n && (!settings().greedy || context.fibers[pool.order[end]].warp == warp)) { end++; }
            bool ran, first = true;
            do {
                ran = false;
                for (unsigned i = begin; i < end; i++) {
                    Fiber& f = context.fibers[pool.order[i]];
                    if (f.state != State::ready && (f.state != State::polling || !first)) { continue; }
                    f.state = State::ready;
                    context.current = &f;
                    context.thread = f.thread;
                    to_fiber(f);
                    (f.state == State::polling ? polled : ran) = true;
                }
                any |= ran;
                first = false;
            } while (ran && settings().greedy);
        }
        context.rounds++;
        if (round_ends) { round_ends(); }
        idle_rounds = any ? 0 : idle_rounds + 1;
        if (polled && idle_rounds < max_idle_rounds) { continue; }
        if (context.num_at_barrier && context.num_at_barrier == context.num_live) {
            open_barrier();
        } else if (!any) {
            report_deadlock();
        }
    }
    leave(&block_end);
    if (watcher) { watcher->block_ends(); }
}

/* The threads that run blocks. They and their fibers stay for the next launch: making them anew took a third
   of the time of all kernel tests. */
class Cores {
  public:
    Cores() {
        // A child of fork() has no threads but the caller's.
        static Cores* self = this;
        pthread_atfork([] { self->mutex.lock(); }, [] { self->mutex.unlock(); },
                       [] {
                           self->others = self->most = 0;
                           self->mutex.unlock();
                       });
    }
    void run(Launch launch) {
        const std::lock_guard one_launch(launches);
        std::unique_lock lock(mutex);
        current = &launch;
        for (; others < std::min(most, launch.blocks - 1); others++) {
            std::thread([this] { wait_for_launches(); }).detach();
        }
        if (others && launch.blocks > 1) { started.notify_all(); }
        run_blocks(lock);
        ended.wait(lock, [&] { return launch.ended == launch.blocks; });
    }

  private:
    void wait_for_launches() {
        for (std::unique_lock lock(mutex);;) {
            started.wait(lock, [&] { return current != nullptr; });
            run_blocks(lock);
        }
    }
    // Until no block is left to begin.
    void run_blocks(std::unique_lock<std::mutex>& lock) {
#if defined(SIMT_TSAN)
        scheduler_sanitizer = __tsan_get_current_fiber();
#endif
        while (current) {
            Launch& launch = *current;
            const unsigned index = launch.begun++;
            if (launch.begun == launch.blocks) { current = nullptr; }
            lock.unlock();
            run_block(index, launch);
            lock.lock();
            if (++launch.ended == launch.blocks) { ended.notify_all(); }
        }
    }

    std::mutex launches, mutex;
    std::condition_variable started, ended;
    Launch* current = nullptr;  // while it has blocks to begin
    unsigned others = 0, most = watcher ? 0 : settings().cores - 1;
};

}  // namespace

void yield() {
    Fiber& me = *context.current;
#if defined(SIMT_TSAN)
    __tsan_switch_to_fiber(scheduler_sanitizer, __tsan_switch_to_fiber_no_sync);
#endif
    simt_switch(&me.stack_pointer, scheduler_stack);
}

void poll(Site site) {
    context.current->state = State::polling;
    context.current->site = site;
    yield();
}

void pause(Site site) {
    if (settings().greedy) { poll(site); }
}

void fail(const char* what, Site s) {
    std::fprintf(stderr, "simt: %s at %s:%d, block (%u,%u,%u) thread (%u,%u,%u)\n", what,
                 s.file ? s.file : "?", s.line, context.block.x, context.block.y, context.block.z,
                 context.thread.x, context.thread.y, context.thread.z);
    std::abort();
}

void fail_shuffle(int lane, int source, Site site) {
    char text[128];
    std::snprintf(text, sizeof text,
                  "a shuffle: lane %d reads lane %d, which has ended or is not in the mask", lane, source);
    fail(text, site);
}

#if defined(SIMT_TSAN)
void arrive(char* place) { __tsan_release(place); }
void leave(char* place) { __tsan_acquire(place); }
#else
void arrive(char*) {}
void leave(char*) {}
#endif

void barrier(Site site) {
    Fiber* me = context.current;
    me->state = State::at_barrier;
    me->site = site;
    context.num_at_barrier++;
    char* place = &barrier_place[context.barriers & 1];
    arrive(place);
    yield();
    leave(place);
}

void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& body) {
    const size_t blocks = (size_t)grid.x * grid.y * grid.z, threads = (size_t)block.x * block.y * block.z;
    if (!blocks || blocks > 0xFFFFFFFF || !threads || threads > 1024 || block.z > 64 || grid.x > 0x7FFFFFFF ||
        grid.y > 65535 || grid.z > 65535 || shared_bytes > settings().shared_bytes) {
        std::fprintf(stderr,
                     "simt: no such launch: grid (%u,%u,%u), block (%u,%u,%u), %zu bytes of shared memory\n",
                     grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);
        std::abort();
    }
    // never destroyed, because its threads may still wait when the program ends
    static Cores& cores = *new Cores;
    cores.run({grid, block, shared_bytes, &body, (unsigned)blocks});
}

size_t device_shared_bytes() { return settings().shared_bytes; }

// Writes SIMT_RECORD. Addresses are relative to the program's file, so that nm gives their names; the largest
// launch is the one with most shared memory, and of these the one with most threads.
void record(const void* kernel, dim3 block, size_t shared_bytes) {
    struct Launches {
        const char* path = std::getenv("SIMT_RECORD");
        std::map<const void*, std::pair<size_t, unsigned>> largest;
        ~Launches() {
            FILE* f = path ? std::fopen(path, "w") : nullptr;
            if (!f) { return; }
            uintptr_t base = 0;
            dl_iterate_phdr([](dl_phdr_info* program, size_t,
                               void* to) { return *(uintptr_t*)to = program->dlpi_addr, 1; },
                            &base);
            for (const auto& [kernel, launch] : largest) {
                std::fprintf(f, "%016zx %zu %u\n", (uintptr_t)kernel - base, launch.first, launch.second);
            }
            std::fclose(f);
        }
    };
    static Launches launches;
    if (!launches.path) { return; }
    auto& largest = launches.largest[kernel];
    largest = std::max(largest, {shared_bytes, block.x * block.y * block.z});
}

}  // namespace simt

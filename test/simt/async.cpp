/* Asynchronous copies, barriers and tensor cores of the simulator: described in async.h. */
#include "test/simt/async.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include <atomic>
#include <deque>
#include <map>
#include <vector>
#if defined(SIMT_TSAN)
extern "C" void __tsan_ignore_thread_begin();
extern "C" void __tsan_ignore_thread_end();
#endif

namespace simt {
namespace {

constexpr uint32_t poison = 0xFFBADBAD;  // a NaN that no product has as its result

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

std::atomic<long> matrix_rows8{0}, matrix_conflicts{0};

struct Copy {
    unsigned char* to;
    const void* from;
    uint32_t bytes;
    bool there;
};
struct ThreadAsync {
    std::vector<Copy> open;
    std::deque<std::vector<Copy>> groups;
    std::vector<uint32_t> written;  // words of shared memory written since the thread's last fence
};
struct WarpProduct {
    Product lane[warp_lanes];
};
// The accumulators of a warp while products run.
struct Accumulators {
    int N, products = 0;
    std::vector<float> value;  // (lane, N / 2)
    float* d[warp_lanes];
};
struct WarpAsync {
    std::vector<WarpProduct> open;
    std::deque<std::vector<WarpProduct>> groups;
    std::map<float*, Accumulators> running;
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
thread_local Async state;

[[noreturn]] void fail_here(const char* what) { fail(what, context.current->site); }
bool used() { return state.serial == context.serial; }
unsigned thread_index() { return (unsigned)(context.current - context.fibers); }

void check_thread_end();
void land_arrivals();

Async& async() {
    if (used()) { return state; }
    Unseen unseen;
    state.serial = context.serial;
    state.threads.assign(context.num_threads, {});
    state.warps.assign((context.num_threads + warp_lanes - 1) / warp_lanes, {});
    for (NamedBarrier& b : state.named) { b = {}; }
    state.arrivals.clear();
    state.view.assign(max_shared_bytes, 0xFF);
    state.owner.assign(max_shared_bytes / 4, 0xFFFF);
    thread_ends = check_thread_end;
    round_ends = land_arrivals;
    return state;
}
ThreadAsync& my_thread() { return async().threads[thread_index()]; }
WarpAsync& my_warp() { return async().warps[context.current->warp]; }

uint32_t offset_of(const void* p, size_t bytes) {
    const ptrdiff_t o = (const unsigned char*)p - shared_memory;
    if (o < 0 || o + bytes > max_shared_bytes) { fail_here("an address outside dynamic shared memory"); }
    return (uint32_t)o;
}

void hide(uint32_t offset, uint32_t bytes) { std::memset(async().view.data() + offset, 0xFF, bytes); }
void note_write(unsigned thread, const void* p, uint32_t bytes) {
    const uint32_t o = offset_of(p, bytes);
    Async& a = async();
    hide(o, bytes);
    for (uint32_t w = o / 4; w < (o + bytes) / 4; w++) {
        a.owner[w] = (uint16_t)thread;
        a.threads[thread].written.push_back(w);
    }
}

void land(unsigned thread, const std::vector<Copy>& copies) {
    for (const Copy& c : copies) {
        if (Seen seen; c.there) {
            std::memcpy(c.to, c.from, c.bytes);
        } else {
            std::memset(c.to, 0, c.bytes);
        }
        note_write(thread, c.to, c.bytes);
    }
}

void check_thread_end() {
    Unseen unseen;
    if (!used()) { return; }
    const ThreadAsync& t = my_thread();
    bool copies = !t.open.empty();
    for (const auto& g : t.groups) { copies |= !g.empty(); }
    if (copies) { fail_here("a thread ends with cp.async in flight"); }
    const WarpAsync& w = my_warp();
    if (!w.open.empty() || !w.groups.empty()) { fail_here("a thread ends with wgmma in flight"); }
}
void land_arrivals() {
    Unseen unseen;
    if (!used()) { return; }
    for (size_t i = 0; i < state.arrivals.size();) {
        if (state.arrivals[i].round > context.rounds) {
            i++;
            continue;
        }
        const Arrival x = std::move(state.arrivals[i]);
        state.arrivals.erase(state.arrivals.begin() + i);
        leave((char*)x.barrier);
        land(x.thread, x.copies);
        mbarrier_arrive(x.barrier);
    }
}

struct MBarrier {  // 64 bits in shared memory
    uint16_t expected, pending, phase, mark;
};
constexpr uint16_t initialised = 0xBA55;
MBarrier& mbarrier_at(uint64_t* p) {
    offset_of(p, 8);
    MBarrier& b = *(MBarrier*)p;
    if (b.mark != initialised) { fail_here("an mbarrier that was not initialised"); }
    return b;
}

float half_of(uint32_t pair, int i) {
    const uint32_t bits = i ? pair & 0xFFFF0000u : pair << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

/* Eight rows of 16 bytes are accessed together. Rows in the same group of four banks have to wait for each
   other. */
void count_conflicts(const uint32_t* offset) {
    int rows[8] = {}, accesses = 0;
    for (int r = 0; r < 8; r++) {
        bool again = false;
        for (int s = 0; s < r; s++) { again |= offset[s] == offset[r]; }
        if (!again) { accesses = std::max(accesses, ++rows[offset[r] / 16 % 8]); }
    }
    matrix_conflicts += accesses - 1;
    matrix_rows8++;
}

/* Element (mn, k) of the operand that a descriptor names. Its rows of 128, 64 or 32 bytes are in groups of 8.
   The 16-byte pieces of a row are permuted by the number of the row: bits 7 and up of the address are xored
   into bits 4 and up. */
float operand_at(uint64_t desc, bool transposed, int mn, int k) {
    const uint32_t base = (uint32_t)(desc & 0x3FFF) << 4, leading = (uint32_t)(desc >> 16 & 0x3FFF) << 4,
                   stride = (uint32_t)(desc >> 32 & 0x3FFF) << 4;
    const int mode = (int)(desc >> 62);
    if (mode == 0) { fail_here("wgmma: a descriptor without swizzle is not simulated"); }
    if (desc >> 49 & 7) { fail_here("wgmma: a base offset is not simulated"); }
    const uint32_t pitch = 256u >> mode, wide = pitch / 2;  // bytes and elements of a row
    uint32_t at = transposed ? base + mn / wide * leading + mn % wide * 2 + k / 8 * stride + k % 8 * pitch
                             : base + mn / 8 * stride + mn % 8 * pitch + k * 2;
    at ^= (at >> 7 & (pitch / 16 - 1)) << 4;
    if (at + 2 > max_shared_bytes) { fail_here("wgmma: a descriptor that reads outside shared memory"); }
    uint16_t half;
    std::memcpy(&half, async().view.data() + at, 2);
    return half_of(half, 0);
}

// Computes the 16 rows of a product that belong to one warp. Called at the wait.
void run_product(WarpAsync& w, const WarpProduct& product, unsigned warp) {
    const Product& p = product.lane[0];
    const int N = p.N, row0 = (int)(warp % 4) * 16;
    std::vector<float> A(16 * 16), B((size_t)16 * N), C((size_t)16 * N);
    Accumulators& acc = w.running.at(p.d);
    // row and column of register i of lane l
    const auto row = [](int l, int i) { return l / 4 + i / 2 % 2 * 8; };
    const auto column = [](int l, int i) { return l % 4 * 2 + i % 2 + i / 4 * 8; };
    for (int l = 0; l < 32; l++) {
        for (int i = 0; i < 8 && p.a; i++) {
            A[row(l, i) * 16 + column(l, i)] = half_of(product.lane[l].a[i / 2], i % 2);
        }
        for (int i = 0; i < N / 2; i++) {
            C[row(l, i) * N + column(l, i)] = p.accumulate ? acc.value[(size_t)l * N / 2 + i] : 0.f;
        }
    }
    for (int k = 0; k < 16; k++) {
        for (int r = 0; r < 16 && !p.a; r++) {
            A[r * 16 + k] = operand_at(p.desc_a, p.a_transposed, row0 + r, k);
        }
        for (int n = 0; n < N; n++) { B[(size_t)k * N + n] = operand_at(p.desc_b, p.b_transposed, n, k); }
    }
    for (int r = 0; r < 16; r++) {
        for (int k = 0; k < 16; k++) {
            for (int n = 0; n < N; n++) { C[r * N + n] += A[r * 16 + k] * B[(size_t)k * N + n]; }
        }
    }
    for (int l = 0; l < 32; l++) {
        for (int i = 0; i < N / 2; i++) {
            acc.value[(size_t)l * N / 2 + i] = C[row(l, i) * N + column(l, i)];
        }
    }
    if (--acc.products > 0) { return; }
    for (int l = 0; l < 32; l++) {
        for (int i = 0; i < N / 2; i++) {
            uint32_t bits;
            std::memcpy(&bits, acc.d[l] + i, 4);
            if (bits != poison) { fail_here("wgmma: accumulators were written while a product ran"); }
            acc.d[l][i] = acc.value[(size_t)l * N / 2 + i];
        }
    }
    w.running.erase(p.d);
}

void issue(Product** lane) {
    WarpAsync& w = my_warp();
    const Product& x = *lane[0];
    WarpProduct p;
    for (int l = 0; l < 32; l++) {
        const Product& y = *lane[l];
        if (y.desc_a != x.desc_a || y.desc_b != x.desc_b || y.accumulate != x.accumulate) {
            fail_here("wgmma: lanes bring different descriptors");
        }
        p.lane[l] = y;
    }
    if (!w.fenced) { fail_here("wgmma: no wgmma_fence since the last wait"); }
    auto [at, fresh] = w.running.try_emplace(x.d);
    Accumulators& acc = at->second;
    if (fresh) {
        acc.N = x.N;
        acc.value.resize((size_t)32 * x.N / 2);
        for (int l = 0; l < 32; l++) {
            acc.d[l] = lane[l]->d;
            for (int i = 0; i < x.N / 2; i++) {
                acc.value[(size_t)l * x.N / 2 + i] = acc.d[l][i];
                std::memcpy(acc.d[l] + i, &poison, 4);
            }
        }
    } else if (acc.N != x.N) {
        fail_here("wgmma: two shapes with one set of accumulators in flight");
    }
    acc.products++;
    w.open.push_back(p);
}

template <class F>
void once_for_the_warp(WarpOp operation, Site site, F f) {
    Unseen unseen;
    int nothing = 0;
    collective(~0u, nothing, operation, site, [&](int**, uint32_t) { f(my_warp()); });
}

}  // namespace

MatrixAccesses matrix_accesses() { return {matrix_rows8, matrix_conflicts}; }
uint32_t shared_address(const void* p) { return offset_of(p, 0); }

// ---- copies and barriers ----

void cp_async(void* to, const void* from, uint32_t bytes, bool there, Site site) {
    const uint32_t o = offset_of(to, bytes);
    if (o % bytes || (there && (uintptr_t)from % bytes)) { fail("cp.async: not aligned", site); }
    std::memset(to, 0xFF, bytes);
    Unseen unseen;
    hide(o, bytes);
    my_thread().open.push_back({(unsigned char*)to, from, bytes, there});
}
void cp_async_commit() {
    Unseen unseen;
    ThreadAsync& t = my_thread();
    t.groups.push_back(std::move(t.open));
    t.open.clear();
}
void cp_async_wait_for(int newest) {
    Unseen unseen;
    ThreadAsync& t = my_thread();
    for (; (int)t.groups.size() > newest; t.groups.pop_front()) { land(thread_index(), t.groups.front()); }
}

void mbarrier_init(uint64_t* p, unsigned count) {
    offset_of(p, 8);
    *(MBarrier*)p = {(uint16_t)count, (uint16_t)count, 0, initialised};
}
void mbarrier_arrive(uint64_t* p) {
    MBarrier& b = mbarrier_at(p);
    arrive(&async().place[b.phase]);
    if (--b.pending == 0) {
        b.pending = b.expected;
        b.phase ^= 1;
    }
}
bool mbarrier_try_wait(uint64_t* p, unsigned parity) {
    const bool over = mbarrier_at(p).phase != parity;
    if (over) { leave(&async().place[parity]); }
    return over;
}
void mbarrier_poll(uint64_t* p, unsigned parity, Site site) {
    while (!mbarrier_try_wait(p, parity)) { poll(site); }
}
/* Makes one of the expected arrivals, some rounds later, when the copies that this thread has issued are
   complete. */
void cp_async_arrive(uint64_t* p) {
    Unseen unseen;
    mbarrier_at(p);
    ThreadAsync& t = my_thread();
    Arrival x{thread_index(), context.rounds + 2 + thread_index() % 3, std::move(t.open), p};
    t.open.clear();
    for (auto& g : t.groups) { x.copies.insert(x.copies.end(), g.begin(), g.end()); }
    t.groups.clear();
    async().arrivals.push_back(std::move(x));
    arrive((char*)p);
}

void named_barrier(unsigned id, unsigned threads, bool wait, Site site) {
    Unseen unseen;
    if (id < 1 || id > 15 || threads % warp_lanes) { fail("a named barrier: id 1 to 15, whole warps", site); }
    NamedBarrier& b = async().named[id];
    if (b.arrived && b.threads != threads) { fail("a named barrier with two numbers of threads", site); }
    char* place = &async().place[0];
    arrive(place);
    b.threads = threads;
    if (++b.arrived == threads) {
        for (Fiber* f : b.waiting) { f->state = State::ready; }
        b = {};
    } else if (wait) {
        Fiber* me = context.current;
        b.waiting.push_back(me);
        me->state = State::at_named;
        me->site = site;
        yield();
    }
    if (wait) { leave(place); }
}

void note_operand(const void* p, uint32_t bytes) {
    Unseen unseen;
    note_write(thread_index(), p, bytes);
}
void fence_proxy_async() {
    Unseen unseen;
    Async& a = async();
    const unsigned me = thread_index();
    for (uint32_t w : a.threads[me].written) {
        if (a.owner[w] == me) { std::memcpy(a.view.data() + 4 * w, shared_memory + 4 * w, 4); }
    }
    a.threads[me].written.clear();
}

// ---- products and matrices ----

void mma_16x8x16(float* c, const uint32_t* a, uint32_t b0, uint32_t b1, Site site) {
    Unseen unseen;
    struct Operand {
        float* c;
        const uint32_t* a;
        uint32_t b[2];
    } mine{c, a, {b0, b1}};
    collective(~0u, mine, WarpOp::mma, site, [](Operand** lane, uint32_t needed) {
        if (needed != ~0u) { fail_here("mma.sync: lanes are missing"); }
        float A[16][16], B[16][8], C[16][8];
        for (int l = 0; l < 32; l++) {
            const int g = l / 4, c = l % 4;
            for (int i = 0; i < 8; i++) {
                A[g + (i / 2 % 2) * 8][c * 2 + i % 2 + i / 4 * 8] = half_of(lane[l]->a[i / 2], i % 2);
            }
            for (int i = 0; i < 4; i++) {
                B[c * 2 + i % 2 + i / 2 * 8][g] = half_of(lane[l]->b[i / 2], i % 2);
                C[g + i / 2 * 8][c * 2 + i % 2] = lane[l]->c[i];
            }
        }
        for (int r = 0; r < 16; r++) {
            for (int k = 0; k < 16; k++) {
                for (int n = 0; n < 8; n++) { C[r][n] += A[r][k] * B[k][n]; }
            }
        }
        for (int l = 0; l < 32; l++) {
            for (int i = 0; i < 4; i++) { lane[l]->c[i] = C[l / 4 + i / 2 * 8][l % 4 * 2 + i % 2]; }
        }
    });
}

namespace {
struct MatrixOperand {
    uint16_t* row;
    uint32_t* r;
    uint32_t offset;
    bool transposed;
};
// Calls f(the 16 bits in memory, the register, the half of it) for all elements of four 8 x 8 matrices.
template <class F>
void each_element(MatrixOperand** lane, uint32_t needed, F f) {
    if (needed != ~0u) { fail_here("ldmatrix or stmatrix: lanes are missing"); }
    const bool transposed = lane[0]->transposed;
    for (int m = 0; m < 4; m++) {
        uint32_t offset[8];
        for (int i = 0; i < 8; i++) { offset[i] = lane[m * 8 + i]->offset; }
        count_conflicts(offset);
        for (int l = 0; l < 32; l++) {
            for (int h = 0; h < 2; h++) {
                const int g = l / 4, c = l % 4 * 2 + h;
                f((transposed ? lane[m * 8 + c]->row + g : lane[m * 8 + g]->row + c), lane[l]->r[m], h);
            }
        }
    }
}
}  // namespace
void load_matrices(uint32_t* r, const void* row, bool transposed, Site site) {
    Unseen unseen;
    if ((uintptr_t)row % 16) { fail("ldmatrix: a row that is not 16-byte aligned", site); }
    MatrixOperand mine{(uint16_t*)row, r, offset_of(row, 16), transposed};
    collective(~0u, mine, transposed ? WarpOp::ldmatrix_transposed : WarpOp::ldmatrix, site,
               [](MatrixOperand** lane, uint32_t needed) {
                   each_element(lane, needed, [](const uint16_t* at, uint32_t& r, int h) {
                       r = h ? (r & 0xFFFFu) | (uint32_t)*at << 16 : (uint32_t)*at;
                   });
               });
}
void store_matrices(void* row, const uint32_t* r, bool transposed, Site site) {
    Unseen unseen;
    if ((uintptr_t)row % 16) { fail("stmatrix: a row that is not 16-byte aligned", site); }
    MatrixOperand mine{(uint16_t*)row, (uint32_t*)r, offset_of(row, 16), transposed};
    collective(~0u, mine, transposed ? WarpOp::stmatrix_transposed : WarpOp::stmatrix, site,
               [](MatrixOperand** lane, uint32_t needed) {
                   each_element(lane, needed,
                                [](uint16_t* at, uint32_t& r, int h) { *at = (uint16_t)(r >> 16 * h); });
               });
    note_write(thread_index(), row, 16);
}

void wgmma_issue(const Product& p, Site site) {
    Unseen unseen;
    Product mine = p;
    collective(~0u, mine, WarpOp::wgmma, site, [](Product** lane, uint32_t needed) {
        if (needed != ~0u || context.num_threads % 128) { fail_here("wgmma: not a whole warpgroup"); }
        issue(lane);
    });
}
void wgmma_fence_warp(Site site) {
    once_for_the_warp(WarpOp::wgmma_fence, site, [](WarpAsync& w) { w.fenced = true; });
}
void wgmma_commit_warp(Site site) {
    once_for_the_warp(WarpOp::wgmma_commit, site, [](WarpAsync& w) {
        w.groups.push_back(std::move(w.open));
        w.open.clear();
    });
}
void wgmma_wait_for(int newest, Site site) {
    const unsigned warp = context.current->warp;
    once_for_the_warp(WarpOp::wgmma_wait, site, [=](WarpAsync& w) {
        for (; (int)w.groups.size() > newest; w.groups.pop_front()) {
            for (const WarpProduct& p : w.groups.front()) { run_product(w, p, warp); }
        }
        w.fenced = false;
    });
}

}  // namespace simt

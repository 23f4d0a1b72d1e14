/* Asynchronous copies, barriers and proxies of the simulator: described in async.h. */
#include "test/simt/async_state.h"

namespace simt {
namespace {

thread_local Async state;

bool used() { return state.serial == context.serial; }

void hide(uint32_t offset, uint32_t bytes) { std::memset(async().view.data() + offset, 0xFF, bytes); }

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

void count_arrival(uint64_t* p) {
    MBarrier& b = mbarrier_at(p);
    arrive(&async().place[b.phase]);
    if (--b.pending == 0) {
        b.pending = b.expected;
        b.phase ^= 1;
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
        count_arrival(x.barrier);
    }
}

}  // namespace

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

uint32_t offset_of(const void* p, size_t bytes) {
    const ptrdiff_t o = (const unsigned char*)p - shared_memory;
    if (o < 0 || o + bytes > max_shared_bytes) { fail_here("an address outside dynamic shared memory"); }
    return (uint32_t)o;
}
void note_write(unsigned thread, const void* p, uint32_t bytes) {
    const uint32_t o = offset_of(p, bytes);
    Async& a = async();
    hide(o, bytes);
    std::fill_n(a.owner.begin() + o / 4, bytes / 4, (uint16_t)thread);
    a.threads[thread].written.push_back({o / 4, bytes / 4});
}

uint32_t shared_address(const void* p) { return offset_of(p, 0); }

void cp_async(void* to, const void* from, uint32_t bytes, bool there, Site site) {
    const uint32_t o = offset_of(to, bytes);
    if (o % bytes || (there && (uintptr_t)from % bytes)) { fail("cp.async: not aligned", site); }
    if (watcher) {
        // Two accesses of one call: with addresses of their own, both within the instruction that calls.
        char* const pc = (char*)__builtin_return_address(0);
        if (there) { watcher->access(from, bytes, false, pc - 1); }
        watcher->access(to, bytes, true, pc);
    }
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
// What the thread does after its arrival comes late, so that others see what it should have done before.
void mbarrier_arrive(uint64_t* p) {
    count_arrival(p);
    pause(context.current->site);
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
    for (const Words& words : a.threads[me].written) {
        for (uint32_t w = words.first; w < words.first + words.count; w++) {
            if (a.owner[w] == me) { std::memcpy(a.view.data() + 4 * w, shared_memory + 4 * w, 4); }
        }
    }
    a.threads[me].written.clear();
}

}  // namespace simt

/* Counts what a GPU's profiler counts, of kernels that run in the simulator: the Recorder of train/lab/counts.h.

   How      The compiler announces every access that another thread might see (-fsanitize=thread; this file
            replaces its library). An access becomes an event in the trace of its lane. Where the lanes of a
            warp have met (a barrier, a warp operation, the end of the block), their traces are merged into the
            requests of the warp: of the lanes' next events, those at the lowest address of the code go
            together, again and again. So lanes that took different branches come together again, as on a GPU,
            because the code is in the order of the source.
   Flags    of CMakeLists.txt, for kernels: accesses must be those of the source. Without -fno-tree-sra,
            -fno-tree-fre and -fno-tree-pre g++ would read a pack of 16 bytes element by element; without
            -fno-thread-jumps a store after a select would be two stores of some lanes each. */
#include "test/simt/lab_memory.h"
#include "test/simt/simt.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include <link.h>

namespace simt {
namespace {

struct Event {
    uintptr_t address;
    uint32_t pc;
    uint8_t size;  // 0: a loop goes round
    bool write, shared;
};
struct Trace {  // of a lane, since its warp last met
    std::vector<Event> events;
    size_t next = 0;
    uintptr_t stack_end = 0;
    uint32_t block = 0;      // the basic block that it is in
    size_t block_begin = 0;  // and the first event in it
    bool has_more() const { return next < events.size(); }
};

bool counting;              // of the block that runs
std::vector<Trace> traces;  // of its threads
uintptr_t base, tls, tls_bytes;

Trace& my_trace() { return traces[context.current - context.fibers]; }

void note(const void* p, unsigned size, bool write, void* pc) {
    if (!counting) { return; }
    const uintptr_t a = (uintptr_t)p;
    Trace& trace = my_trace();
    if (a > (uintptr_t)__builtin_frame_address(0) && a < trace.stack_end) {
        return;
    }  // registers, parameters
    const bool shared = a - tls < tls_bytes;
    if (shared && a - (uintptr_t)&context < sizeof context) { return; }  // threadIdx and the like
    // What was read before in this basic block, with no store since, is in a register.
    for (size_t i = trace.events.size(); !write && i-- > trace.block_begin;) {
        const Event& e = trace.events[i];
        if (e.write) { break; }
        if (e.address == a && e.size == size) { return; }
    }
    trace.events.push_back({a, (uint32_t)((uintptr_t)pc - base), (uint8_t)size, write, shared});
}
// Copies of structs: in the widest pieces that their size and address allow.
void note_range(const void* p, size_t n, bool write, void* pc) {
    for (size_t done = 0; done < n;) {
        size_t piece = 16;
        while (n % piece || ((uintptr_t)p + done) % piece) { piece /= 2; }
        note((const char*)p + done, piece, write, pc);
        done += piece;
    }
}

/* Lanes that go through a loop in different ways must not get ahead of each other. So where a loop goes round,
   both ends of the jump become events; -fsanitize-coverage=trace-pc calls a function at the beginning of each
   basic block. Not in loops without accesses, which call nothing else. Only x86 code can be searched for calls;
   on other processors lanes may get ahead. */
bool calls_something(uint32_t first, uint32_t last, uintptr_t hook) {
#if defined(__x86_64__)
    enum : uint8_t { unknown, nothing, something };
    static std::vector<uint8_t> calls;  // by the last block of a loop
    if (calls.size() <= last) { calls.resize(last + 4096); }
    if (calls[last] != unknown) { return calls[last] == something; }
    calls[last] = nothing;
    for (uintptr_t at = base + first;; at++) {
        int32_t jump;
        std::memcpy(&jump, (const char*)at + 1, 4);
        if (*(const uint8_t*)at != 0xE8) { continue; }  // call
        const bool of_hook = at + 5 + jump == hook;
        if (of_hook && at > base + last) { break; }
        if (!of_hook) { calls[last] = something; }
    }
    return calls[last] == something;
#else
    (void)first, (void)last, (void)hook;
    return false;
#endif
}
void note_block(void* here, uintptr_t hook) {
    if (!counting) { return; }
    Trace& trace = my_trace();
    const uint32_t pc = (uint32_t)((uintptr_t)here - base), last = trace.block;
    trace.block = pc;
    if (pc <= last && calls_something(pc, last, hook)) {
        trace.events.push_back({0, last, 0, false, false});
        trace.events.push_back({0, pc, 0, false, false});
    }
    trace.block_begin = trace.events.size();
}

class Lab final : public Watcher, public moba::Recorder {
  public:
    void start(const std::string& operation, const moba::RecordPlan& plan) override {
        if (!tls) { find_thread_locals(); }
        operation_ = operation, plan_ = plan;
        kernels_.clear();
        recording_ = true;
    }
    std::vector<moba::KernelCounts> stop() override {
        recording_ = false;
        kernel_ = nullptr;
        return std::move(kernels_);
    }

    void launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes) override {
        kernel_ = nullptr;
        if (!recording_) { return; }
        moba::KernelCounts k;
        k.operation = operation_, k.kernel = kernel, k.shared_bytes = shared_bytes;
        const unsigned of_grid[] = {grid.x, grid.y, grid.z}, of_block[] = {block.x, block.y, block.z};
        std::copy_n(of_grid, 3, k.grid), std::copy_n(of_block, 3, k.block);
        for (moba::KernelCounts& o : kernels_) {
            if (o.kernel == kernel && o.shared_bytes == shared_bytes &&
                std::equal(k.grid, k.grid + 3, o.grid) && std::equal(k.block, k.block + 3, o.block)) {
                kernel_ = &o;
            }
        }
        if (!kernel_) {
            if (plan_.resources) { k.resources = plan_.resources(k); }
            kernels_.push_back(std::move(k));
            kernel_ = &kernels_.back();
        }
        grid_blocks_ = (size_t)grid.x * grid.y * grid.z;
        kernel_->launches++, kernel_->blocks += grid_blocks_;
        counts_at_.clear();
        memory_.start_launch(plan_.l2_bytes);
    }
    void launch_ends() override {
        if (kernel_) { memory_.end_launch(*kernel_); }
        kernel_ = nullptr;
    }
    void block_begins(unsigned index) override {
        const size_t most = plan_.blocks && plan_.blocks < grid_blocks_ ? plan_.blocks : grid_blocks_;
        counting = kernel_ && index - (grid_blocks_ - most) / 2 < most;
        if (!counting) { return; }
        if (traces.size() < context.num_threads) { traces.resize(context.num_threads); }
        for (unsigned t = 0; t < context.num_threads; t++) {
            traces[t].stack_end = (uintptr_t)context.fibers[t].stack_pointer + 128;
            traces[t].block = 0;
        }
        // Thread blocks of one SM share L1 and shared memory.
        const moba::KernelResources& r = kernel_->resources;
        const size_t beside =
            std::max<size_t>(1, std::min<size_t>(r.resident, (grid_blocks_ + plan_.sms - 1) / plan_.sms));
        const size_t used = beside * (kernel_->shared_bytes + r.static_shared + plan_.reserved_shared);
        memory_.l1.reset((plan_.l1_bytes - std::min(used, plan_.l1_bytes - (28 << 10))) / beside, 8);
        kernel_->counted++;
        block_wavefronts_ = 0;
    }
    void block_ends() override {
        if (!counting) { return; }
        merge_block();
        kernel_->longest_block = std::max(kernel_->longest_block, block_wavefronts_);
        counting = false;
    }
    void barrier(Site site) override {
        if (!counting) { return; }
        merge_block();
        kernel_->meetings[{site.file ? site.file : "?", site.line}].barriers++;
    }
    void warp_operation(unsigned warp, uint32_t lanes, Site site) override {
        if (!counting) { return; }
        if (lanes == context.warps[warp].live) { merge_warp(warp); }
        kernel_->meetings[{site.file ? site.file : "?", site.line}].warp_operations++;
    }
    void tensor_flop(double flop) override {
        if (kernel_) { kernel_->tensor_flop += flop; }
    }
    // Of a wrapper of an instruction, which the compiler does not announce.
    void access(const void* p, unsigned bytes, bool write, void* pc) override {
        if (!counting) { return; }
        const bool shared = (uintptr_t)p - tls < tls_bytes;
        my_trace().events.push_back(
            {(uintptr_t)p, (uint32_t)((uintptr_t)pc - base), (uint8_t)bytes, write, shared});
    }
    void allocated(void* p, size_t bytes) override { memory_.allocated(p, bytes); }
    void freed(void* p) override { memory_.freed(p); }

  private:
    void find_thread_locals() {
        base = moba::program_base();
        dl_iterate_phdr(
            [](dl_phdr_info* program, size_t, void*) {
                for (int i = 0; i < program->dlpi_phnum; i++) {
                    if (program->dlpi_phdr[i].p_type != PT_TLS) { continue; }
                    tls = (uintptr_t)program->dlpi_tls_data, tls_bytes = program->dlpi_phdr[i].p_memsz;
                }
                return 1;  // only the program itself, which comes first
            },
            nullptr);
    }

    void count(const Request& r) {
        if (r.size == 0) { return; }                                // the end of a trip through a loop
        if (!r.shared && !memory_.holds(r.address[0])) { return; }  // the arguments of the launch
        if (counts_at_.size() <= r.pc) { counts_at_.resize(r.pc + 4096); }
        moba::MemoryCounts*& c = counts_at_[r.pc];
        if (!c) { c = &kernel_->at[r.pc]; }
        c->shared = r.shared, c->write = r.write, c->size = std::max(c->size, r.size);
        c->requests++, c->lanes += r.lanes, c->bytes += (uint64_t)r.lanes * r.size;
        block_wavefronts_ += r.shared ? count_shared(*c, r) : memory_.count(*c, *kernel_, r);
    }

    bool next_request(unsigned warp, Request& r) {
        const unsigned first = warp * warp_lanes,
                       lanes = std::min<unsigned>(warp_lanes, context.num_threads - first);
        Trace* trace = &traces[first];
        uint32_t lowest = UINT32_MAX;
        for (unsigned l = 0; l < lanes; l++) {
            if (trace[l].has_more()) { lowest = std::min(lowest, trace[l].events[trace[l].next].pc); }
        }
        if (lowest == UINT32_MAX) { return false; }
        r.lanes = 0;
        for (unsigned l = 0; l < lanes; l++) {
            if (!trace[l].has_more()) { continue; }
            const Event& e = trace[l].events[trace[l].next];
            if (e.pc != lowest) { continue; }
            if (r.lanes == 0) { r.size = e.size, r.write = e.write, r.shared = e.shared, r.pc = e.pc; }
            if (e.size != r.size || e.shared != r.shared) { continue; }  // a pointer to either memory
            r.address[r.lanes] = e.address, r.lane[r.lanes++] = (uint8_t)l;
            trace[l].next++;
        }
        return true;
    }
    void clear(unsigned warp) {
        for (unsigned t = warp * warp_lanes; t < std::min((warp + 1) * warp_lanes, context.num_threads);
             t++) {
            traces[t].events.clear();
            traces[t].next = traces[t].block_begin = 0;
        }
    }
    void merge_warp(unsigned warp) {
        for (Request r; next_request(warp, r);) { count(r); }
        clear(warp);
    }
    void merge_block() {  // warps take turns, as they would on an SM
        const unsigned warps = (context.num_threads + warp_lanes - 1) / warp_lanes;
        Request r;
        for (bool any = true; any;) {
            any = false;
            for (unsigned w = 0; w < warps; w++) {
                if (next_request(w, r)) { count(r), any = true; }
            }
        }
        for (unsigned w = 0; w < warps; w++) { clear(w); }
    }

    std::string operation_;
    moba::RecordPlan plan_;
    bool recording_ = false;
    std::vector<moba::KernelCounts> kernels_;
    moba::KernelCounts* kernel_ = nullptr;        // that runs
    std::vector<moba::MemoryCounts*> counts_at_;  // of it, by pc
    size_t grid_blocks_ = 0;
    uint64_t block_wavefronts_ = 0;
    DeviceMemoryModel memory_;
};

Lab& lab() {
    static Lab& one = *new Lab;  // device memory is freed until the end of the program
    return one;
}
const bool ready = (watcher = &lab(), moba::recorder = &lab(), true);

}  // namespace
}  // namespace simt

// ---- called by code that was compiled with -fsanitize=thread and -fsanitize-coverage=trace-pc ----

#define HERE __builtin_return_address(0)
#define ACCESSES(n)                                                                                          \
    void __tsan_read##n(void* p) { simt::note(p, n, false, HERE); }                                          \
    void __tsan_write##n(void* p) { simt::note(p, n, true, HERE); }                                          \
    void __tsan_unaligned_read##n(void* p) { simt::note_range(p, n, false, HERE); }                          \
    void __tsan_unaligned_write##n(void* p) { simt::note_range(p, n, true, HERE); }                          \
    void __tsan_volatile_read##n(void* p) { simt::note(p, n, false, HERE); }                                 \
    void __tsan_volatile_write##n(void* p) { simt::note(p, n, true, HERE); }
extern "C" {
ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)
void __tsan_read_range(void* p, size_t n) { simt::note_range(p, n, false, HERE); }
void __tsan_write_range(void* p, size_t n) { simt::note_range(p, n, true, HERE); }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_init() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __sanitizer_cov_trace_pc() { simt::note_block(HERE, (uintptr_t)&__sanitizer_cov_trace_pc); }
}

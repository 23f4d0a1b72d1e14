/* Memory: one allocation per kind of tensor, then point. No tensor is freed alone.

   An Arena is walked twice over the same list of take() calls: the first walk, before anything is allocated, adds up
   the sizes (and is what `memory by list` prints); the second hands out pointers. Every tensor starts on a 256-byte
   boundary and is followed by at least 64 bytes of a known pattern, which guards_intact() finds unchanged unless
   something wrote past its end. Memory starts zeroed. */
#pragma once
#include "moba/core/base.h"
#include <vector>

constexpr size_t align_bytes = 256;  // cudaMalloc's own promise; more than any vector load needs
constexpr size_t guard_bytes = 64;

struct CUgraphExec_st;  // what cudaGraphExec_t points to; declared, never included

/* Launches that are recorded once and run again as one. Between begin and end nothing runs. Arguments are kept as they are, so what
   may change from run to run lies in device memory; allocations, waiting and copies from or to the host have no place there. */
struct GraphOps {
    void (*begin)(const Ctx&);
    CUgraphExec_st* (*end)(const Ctx&);
    void (*replay)(const Ctx&, CUgraphExec_st*);
    void (*release)(CUgraphExec_st*);
};

/* What the program has asked of a device since it started. */
struct DeviceCounts {
    size_t launches = 0;  // of kernels, library products, recorded graphs
    size_t uploads = 0;   // copies from the host
    size_t stops = 0;     // times that the host waited for the device
};

/* Where memory lives. One table per device; the GPU's is filled in beside its kernels.
   Order    whatever runs on one stream runs in the order of the calls. to_device returns at once, and the source may be
            changed then: the GPU's copies go through pinned host memory of their own. */
struct MemoryOps {
    char* (*allocate)(size_t bytes);  // zeroed; throws Error when there is not enough
    void (*release)(char*, size_t bytes);
    size_t (*available)();  // bytes that allocate() could give; SIZE_MAX where nobody knows
    size_t (*taken)();      // bytes that others hold: context, libraries, other programs
    size_t (*reserve)();    // bytes to leave free: kernels and libraries take theirs at their first use
    void (*zero)(const Ctx&, void* dst, size_t bytes);
    void (*to_device)(const Ctx&, void* dst, const void* src, size_t bytes);
    void (*to_host)(const Ctx&, void* dst, const void* src, size_t bytes);  // waits
    void (*copy)(const Ctx&, void* dst, const void* src, size_t bytes);     // within the device
    const char* (*name)();                  // of the device, as its driver says
    void (*synchronize)(const Ctx&);        // waits for all that was launched
    void (*range_begin)(const char* name);  // a named range on a profiler's time line;
    void (*range_end)();                    // ranges nest
    CUstream_st* (*stream)();               // for a model's work: one whose launches can be recorded
    const GraphOps* graphs;                 // nullptr: nothing can be recorded
    DeviceCounts (*counts)();
};

class Arena {
  public:
    Arena(std::string list, const MemoryOps* memory) : list_(std::move(list)), memory_(memory) {}
    ~Arena();
    Arena(Arena&& other) noexcept;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    template <class X>
    X* take(const std::string& name, size_t count) {
        return (X*)take_bytes(name, count * sizeof(X));
    }
    void allocate();  // after the first walk; the next take() starts the second
    size_t bytes() const { return total_bytes_; }
    const std::string& list() const { return list_; }
    char* base() const { return base_; }

    struct Tensor {
        std::string name;
        size_t offset, bytes;
    };
    const std::vector<Tensor>& tensors() const { return tensors_; }
    bool guards_intact(std::string* broken) const;  // names the first tensor that was overrun

  private:
    void* take_bytes(const std::string& name, size_t bytes);
    std::string list_;
    const MemoryOps* memory_;
    char* base_ = nullptr;
    size_t total_bytes_ = 0, used_ = 0, next_ = 0;
    std::vector<Tensor> tensors_;
};

/* Hands out pieces of a workspace, aligned as tensors are. Without a base it only adds up. */
class Carver {
  public:
    explicit Carver(char* base) : base_(base) {}
    template <class X>
    X* take(size_t count) {
        char* p = base_ ? base_ + used_ : nullptr;
        used_ += round_up(count * sizeof(X), align_bytes);
        return (X*)p;
    }
    size_t bytes() const { return used_; }

  private:
    char* base_;
    size_t used_ = 0;
};

// "12.3 MiB"
std::string readable_bytes(size_t bytes);

char* allocate_cpu(size_t bytes);
void release_cpu(char*, size_t bytes);
size_t available_cpu();
size_t taken_cpu();
size_t reserve_cpu();
void zero_cpu(const Ctx&, void* dst, size_t bytes);
void copy_cpu(const Ctx&, void* dst, const void* src, size_t bytes);
void parallel_copy_cpu(const Ctx&, void* dst, const void* src, size_t bytes);
const char* name_cpu();
void synchronize_cpu(const Ctx&);
void range_begin_cpu(const char* name);
void range_end_cpu();
CUstream_st* stream_cpu();
DeviceCounts counts_cpu();

char* allocate_gpu(size_t bytes);
void release_gpu(char*, size_t bytes);
size_t available_gpu();
size_t taken_gpu();
size_t reserve_gpu();
void zero_gpu(const Ctx&, void* dst, size_t bytes);
void to_device_gpu(const Ctx&, void* dst, const void* src, size_t bytes);
void to_host_gpu(const Ctx&, void* dst, const void* src, size_t bytes);
void copy_gpu(const Ctx&, void* dst, const void* src, size_t bytes);
std::string gpu_problem_gpu();  // of the driver and the card, "" when there is none
const char* name_gpu();
void synchronize_gpu(const Ctx&);
void range_begin_gpu(const char* name);
void range_end_gpu();
CUstream_st* stream_gpu();
DeviceCounts counts_gpu();
void begin_graph_gpu(const Ctx&);
CUgraphExec_st* end_graph_gpu(const Ctx&);
void replay_graph_gpu(const Ctx&, CUgraphExec_st*);
void release_graph_gpu(CUgraphExec_st*);

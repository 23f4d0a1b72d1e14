/* A device: its memory, its stream, and what the host may ask of it. One table for each device, CPU and GPU. */
#pragma once
#include "moba/core/base.h"

struct CUgraphExec_st;  // what cudaGraphExec_t points to; declared, never included

namespace moba {

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
struct DeviceOps {
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

extern const DeviceOps cpu_device;
extern const DeviceOps gpu_device;  // in programs with kernels alone
std::string find_gpu_problem();     // of the driver and the card, "" when there is none; likewise

// "12.3 MiB"
std::string readable_bytes(size_t bytes);

}  // namespace moba

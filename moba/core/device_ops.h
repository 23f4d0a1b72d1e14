/* A device: its memory, its stream and the requests that the host can make. One table of functions for the
   CPU, one for the GPU. */
#pragma once
#include "moba/core/base.h"
#include <memory>

struct CUgraphExec_st;  // cudaGraphExec_t points to it; declared here so that no CUDA header is needed

namespace moba {

class Comm;
class DeviceComm;

/* A sequence of launches that is recorded once and then replayed with a single launch (a CUDA graph). Between
   begin and end nothing runs. Kernel arguments are frozen in the recording, so values that change must be in
   device memory. While recording, do not allocate, wait, or copy between host and device. */
struct GraphOps {
    void (*begin)(const Ctx&);
    CUgraphExec_st* (*end)(const Ctx&);
    void (*replay)(const Ctx&, CUgraphExec_st*);
    void (*release)(CUgraphExec_st*);
};

/* Requests to a device since the program started. */
struct DeviceCounts {
    size_t launches = 0;  // kernels, matrix products of a library, recorded graphs
    size_t uploads = 0;   // copies from the host
    size_t stops = 0;     // how often the host waited for the device
};

/* The functions of a device. cpu_device is filled in device_ops.cpp, gpu_device in device_ops.cu.
   Order    on one stream, work runs in the order of the calls. to_device does not wait for the copy; the
            caller may change the source as soon as it returns, because the GPU copies from pinned host
            buffers. */
struct DeviceOps {
    char* (*allocate)(size_t bytes);  // zeroed; throws Error if there is not enough memory
    void (*release)(char*, size_t bytes);
    size_t (*available)();  // bytes that can still be allocated; SIZE_MAX if unknown
    size_t (*taken)();      // bytes in use on the whole device, also by CUDA, libraries and other programs
    size_t (*reserve)();    // bytes to leave free: kernels and libraries allocate memory at their first use
    void (*zero)(const Ctx&, void* dst, size_t bytes);
    void (*to_device)(const Ctx&, void* dst, const void* src, size_t bytes);
    void (*to_host)(const Ctx&, void* dst, const void* src, size_t bytes);  // waits until the copy is done
    void (*copy)(const Ctx&, void* dst, const void* src, size_t bytes);     // from device to device
    const char* (*name)();                  // name of the device, as its driver reports it
    void (*synchronize)(const Ctx&);        // waits for everything launched on the stream
    void (*range_begin)(const char* name);  // starts a range in a profiler's timeline; ranges can nest
    void (*range_end)();
    CUstream_st* (*stream)();  // the stream for a model's work; its launches can be recorded
    const GraphOps* graphs;    // nullptr: this device cannot record launches
    DeviceCounts (*counts)();
    // What moves tensors between ranks; nullptr: this device's memory is the host's, so Comm can. All ranks
    // call it together.
    std::unique_ptr<DeviceComm> (*comm)(Comm&);
};

extern const DeviceOps cpu_device;
// These exist only in programs built with kernels.
extern const DeviceOps gpu_device;
std::string find_gpu_problem();  // why the GPU cannot be used (driver, card); "" if it can
void choose_card(int number);  // of several GPUs, before any other call; numbers beyond the last start again
std::unique_ptr<DeviceComm> gpu_comm(Comm&);

// For example "12.3 MiB"
std::string readable_bytes(size_t bytes);

}  // namespace moba

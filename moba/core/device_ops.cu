/* The GPU as a device. Contract: device_ops.h. */
#include "moba/core/arena.h"
#include "moba/core/comm.h"
#include "moba/core/device.cuh"
#include <sstream>
#ifndef SIMT_CPU
#include <nvtx3/nvToolsExt.h>
#endif

namespace moba {

DeviceCounts device_counts;

namespace {

/* Copies to the GPU go through two pinned buffers of host memory, used alternately. So the caller may change
   its memory as soon as the call returns, and the host waits only when it is two buffers ahead of the GPU.
   (Without this, the GPU could read pageable memory after the call has returned.) */
struct Staging {
    static constexpr size_t piece_bytes = 4 << 20;
    char* piece[2];
    cudaEvent_t sent[2];  // reached when the last copy from this buffer is done
    int now = 0;
    size_t used = 0;

    Staging() {
        for (int i = 0; i < 2; i++) {
            CUDA_CHECK(cudaMallocHost((void**)&piece[i], piece_bytes));
            CUDA_CHECK(cudaEventCreateWithFlags(&sent[i], cudaEventDisableTiming));
        }
    }
    void send(cudaStream_t stream, char* to, const char* from, size_t bytes) {
        while (bytes > 0) {
            const size_t n = std::min(bytes, piece_bytes - used);
            std::memcpy(piece[now] + used, from, n);
            CUDA_CHECK(cudaMemcpyAsync(to, piece[now] + used, n, cudaMemcpyHostToDevice, stream));
            to += n, from += n, bytes -= n;
            used = std::min(piece_bytes, round_up(used + n, align_bytes));
            if (used == piece_bytes) {
                CUDA_CHECK(cudaEventRecord(sent[now], stream));
                now = 1 - now;
                used = 0;
                // Returns immediately the first time, because the event has not been recorded yet.
                CUDA_CHECK(cudaEventSynchronize(sent[now]));
            }
        }
    }
};

void zero(const Ctx& ctx, void* dst, size_t bytes) { CUDA_CHECK(cudaMemsetAsync(dst, 0, bytes, ctx.stream)); }

char* allocate(size_t bytes) {
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw Error("not enough GPU memory for " + readable_bytes(bytes));
    }
    CUDA_CHECK(e);
    zero({}, p, bytes);
    return (char*)p;
}
// CUDA encodes version 13.2 as 13020.
std::string cuda_version(int v) { return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10); }

#ifdef SIMT_CPU
#define MOBA_ARCHS "80,90a"  // the architectures that the simulator can be
#endif
/* If none of the compiled architectures fits this GPU, its driver compiles the kernels at the first start
   without any message; this function prints one. Code for sm_80 runs on 8.0 and all later 8.x; code for an
   architecture with the letter a, such as 90a, runs on exactly that one. */
void note_compilation(int device, int major) {
    int minor = 0;
    CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    std::istringstream archs(MOBA_ARCHS);
    bool none = true;
    for (std::string arch; std::getline(archs, arch, ',');) {
        const int number = std::stoi(arch), own = arch.back() == 'a';
        if (number / 10 == major && (own ? number % 10 == minor : number % 10 <= minor)) { return; }
        none = false;
    }
    if (none) { return; }
    std::fprintf(stderr,
                 "moba: no kernels were compiled for this GPU (sm_%d%d); its driver compiles them now, which "
                 "takes about a minute the first time\n",
                 major, minor);
}

void release(char* p, size_t) { CUDA_CHECK(cudaFree(p)); }
struct DeviceMemory {
    size_t free = 0, total = 0;
    DeviceMemory() { CUDA_CHECK(cudaMemGetInfo(&free, &total)); }
};
size_t available() { return DeviceMemory().free; }
size_t taken() {
    const DeviceMemory m;
    return m.total - m.free;
}
size_t reserve() { return std::min((size_t)512 << 20, DeviceMemory().total / 16); }
void to_device(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    static Staging staging;
    device_counts.uploads++;
    staging.send(ctx.stream, (char*)dst, (const char*)src, bytes);
}
void synchronize(const Ctx& ctx) {
    device_counts.stops++;
    CUDA_CHECK(cudaStreamSynchronize(ctx.stream));
}
void to_host(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    // Enough for what a training step reads back. For larger copies the driver pins memory itself.
    constexpr size_t pinned_bytes = 4096;
    static char* const pinned = [] {
        char* p;
        CUDA_CHECK(cudaMallocHost((void**)&p, pinned_bytes));
        return p;
    }();
    const bool small = bytes <= pinned_bytes;
    CUDA_CHECK(cudaMemcpyAsync(small ? pinned : dst, src, bytes, cudaMemcpyDeviceToHost, ctx.stream));
    synchronize(ctx);
    if (small && bytes > 0) { std::memcpy(dst, pinned, bytes); }
}
void copy(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, ctx.stream));
}

// The default stream cannot be recorded. The per-thread stream can; it synchronizes with the default one.
CUstream_st* stream() { return cudaStreamPerThread; }
// Mode Global: while a stream is recorded, any allocation and any work on the default stream is an error.
void begin_graph(const Ctx& ctx) {
    CUDA_CHECK(cudaStreamBeginCapture(ctx.stream, cudaStreamCaptureModeGlobal));
}
CUgraphExec_st* end_graph(const Ctx& ctx) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    CUDA_CHECK(cudaStreamEndCapture(ctx.stream, &graph));
    CUDA_CHECK(cudaGraphInstantiate(&ready, graph, 0));
    CUDA_CHECK(cudaGraphDestroy(graph));
    return ready;
}
void replay_graph(const Ctx& ctx, CUgraphExec_st* graph) {
    device_counts.launches++;
    CUDA_CHECK(cudaGraphLaunch(graph, ctx.stream));
}
void release_graph(CUgraphExec_st* graph) { CUDA_CHECK(cudaGraphExecDestroy(graph)); }

#ifdef SIMT_CPU
void range_begin(const char*) {}
void range_end() {}
#else
void range_begin(const char* name) { nvtxRangePushA(name); }
void range_end() { nvtxRangePop(); }
#endif

DeviceCounts counts() { return device_counts; }

const char* name() {
    static const cudaDeviceProp properties = [] {
        cudaDeviceProp p;
        int device;
        CUDA_CHECK(cudaGetDevice(&device));
        CUDA_CHECK(cudaGetDeviceProperties(&p, device));
        return p;
    }();
    return properties.name;
}

}  // namespace

bool has_wgmma() {
    static const bool has = [] {
        int device = 0, major = 0, minor = 0;
        CUDA_CHECK(cudaGetDevice(&device));
        CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
        CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
        return major == 9 && minor == 0 && std::string(MOBA_ARCHS).find("90a") != std::string::npos;
    }();
    return has;
}

std::string find_gpu_problem() {
    int count = 0;
    const cudaError_t e = cudaGetDeviceCount(&count);
    cudaGetLastError();
    int driver = 0, device = 0, major = 0;
    CUDA_CHECK(cudaDriverGetVersion(&driver));
    if (e != cudaSuccess && driver == 0) { return "there is no NVIDIA driver"; }
    if (e != cudaSuccess && driver < CUDART_VERSION) {
        return "the driver is for CUDA " + cuda_version(driver) + ", this program for " +
               cuda_version(CUDART_VERSION);
    }
    if (e != cudaSuccess) { return cudaGetErrorString(e); }
    if (count == 0) { return "there is none"; }
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    if (major < 8) { return std::string(name()) + " is older than what the kernels are built for (sm_80)"; }
    note_compilation(device, major);
    return "";
}

void choose_card(int number) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess || count < 2) {
        cudaGetLastError();
        return;
    }
    CUDA_CHECK(cudaSetDevice(number % count));
}

namespace {
constexpr GraphOps graphs = {
    .begin = begin_graph, .end = end_graph, .replay = replay_graph, .release = release_graph};
}

const DeviceOps gpu_device = {
    .allocate = allocate,
    .release = release,
    .available = available,
    .taken = taken,
    .reserve = reserve,
    .zero = zero,
    .to_device = to_device,
    .to_host = to_host,
    .copy = copy,
    .name = name,
    .synchronize = synchronize,
    .range_begin = range_begin,
    .range_end = range_end,
    .stream = stream,
    .graphs = &graphs,
    .counts = counts,
    .comm = gpu_comm,
};

}  // namespace moba

/* Memory of the GPU. Contract: memory.h. */
#include "moba/device.cuh"
#include "moba/memory.h"
#ifndef SIMT_CPU
#include <nvtx3/nvToolsExt.h>
#endif

char* allocate_gpu(size_t bytes) {
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError();
        throw Error("the GPU has no room for " + readable_bytes(bytes));
    }
    CUDA_CHECK(e);
    zero_gpu({}, p, bytes);
    return (char*)p;
}
// 13020 is 13.2
static std::string cuda_version(int v) {
    return std::to_string(v / 1000) + "." + std::to_string(v % 1000 / 10);
}

std::string gpu_problem_gpu() {
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
    if (major < 8) {
        return std::string(name_gpu()) + " is older than what the kernels are built for (sm_80)";
    }
    return "";
}
void release_gpu(char* p, size_t) { CUDA_CHECK(cudaFree(p)); }
size_t available_gpu() {
    size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    return free;
}
void zero_gpu(const Ctx& ctx, void* dst, size_t bytes) {
    CUDA_CHECK(cudaMemsetAsync(dst, 0, bytes, ctx.stream));
}
void to_device_gpu(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyHostToDevice, ctx.stream));
}
void to_host_gpu(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, ctx.stream));
    CUDA_CHECK(cudaStreamSynchronize(ctx.stream));
}
void copy_gpu(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    CUDA_CHECK(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, ctx.stream));
}
const char* name_gpu() {
    static const cudaDeviceProp properties = [] {
        cudaDeviceProp p;
        int device;
        CUDA_CHECK(cudaGetDevice(&device));
        CUDA_CHECK(cudaGetDeviceProperties(&p, device));
        return p;
    }();
    return properties.name;
}
void synchronize_gpu(const Ctx& ctx) { CUDA_CHECK(cudaStreamSynchronize(ctx.stream)); }

// The default stream cannot be recorded. This one waits for it, and is waited for.
CUstream_st* stream_gpu() { return cudaStreamPerThread; }
// Global: an allocation by anybody, and work on the default stream, are errors while it is recorded.
void begin_graph_gpu(const Ctx& ctx) {
    CUDA_CHECK(cudaStreamBeginCapture(ctx.stream, cudaStreamCaptureModeGlobal));
}
CUgraphExec_st* end_graph_gpu(const Ctx& ctx) {
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    CUDA_CHECK(cudaStreamEndCapture(ctx.stream, &graph));
    CUDA_CHECK(cudaGraphInstantiate(&ready, graph, 0));
    CUDA_CHECK(cudaGraphDestroy(graph));
    return ready;
}
void replay_graph_gpu(const Ctx& ctx, CUgraphExec_st* graph) {
    CUDA_CHECK(cudaGraphLaunch(graph, ctx.stream));
}
void release_graph_gpu(CUgraphExec_st* graph) { CUDA_CHECK(cudaGraphExecDestroy(graph)); }

#ifdef SIMT_CPU
void range_begin_gpu(const char*) {}
void range_end_gpu() {}
#else
void range_begin_gpu(const char* name) { nvtxRangePushA(name); }
void range_end_gpu() { nvtxRangePop(); }
#endif

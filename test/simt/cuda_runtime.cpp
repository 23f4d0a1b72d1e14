/* The calls of the CUDA runtime that the project uses, for the simulator. Device memory starts as NaN,
   streams are synchronous, and a graph is a list of functions. */
#include "test/simt/simt.h"
#include <map>
#include <set>
#include <vector>

namespace simt {

// The bytes that cudaFuncSetAttribute allowed, and the kernels that asked for the largest carve-out. Only one
// thread at a time launches kernels, so there is no lock.
static std::map<const void*, size_t>& allowed_shared() {
    static std::map<const void*, size_t> bytes;
    return bytes;
}
static std::set<const void*>& carved_out() {
    static std::set<const void*> kernels;
    return kernels;
}
void check_shared(const void* kernel, size_t bytes) {
    const auto allowed = allowed_shared().find(kernel);
    const size_t limit =
        allowed == allowed_shared().end() ? free_shared_bytes : std::max(free_shared_bytes, allowed->second);
    const bool carved = bytes <= free_shared_bytes || carved_out().count(kernel);
    if (bytes <= limit && carved) { return; }
    std::fprintf(stderr,
                 "simt: a launch with %zu bytes of shared memory, of a kernel that is allowed %zu%s: "
                 "cudaFuncSetAttribute\n",
                 bytes, limit, carved ? "" : " and no preferred carve-out");
    std::abort();
}

}  // namespace simt

// ---- graphs, and the order of copies ----

struct CUgraph_st {
    std::vector<std::function<void()>> work;
};
struct CUgraphExec_st {
    CUgraph_st graph;
};
static CUgraph_st* captured_graph;

/* Copies from the host that were requested and have not been made yet. They read their source as late as a
   GPU may do so: when other work is enqueued, or when the host waits. */
static std::vector<std::function<void()>> late_copies;

static void copy_late() {
    for (const auto& copy : late_copies) { copy(); }
    late_copies.clear();
}

void simt::enqueue(std::function<void()> work) {
    if (captured_graph) {
        captured_graph->work.push_back(std::move(work));
    } else {
        copy_late();
        work();
    }
}

// ---- the calls ----

extern "C" {
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
    if (captured_graph || !stream) { return cudaErrorStreamCaptureUnsupported; }
    captured_graph = new CUgraph_st;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
    *graph = captured_graph;
    captured_graph = nullptr;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* ready, cudaGraph_t graph, unsigned long long) {
    *ready = new CUgraphExec_st{*graph};
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t) {
    copy_late();
    for (const auto& work : ready->graph.work) { work(); }
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready) {
    delete ready;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void** p, size_t bytes) {
    if (captured_graph) { return cudaErrorStreamCaptureUnsupported; }
    *p = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*p) { return cudaErrorMemoryAllocation; }
    std::memset(*p, 0xFF, bytes);
    if (simt::watcher) { simt::watcher->allocated(*p, bytes); }
    return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
    const char* text = std::getenv("SIMT_MEMORY");  // bytes
    *free = *total = text ? std::strtoull(text, nullptr, 10) : SIZE_MAX;
    return cudaSuccess;
}
cudaError_t cudaFree(void* p) {
    copy_late();
    if (simt::watcher) { simt::watcher->freed(p); }
    std::free(p);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t) {
    if (captured_graph && kind != cudaMemcpyDeviceToDevice) { return cudaErrorStreamCaptureUnsupported; }
    if (!bytes) { return cudaSuccess; }
    const auto copy = [=] { std::memcpy(to, from, bytes); };
    if (kind == cudaMemcpyHostToDevice) {
        late_copies.push_back(copy);
    } else {
        simt::enqueue(copy);
    }
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void** p, size_t bytes) { return cudaMalloc(p, bytes); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) {
    *e = nullptr;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) {
    copy_late();
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t) {
    simt::enqueue([=] { std::memset(p, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
    if (captured_graph) { return cudaErrorStreamCaptureUnsupported; }
    copy_late();
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
    *device = 0;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int* count) {
    *count = 1;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr which, int) {
    const char* text = std::getenv("SIMT_CAPABILITY");
    const int capability = text ? std::atoi(text) : 90;
    *value = which == cudaDevAttrComputeCapabilityMajor   ? capability / 10
             : which == cudaDevAttrComputeCapabilityMinor ? capability % 10
                                                          : (int)simt::device_shared_bytes();
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute which, int bytes) {
    if (which == cudaFuncAttributePreferredSharedMemoryCarveout) {  // percent
        if (bytes < -1 || bytes > 100) { return cudaErrorInvalidValue; }
        if (bytes == cudaSharedmemCarveoutMaxShared) { simt::carved_out().insert(kernel); }
        return cudaSuccess;
    }
    if (bytes < 0 || (size_t)bytes > simt::device_shared_bytes()) { return cudaErrorInvalidValue; }
    simt::allowed_shared()[kernel] = bytes;
    return cudaSuccess;
}
cudaError_t cudaGetLastError() { return cudaSuccess; }
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
    std::strcpy(p->name, "simulated GPU");
    return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    default:
        return "operation not permitted when stream is capturing";
    }
}
const char* cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    default:
        return "cudaErrorStreamCaptureUnsupported";
    }
}
}

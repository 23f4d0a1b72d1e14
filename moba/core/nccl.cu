/* Ranks on GPUs exchange tensors with NCCL, on a separate stream. So what is sent and what is computed
   overlap. In the simulator a device's memory is the host's, and MPI moves it.

   The library is loaded when it is first needed, like cuBLASLt. Its interface is declared here, so that no
   header is needed to build: https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/api.html */
#include "moba/core/comm.h"
#include "moba/core/device.cuh"
#include "moba/core/device_ops.h"
#ifndef SIMT_CPU
#include <chrono>
#include <dlfcn.h>
#include <thread>
#endif

namespace moba {

#ifdef SIMT_CPU

std::unique_ptr<DeviceComm> gpu_comm(Comm&) { return nullptr; }

#else

namespace {

struct UniqueId {
    char bytes[128];
};
using Handle = struct ncclComm*;
enum Type { uint8 = 1, float32 = 7 };
enum Op { sum = 0 };

// The functions of the library that are used, without the prefix nccl.
struct Library {
    const char* (*GetErrorString)(int);
    int (*GetUniqueId)(UniqueId*);
    int (*CommInitRank)(Handle*, int size, UniqueId, int rank);
    int (*CommDestroy)(Handle);
    int (*CommGetAsyncError)(Handle, int* status);
    int (*ReduceScatter)(const void* from, void* to, size_t count, Type, Op, Handle, cudaStream_t);
    int (*AllGather)(const void* from, void* to, size_t count, Type, Handle, cudaStream_t);
    int (*Send)(const void* from, size_t count, Type, int rank, Handle, cudaStream_t);
    int (*Recv)(void* to, size_t count, Type, int rank, Handle, cudaStream_t);
    int (*GroupStart)();
    int (*GroupEnd)();

    Library() {
        void* file = dlopen("libnccl.so.2", RTLD_NOW | RTLD_LOCAL);
        need(file,
             "several processes with GPUs need NCCL (libnccl.so.2): " + std::string(file ? "" : dlerror()));
        const auto find = [&](auto& function, const char* name) {
            function = (std::decay_t<decltype(function)>)dlsym(file, name);
            need(function, std::string("libnccl.so.2 has no ") + name);
        };
        find(GetErrorString, "ncclGetErrorString");
        find(GetUniqueId, "ncclGetUniqueId");
        find(CommInitRank, "ncclCommInitRank");
        find(CommDestroy, "ncclCommDestroy");
        find(CommGetAsyncError, "ncclCommGetAsyncError");
        find(ReduceScatter, "ncclReduceScatter");
        find(AllGather, "ncclAllGather");
        find(Send, "ncclSend");
        find(Recv, "ncclRecv");
        find(GroupStart, "ncclGroupStart");
        find(GroupEnd, "ncclGroupEnd");
    }
    void check(int status, const char* call) const {
        if (status != 0) { throw Error(std::string("nccl") + call + ": " + GetErrorString(status)); }
    }
};

void refuse_shared_cards(Comm& comm) {
    if (comm.size() == 1) { return; }
    char bus[32] = "";
    int device = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetPCIBusId(bus, sizeof bus, device));
    const std::string host = comm.name(comm.rank()).substr(comm.name(comm.rank()).find('('));
    const std::vector<std::string> cards = comm.all_gather(host + bus);
    std::string problem;
    for (int r = 0; r < comm.rank(); r++) {
        if (cards[r] == cards[comm.rank()]) { problem = "uses the same GPU as rank " + std::to_string(r); }
    }
    comm.agree(problem);
}

class Nccl : public DeviceComm {
  public:
    explicit Nccl(Comm& comm) : comm_(comm) {
        refuse_shared_cards(comm);
        UniqueId id{};
        if (comm.rank() == 0) { library_.check(library_.GetUniqueId(&id), "GetUniqueId"); }
        comm.broadcast(&id, sizeof id);
        library_.check(library_.CommInitRank(&handle_, comm.size(), id, comm.rank()), "CommInitRank");
        CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
        CUDA_CHECK(cudaEventCreateWithFlags(&event_, cudaEventDisableTiming));
    }
    ~Nccl() override {
        library_.CommDestroy(handle_);
        cudaEventDestroy(event_);
        cudaStreamDestroy(stream_);
    }

    void reduce_scatter(const Ctx& ctx, float* data, size_t n) override {
        order(ctx.stream, stream_);
        library_.check(
            library_.ReduceScatter(data, data + comm_.rank() * n, n, float32, sum, handle_, stream_),
            "ReduceScatter");
    }
    void all_gather(const Ctx& ctx, void* data, size_t bytes) override {
        order(ctx.stream, stream_);
        library_.check(
            library_.AllGather((char*)data + comm_.rank() * bytes, data, bytes, uint8, handle_, stream_),
            "AllGather");
    }
    void exchange(const Ctx& ctx, const std::vector<Transport::Bytes>& send,
                  const std::vector<Transport::Bytes>& receive) override {
        order(ctx.stream, stream_);
        library_.check(library_.GroupStart(), "GroupStart");
        for (int r = 0; r < comm_.size(); r++) {
            if (r == comm_.rank()) { continue; }
            if (send[r].count > 0) {
                library_.check(library_.Send(send[r].data, send[r].count, uint8, r, handle_, stream_),
                               "Send");
            }
            if (receive[r].count > 0) {
                library_.check(library_.Recv(receive[r].data, receive[r].count, uint8, r, handle_, stream_),
                               "Recv");
            }
        }
        library_.check(library_.GroupEnd(), "GroupEnd");
    }
    // The host waits: so a rank that never answers ends the run, and not only this stream.
    bool finish(const Ctx& ctx, double seconds) override {
        using Clock = std::chrono::steady_clock;
        CUDA_CHECK(cudaStreamSynchronize(ctx.stream));  // the time for this rank's own work does not count
        CUDA_CHECK(cudaEventRecord(event_, stream_));
        const Clock::time_point begin = Clock::now();
        while (cudaEventQuery(event_) == cudaErrorNotReady) {
            int status = 0;
            library_.check(library_.CommGetAsyncError(handle_, &status), "CommGetAsyncError");
            if (status != 0) { return false; }
            if (std::chrono::duration<double>(Clock::now() - begin).count() > seconds) { return false; }
            std::this_thread::yield();
        }
        order(stream_, ctx.stream);
        return true;
    }

  private:
    // What is launched on `later` from now on waits for all that was launched on `earlier`.
    void order(cudaStream_t earlier, cudaStream_t later) {
        CUDA_CHECK(cudaEventRecord(event_, earlier));
        CUDA_CHECK(cudaStreamWaitEvent(later, event_, 0));
    }
    Comm& comm_;
    const Library library_;
    Handle handle_ = nullptr;
    cudaStream_t stream_;
    cudaEvent_t event_;
};

}  // namespace

std::unique_ptr<DeviceComm> gpu_comm(Comm& comm) { return std::make_unique<Nccl>(comm); }

#endif

}  // namespace moba

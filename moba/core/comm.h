/* The ranks of a run: one program, started several times by mpirun or srun. Each rank computes a part of the
   samples; here they exchange gradients, weights and numbers.

   Use      Comm comm(open_mpi);                                // mpi.h; in tests the ranks are threads
            comm.start_reduce_scatter(ctx, g, received, n);
            ...                                                 // computes something else meanwhile
            comm.finish(ctx);                                   // now g has the sums
   Order    every rank makes the same calls in the same order. start_ functions return at once; a thread of
            the Comm does them one after another. All other functions wait for their own result
   Bits     sums are added in the order of the ranks. So two runs with the same ranks have the same bits, and
            all ranks have the same sum
   Cost     bytes that a rank of R sends: see each function; sent() counts them
   Faults   a rank that sends nothing for as long as set_timeout() says: Error, which names it. A connection
            that breaks: Error. Then the ranks are out of step, and only abort() is left */
#pragma once
#include "moba/core/base.h"
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace moba {

/* What Comm needs to move bytes. exchange() and abort() are called by one thread only, which also opens and
   ends it. */
class Transport {
  public:
    struct Bytes {
        void* data = nullptr;
        size_t count = 0;
    };
    struct Limits {
        std::atomic<double> seconds{300};  // without progress
        std::atomic<bool> aborted{false};  // give up now
    };
    struct Silence {  // thrown: the time is up, and nothing came from this rank
        int rank;
    };
    virtual ~Transport() = default;
    virtual int rank() const = 0;
    virtual int size() const = 0;
    /* send[r] to rank r and receive[r] from rank r, for all r but the own one. Throws Error, Silence. */
    virtual void exchange(const std::vector<Bytes>& send, const std::vector<Bytes>& receive,
                          const Limits&) = 0;
    /* Ends the other ranks too, where that is possible. */
    virtual void abort() = 0;
};

/* What ranks exchange in the memory of a device that is not the host's: NCCL (nccl.cu). As the start_
   functions of Comm: each returns before the data is there. */
class DeviceComm {
  public:
    virtual ~DeviceComm() = default;
    virtual void reduce_scatter(const Ctx&, float* data, size_t n) = 0;
    virtual void all_gather(const Ctx&, void* data, size_t bytes) = 0;
    virtual void exchange(const Ctx&, const std::vector<Transport::Bytes>& send,
                          const std::vector<Transport::Bytes>& receive) = 0;
    /* False: something did not come within this time. */
    virtual bool finish(const Ctx&, double seconds) = 0;
};

/* Thrown on all ranks together, so that they can end in order. OtherRank: nothing is left to print. */
struct AgreedError : Error {
    using Error::Error;
};
struct OtherRank {};

class Comm {
  public:
    Comm();                // alone: rank 0 of 1; every function is then a no-op
    static Comm& alone();  // one for all models that do not get another
    explicit Comm(std::function<std::unique_ptr<Transport>()> open);
    /* Rank 0 of a run that is only planned: with others, but nothing can be sent to them. */
    static std::unique_ptr<Comm> planned(int size, bool gpus);
    ~Comm();
    Comm(const Comm&) = delete;

    int rank() const { return rank_; }
    int size() const { return size_; }
    int local_rank() const { return local_rank_; }  // among the ranks of this host
    int local_size() const { return local_size_; }
    std::string name(int rank) const;  // "rank 1 (host b)"
    void set_timeout(double seconds) { limits_.seconds = seconds; }
    void set_device(std::unique_ptr<DeviceComm> d) { device_ = std::move(d); }
    size_t sent() const { return sent_; }                                     // bytes, to all other ranks
    size_t bytes_to_others(const std::vector<Transport::Bytes>& send) const;  // by rank

    // ---- tensors, in the memory of the device
    /* data (R, n): slice `rank` becomes the sum of this slice over all ranks; the other slices are then not
       defined. received (R, n): scratch, unused where reduces_in_place(). X: float, double. Sends n. */
    template <class X>
    void start_reduce_scatter(const Ctx&, X* data, X* received, size_t n);
    bool reduces_in_place() const { return device_ || planned_gpus_; }
    /* data (R, bytes): slice r becomes that of rank r. Sends bytes. */
    void start_all_gather(const Ctx&, void* data, size_t bytes);
    /* send[r] to rank r, receive[r] from rank r, for all r but the own one, in device memory. */
    void start_exchange(const Ctx&, const std::vector<Transport::Bytes>& send,
                        const std::vector<Transport::Bytes>& receive);
    void finish(const Ctx&);  // work that is launched from now on has the results
    void drain() noexcept;    // before memory of a started job is freed; errors stay for the next call

    // ---- host memory
    /* x[i] becomes the sum over the ranks. Sends n. */
    void all_reduce(double* x, size_t n);
    /* The same in host memory. */
    void exchange(const std::vector<Transport::Bytes>& send, const std::vector<Transport::Bytes>& receive);
    /* parts[r] is filled by rank r: mine goes to all others. Sends of it. */
    void all_gather(const std::vector<Transport::Bytes>& parts);
    /* The texts of all ranks, in their order. */
    std::vector<std::string> all_gather(const std::string& mine);
    /* data of rank 0 to all: it sends bytes. */
    void broadcast(void* data, size_t bytes);
    /* Waits for all ranks. If one or more of them have a problem, all throw: rank 0 an AgreedError with the
       first problem and the rank that has it, the others OtherRank. */
    void agree(const std::string& problem);

    /* After an Error in a part where the others cannot know of it. Does not return. */
    [[noreturn]] void abort(int status);

  private:
    using Parts = std::vector<Transport::Bytes>;
    void work(const std::function<std::unique_ptr<Transport>()>& open);
    void end_thread();
    void start(std::function<void()> job);
    void wait();
    void find_hosts();
    Parts slices(void* data, size_t bytes) const;                // of `bytes` each
    void exchange_now(const Parts& send, const Parts& receive);  // in the thread

    int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
    std::vector<std::string> hosts_;
    bool planned_gpus_ = false;
    Transport::Limits limits_;
    std::unique_ptr<Transport> transport_;
    std::unique_ptr<DeviceComm> device_;
    std::atomic<size_t> sent_{0};

    // The thread and its jobs
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> jobs_;
    size_t done_ = 0, started_ = 0;
    bool end_ = false;
    std::exception_ptr failed_;  // from then on no job is done
    std::thread thread_;
};

}  // namespace moba

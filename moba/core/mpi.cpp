#include "moba/core/mpi.h"
#include <chrono>
#include <cstdlib>
#include <thread>
#ifdef MOBA_MPI
#include <mpi.h>
#endif

namespace moba {

// The first of these variables that is set says how many processes were started together.
static int processes_started() {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_NUM_TASKS"}) {
        const char* value = std::getenv(name);
        if (value && std::atoi(value) > 0) { return std::atoi(value); }
    }
    return 1;
}

#ifdef MOBA_MPI

// Whether whoever started the processes told them how to find each other.
static bool can_meet() {
    for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}) {
        if (std::getenv(name)) { return true; }
    }
    return false;
}

bool started_as_rank() {
    const int started = processes_started();
    need(started == 1 || can_meet(), std::to_string(started) +
                                         " processes were started together, but MPI cannot " +
                                         "connect them: use srun --mpi=pmix, or mpirun");
    return started > 1;
}

namespace {

using Clock = std::chrono::steady_clock;

void check(int status, const char* call) {
    if (status == MPI_SUCCESS) { return; }
    char text[MPI_MAX_ERROR_STRING];
    int length = 0;
    MPI_Error_string(status, text, &length);
    throw Error(std::string(call) + ": " + std::string(text, length));
}

class Mpi : public Transport {
  public:
    Mpi() {
        int threads;
        check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &threads), "MPI_Init_thread");
        MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
        const int started = processes_started();
        need(size_ == started, std::to_string(started) + " processes were started together, but MPI knows " +
                                   std::to_string(size_) +
                                   ": use the mpirun of this MPI, or srun --mpi=pmix");
    }
    ~Mpi() override {
        if (!lost_) { MPI_Finalize(); }  // it would wait for a rank that is lost
    }
    int rank() const override { return rank_; }
    int size() const override { return size_; }
    void abort() override { MPI_Abort(MPI_COMM_WORLD, 1); }

    void exchange(const std::vector<Bytes>& send, const std::vector<Bytes>& receive,
                  const Limits& limits) override {
        requests_.clear();
        partners_.clear();
        for (int i = 1; i < size_; i++) { add<MPI_Irecv>(receive, (rank_ + size_ - i) % size_, "MPI_Irecv"); }
        for (int i = 1; i < size_; i++) { add<MPI_Isend>(send, (rank_ + i) % size_, "MPI_Isend"); }
        lost_ = true;  // until everything has come
        finish(limits);
        lost_ = false;
    }

  private:
    // In pieces: MPI counts in int, and each piece that arrives shows that the other rank is there.
    template <auto start>
    void add(const std::vector<Bytes>& parts, int partner, const char* call) {
        constexpr size_t most = 64 << 20;
        for (size_t at = 0; at < parts[partner].count; at += most) {
            const int bytes = (int)std::min(most, parts[partner].count - at);
            MPI_Request request;
            check(
                start((char*)parts[partner].data + at, bytes, MPI_BYTE, partner, 0, MPI_COMM_WORLD, &request),
                call);
            requests_.push_back(request);
            partners_.push_back(partner);
        }
    }

    /* Asks again and again, first without a pause, later with pauses, so that other ranks on this machine get
       the processor. */
    void finish(const Limits& limits) {
        std::vector<int> done(requests_.size());
        Clock::time_point progress = Clock::now();
        for (size_t left = requests_.size(), idle = 0; left > 0;) {
            int count = 0;
            check(MPI_Testsome((int)requests_.size(), requests_.data(), &count, done.data(),
                               MPI_STATUSES_IGNORE),
                  "MPI_Testsome");
            if (count > 0) {
                left -= count, idle = 0, progress = Clock::now();
                continue;
            }
            if (limits.aborted) { throw Error("stopped"); }
            const std::chrono::duration<double> waited = Clock::now() - progress;
            if (waited.count() > limits.seconds) { throw Silence{first_open()}; }
            idle++;
            if (idle > 10000) {
                std::this_thread::sleep_for(std::chrono::microseconds(50));
            } else if (idle > 100) {
                std::this_thread::yield();
            }
        }
    }
    int first_open() const {
        for (size_t i = 0; i < requests_.size(); i++) {
            if (requests_[i] != MPI_REQUEST_NULL) { return partners_[i]; }
        }
        return -1;
    }

    int rank_ = 0, size_ = 1;
    bool lost_ = false;  // an exchange has failed
    std::vector<MPI_Request> requests_;
    std::vector<int> partners_;  // of each request
};

}  // namespace

std::unique_ptr<Transport> open_mpi() { return std::make_unique<Mpi>(); }

#else

bool started_as_rank() {
    const int started = processes_started();
    need(started == 1, std::to_string(started) +
                           " processes were started together, but this program was built " +
                           "without MPI: install it (Debian: libopenmpi-dev), then build again");
    return false;
}
std::unique_ptr<Transport> open_mpi() { return nullptr; }

#endif

}  // namespace moba

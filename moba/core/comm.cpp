#include "moba/core/comm.h"
#include <chrono>
#include <unistd.h>

namespace moba {

Comm::Comm() = default;

Comm& Comm::alone() {
    static Comm comm;
    return comm;
}

Comm::Comm(std::function<std::unique_ptr<Transport>()> open) {
    thread_ = std::thread([this, open] { work(open); });
    started_ = 1;  // the opening itself
    try {
        wait();
        rank_ = transport_->rank(), size_ = transport_->size();
        find_hosts();
    } catch (...) {
        end_thread();
        throw;
    }
}

std::unique_ptr<Comm> Comm::planned(int size, bool gpus) {
    auto comm = std::make_unique<Comm>();
    comm->size_ = size, comm->planned_gpus_ = gpus;
    return comm;
}

Comm::~Comm() { end_thread(); }

void Comm::end_thread() {
    if (!thread_.joinable()) { return; }
    {
        const std::lock_guard lock(mutex_);
        end_ = true;
    }
    changed_.notify_all();
    thread_.join();
}

// ---- the thread

void Comm::work(const std::function<std::unique_ptr<Transport>()>& open) {
    std::unique_lock lock(mutex_);
    const auto attempt = [&](const auto& job) {
        lock.unlock();
        std::exception_ptr error;
        try {
            job();
        } catch (...) { error = std::current_exception(); }
        lock.lock();
        if (!failed_) { failed_ = error; }
        done_++;
        changed_.notify_all();
    };
    attempt([&] { transport_ = open(); });
    while (true) {
        changed_.wait(lock, [&] { return end_ || !jobs_.empty() || limits_.aborted; });
        if (limits_.aborted) {
            if (transport_) { transport_->abort(); }
            return;
        }
        if (jobs_.empty()) { break; }
        const std::function<void()> job = std::move(jobs_.front());
        jobs_.pop_front();
        attempt([&] {
            if (!failed_) { job(); }
        });
    }
    lock.unlock();
    transport_.reset();  // in the thread that began it
}

void Comm::start(std::function<void()> job) {
    {
        const std::lock_guard lock(mutex_);
        jobs_.push_back(std::move(job));
        started_++;
    }
    changed_.notify_all();
}

void Comm::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ == started_; });
    if (failed_) { std::rethrow_exception(failed_); }
}

void Comm::abort(int status) {
    std::fflush(nullptr);
    if (thread_.joinable()) {
        {
            const std::lock_guard lock(mutex_);
            limits_.aborted = true;
        }
        changed_.notify_all();
        std::this_thread::sleep_for(std::chrono::seconds(5));  // the thread ends all ranks before
    }
    _exit(status);
}

void Comm::exchange_now(const Parts& send, const Parts& receive) {
    try {
        transport_->exchange(send, receive, limits_);
    } catch (const Transport::Silence& s) {
        char text[64];
        std::snprintf(text, sizeof text, " has not answered for %g s (--timeout)", (double)limits_.seconds);
        throw Error(name(s.rank) + text);
    }
    sent_ += bytes_to_others(send);
}

size_t Comm::bytes_to_others(const Parts& send) const {
    size_t bytes = 0;
    for (int r = 0; r < size_; r++) { bytes += r == rank_ ? 0 : send[r].count; }
    return bytes;
}

// ---- tensors

Comm::Parts Comm::slices(void* data, size_t bytes) const {
    Parts parts;
    for (int r = 0; r < size_; r++) { parts.push_back({(char*)data + r * bytes, bytes}); }
    return parts;
}

// Rank r gets slice r of every other rank, and adds them in the order of the ranks.
template <class X>
void Comm::start_reduce_scatter(const Ctx& ctx, X* data, X* received, size_t n) {
    if (size_ == 1) { return; }
    if constexpr (std::is_same_v<X, float>) {
        if (device_) {
            sent_ += (size_ - 1) * n * sizeof(X);
            return device_->reduce_scatter(ctx, data, n);
        }
    }
    start([=, this] {
        exchange_now(slices(data, n * sizeof(X)), slices(received, n * sizeof(X)));
        X* const mine = data + rank_ * n;
        X* const sum = rank_ == 0 ? mine : received;
        for (int r = 1; r < size_; r++) {
            const X* slice = r == rank_ ? mine : received + r * n;
            for (size_t i = 0; i < n; i++) { sum[i] += slice[i]; }
        }
        if (sum != mine) { std::memcpy((void*)mine, sum, n * sizeof(X)); }
    });
}
template void Comm::start_reduce_scatter(const Ctx&, float*, float*, size_t);
template void Comm::start_reduce_scatter(const Ctx&, double*, double*, size_t);

void Comm::start_all_gather(const Ctx& ctx, void* data, size_t bytes) {
    if (size_ == 1) { return; }
    if (device_) {
        sent_ += (size_ - 1) * bytes;
        return device_->all_gather(ctx, data, bytes);
    }
    start([=, this] {
        exchange_now(Parts(size_, {(char*)data + rank_ * bytes, bytes}), slices(data, bytes));
    });
}

void Comm::start_exchange(const Ctx& ctx, const Parts& send, const Parts& receive) {
    if (size_ == 1) { return; }
    if (device_) {
        sent_ += bytes_to_others(send);
        return device_->exchange(ctx, send, receive);
    }
    start([=, this] { exchange_now(send, receive); });
}

void Comm::exchange(const Parts& send, const Parts& receive) {
    if (size_ == 1) { return; }
    start([&] { exchange_now(send, receive); });
    wait();
}

void Comm::drain() noexcept {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ == started_; });
}

void Comm::finish(const Ctx& ctx) {
    if (size_ == 1) { return; }
    wait();
    if (!device_ || device_->finish(ctx, limits_.seconds)) { return; }
    // No exception: to free memory, CUDA would wait for the device, which waits for the lost rank.
    std::string problem = "the GPUs of the ranks have not answered each other (--timeout)";
    try {
        all_gather("");
    } catch (const std::exception& e) { problem = e.what(); }  // names the rank that is silent
    std::fprintf(stderr, "moba: %s: %s\n", name(rank_).c_str(), problem.c_str());
    abort(1);
}

// ---- host memory

void Comm::all_reduce(double* x, size_t n) {
    if (size_ == 1) { return; }
    std::vector<double> all(size_ * n);
    std::memcpy(all.data() + rank_ * n, x, n * sizeof(double));
    all_gather(slices(all.data(), n * sizeof(double)));
    for (size_t i = 0; i < n; i++) {
        x[i] = 0;
        for (int r = 0; r < size_; r++) { x[i] += all[r * n + i]; }
    }
}

void Comm::all_gather(const Parts& parts) {
    if (size_ == 1) { return; }
    start([&] { exchange_now(Parts(size_, parts[rank_]), parts); });
    wait();
}

std::vector<std::string> Comm::all_gather(const std::string& mine) {
    std::vector<uint64_t> length(size_);
    std::vector<std::string> all(size_);
    length[rank_] = mine.size(), all[rank_] = mine;
    Parts parts(size_);
    for (int r = 0; r < size_; r++) { parts[r] = {&length[r], sizeof(uint64_t)}; }
    all_gather(parts);
    for (int r = 0; r < size_; r++) {
        all[r].resize(length[r]);
        parts[r] = {all[r].data(), all[r].size()};
    }
    all_gather(parts);
    return all;
}

void Comm::broadcast(void* data, size_t bytes) {
    if (size_ == 1) { return; }
    start([=, this] {
        Parts send(size_), receive(size_);
        for (int r = 1; rank_ == 0 && r < size_; r++) { send[r] = {data, bytes}; }
        if (rank_ > 0) { receive[0] = {data, bytes}; }
        exchange_now(send, receive);
    });
    wait();
}

void Comm::agree(const std::string& problem) {
    if (size_ == 1) { return need(problem.empty(), problem); }
    const std::vector<std::string> problems = all_gather(problem);
    for (int r = 0; r < size_; r++) {
        if (problems[r].empty()) { continue; }
        if (rank_ > 0) { throw OtherRank(); }
        throw AgreedError(r == 0 ? problems[r] : name(r) + ": " + problems[r]);
    }
}

void Comm::find_hosts() {
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    hosts_ = all_gather(host);
    local_size_ = 0;
    for (int r = 0; r < size_; r++) {
        if (hosts_[r] != hosts_[rank_]) { continue; }
        local_rank_ += r < rank_;
        local_size_++;
    }
}

std::string Comm::name(int rank) const {
    return "rank " + std::to_string(rank) + (hosts_.empty() ? "" : " (host " + hosts_[rank] + ")");
}

}  // namespace moba

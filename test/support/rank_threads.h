/* Ranks as threads of one process: for tests, a debugger, and ThreadSanitizer. */
#pragma once
#include "moba/core/comm.h"
#include <chrono>
#include <cstring>
#include <gtest/gtest.h>
#include <map>

namespace moba {

/* Where the messages between these ranks lie until they are fetched. */
class RankThreads {
  public:
    explicit RankThreads(int size) : size_(size) {}

    std::unique_ptr<Transport> open(int rank) { return std::make_unique<End>(*this, rank); }

  private:
    class End : public Transport {
      public:
        End(RankThreads& all, int rank) : all_(all), rank_(rank) {}
        int rank() const override { return rank_; }
        int size() const override { return all_.size_; }
        void abort() override {}
        void exchange(const std::vector<Bytes>& send, const std::vector<Bytes>& receive,
                      const Limits& limits) override {
            for (int r = 0; r < size(); r++) {
                const char* from = (const char*)send[r].data;
                if (r != rank_ && send[r].count > 0) { all_.put(rank_, r, {from, from + send[r].count}); }
            }
            for (int r = 0; r < size(); r++) {
                if (r == rank_ || receive[r].count == 0) { continue; }
                const std::vector<char> message = all_.get(r, rank_, limits.seconds);
                if (message.size() != receive[r].count) { throw Error("a message of another length"); }
                std::memcpy(receive[r].data, message.data(), message.size());
            }
        }

      private:
        RankThreads& all_;
        int rank_;
    };

    void put(int from, int to, std::vector<char> message) {
        const std::lock_guard lock(mutex_);
        messages_[{from, to}].push_back(std::move(message));
        changed_.notify_all();
    }
    std::vector<char> get(int from, int to, double seconds) {
        std::unique_lock lock(mutex_);
        auto& waiting = messages_[{from, to}];
        if (!changed_.wait_for(lock, std::chrono::duration<double>(seconds),
                               [&] { return !waiting.empty(); })) {
            throw Transport::Silence{from};
        }
        std::vector<char> message = std::move(waiting.front());
        waiting.pop_front();
        return message;
    }

    const int size_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::pair<int, int>, std::deque<std::vector<char>>> messages_;
};

/* What NCCL does for Comm, done by a second Comm: so the code beside NCCL is tested without a GPU. */
class HostDeviceComm : public DeviceComm {
  public:
    HostDeviceComm(RankThreads& ranks, int rank) : comm_([&ranks, rank] { return ranks.open(rank); }) {}
    void reduce_scatter(const Ctx& ctx, float* data, size_t n) override {
        received_.resize(comm_.size() * n);
        comm_.start_reduce_scatter(ctx, data, received_.data(), n);
        comm_.finish(ctx);
    }
    void all_gather(const Ctx& ctx, void* data, size_t bytes) override {
        comm_.start_all_gather(ctx, data, bytes);
        comm_.finish(ctx);
    }
    void exchange(const Ctx&, const std::vector<Transport::Bytes>& send,
                  const std::vector<Transport::Bytes>& receive) override {
        comm_.exchange(send, receive);
    }
    bool finish(const Ctx&, double) override { return true; }

  private:
    Comm comm_;
    std::vector<float> received_;
};

/* Calls f(comm) on each of `size` ranks, all at once. */
inline void run_ranks(int size, const std::function<void(Comm&)>& f) {
    RankThreads ranks(size);
    std::vector<std::thread> threads;
    for (int r = 0; r < size; r++) {
        threads.emplace_back([&, r] {
            try {
                Comm comm([&, r] { return ranks.open(r); });
                f(comm);
            } catch (const std::exception& e) { ADD_FAILURE() << "rank " << r << ": " << e.what(); }
        });
    }
    for (std::thread& t : threads) { t.join(); }
}

}  // namespace moba

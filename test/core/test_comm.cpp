#include "moba/core/comm.h"
#include "test/support/rank_threads.h"

namespace moba {

namespace {

const Ctx cpu{};

TEST(Comm, AloneDoesNothing) {
    Comm comm;
    std::vector<double> x = {1, 2};
    comm.start_reduce_scatter(cpu, x.data(), x.data(), 2);
    comm.start_all_gather(cpu, x.data(), 16);
    comm.finish(cpu);
    comm.all_reduce(x.data(), 2);
    comm.broadcast(x.data(), 16);
    comm.agree("");
    EXPECT_EQ(x, (std::vector<double>{1, 2}));
    EXPECT_EQ(comm.all_gather("mine"), std::vector<std::string>{"mine"});
    EXPECT_EQ(comm.sent(), 0u);
    EXPECT_THROW(comm.agree("broken"), Error);
}

// Numbers whose sum depends on the order of the additions.
float value(int rank, size_t i) { return (rank % 2 ? 1e8f : 1.f) * (float)(rank + 1) / (float)(i + 1); }

TEST(Comm, ReduceScatterAddsInTheOrderOfTheRanks) {
    for (int R : {2, 3, 4}) {
        for (size_t n : {1, 5, 1000}) {
            run_ranks(R, [&](Comm& comm) {
                std::vector<float> x(R * n), received(R * n);
                for (size_t i = 0; i < x.size(); i++) { x[i] = value(comm.rank(), i); }
                const size_t before = comm.sent();
                comm.start_reduce_scatter(cpu, x.data(), received.data(), n);
                comm.finish(cpu);
                EXPECT_EQ(comm.sent() - before, (R - 1) * n * sizeof(float));
                for (size_t i = comm.rank() * n; i < (comm.rank() + 1) * n; i++) {
                    float sum = value(0, i);
                    for (int r = 1; r < R; r++) { sum += value(r, i); }
                    ASSERT_EQ(x[i], sum) << "R = " << R << ", n = " << n << ", i = " << i;
                }
            });
        }
    }
}

// Several at once: they are done in the order in which they were started.
TEST(Comm, StartedOneAfterAnother) {
    run_ranks(3, [](Comm& comm) {
        std::vector<std::vector<double>> sums(20, std::vector<double>(3));
        std::vector<double> received(3);
        std::vector<int> all(3, -1);
        for (size_t i = 0; i < sums.size(); i++) {
            for (double& x : sums[i]) { x = (double)(i * 10 + comm.rank()); }
            comm.start_reduce_scatter(cpu, sums[i].data(), received.data(), 1);
        }
        all[comm.rank()] = comm.rank() * 7;
        comm.start_all_gather(cpu, all.data(), sizeof(int));
        comm.finish(cpu);
        for (size_t i = 0; i < sums.size(); i++) { EXPECT_EQ(sums[i][comm.rank()], (double)(i * 30 + 3)); }
        EXPECT_EQ(all, (std::vector<int>{0, 7, 14}));
    });
}

TEST(Comm, NumbersAndTexts) {
    run_ranks(4, [](Comm& comm) {
        const int rank = comm.rank();
        EXPECT_EQ(comm.size(), 4);
        EXPECT_EQ(comm.local_rank(), rank);
        EXPECT_EQ(comm.local_size(), 4);
        double x[] = {(double)rank, 1e16, rank == 2 ? 1.0 : 0.0};
        comm.all_reduce(x, 3);
        EXPECT_EQ(std::vector<double>(x, x + 3), (std::vector<double>{6, 4e16, 1}));
        const std::string mine(rank * 1000, (char)('a' + rank));
        const std::vector<std::string> texts = comm.all_gather(mine);
        for (int r = 0; r < 4; r++) { EXPECT_EQ(texts[r], std::string(r * 1000, (char)('a' + r))); }
        int from_0 = rank == 0 ? 42 : -1;
        comm.broadcast(&from_0, sizeof from_0);
        EXPECT_EQ(from_0, 42);
        // parts of different lengths, one of them empty
        std::vector<char> whole(6, '.');
        std::vector<Transport::Bytes> parts = {
            {&whole[0], 3}, {&whole[3], 0}, {&whole[3], 1}, {&whole[4], 2}};
        std::memset(parts[rank].data, 'a' + rank, parts[rank].count);
        comm.all_gather(parts);
        EXPECT_EQ(std::string(whole.begin(), whole.end()), "aaacdd");
    });
}

TEST(Comm, AgreeNamesTheRankWithTheProblem) {
    run_ranks(3, [](Comm& comm) {
        comm.agree("");
        std::string message;
        try {
            comm.agree(comm.rank() == 0 ? "" : "no such file " + std::to_string(comm.rank()));
        } catch (const AgreedError& e) { message = e.what(); } catch (const OtherRank&) {
            message = "other";
        }
        EXPECT_EQ(message, comm.rank() == 0 ? comm.name(1) + ": no such file 1" : "other");
        // the ranks are still in step
        double one = 1;
        comm.all_reduce(&one, 1);
        EXPECT_EQ(one, 3);
    });
}

TEST(Comm, SilentRankIsNamed) {
    std::atomic<int> failed{0};
    run_ranks(3, [&](Comm& comm) {
        comm.set_timeout(0.2);
        if (comm.rank() == 1) {  // does not take part
            while (failed < 2) { std::this_thread::yield(); }
            return;
        }
        std::vector<float> x(3), received(3);
        comm.start_reduce_scatter(cpu, x.data(), received.data(), 1);
        for (int again = 0; again < 2; again++) {  // the second time nothing is tried
            try {
                again ? comm.agree("") : comm.finish(cpu);
                ADD_FAILURE() << "no error";
            } catch (const Error& e) {
                EXPECT_EQ(e.what(), comm.name(1) + " has not answered for 0.2 s (--timeout)");
            }
        }
        failed++;
    });
}

TEST(Comm, OpeningFails) {
    EXPECT_THROW(Comm([]() -> std::unique_ptr<Transport> { throw Error("no network"); }), Error);
}

}  // namespace

}  // namespace moba

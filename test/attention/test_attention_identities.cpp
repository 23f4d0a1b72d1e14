/* Attention: settings that must give equal results, independence of other sequences, and equal bits. */
#include "test/support/attention_case.h"

namespace moba {

namespace {

using namespace attention_case;

void expect_equal(const char* what, const Result<double>& a, const Result<double>& b) {
    expect_error(std::string(what) + " out", error_of(a.out, b.out), 6e-15);
    expect_error(std::string(what) + " lse", error_of(a.lse, b.lse), 6e-15);
    expect_error(std::string(what) + " dq", error_of(a.dq, b.dq), 6e-15);
    expect_error(std::string(what) + " dk", error_of(a.dk, b.dk), 6e-15);
    expect_error(std::string(what) + " dv", error_of(a.dv, b.dv), 6e-15);
}

TEST(Attention, Identities) {
    const std::vector<int> lengths{100, 1, 47};
    for (int version : {1, 2}) {
        const auto at = [&](const Case& c) { return run<double, double>(c, version); };
        const Result<double> all = at({lengths, 4, 2, 6});
        expect_equal("K >= N is full:", at({lengths, 4, 2, 6, moba, 0, 16, 7}), all);
        expect_equal("recent, K >= N is full:", at({lengths, 4, 2, 6, moba, 0, 16, 9, 1, Gate::recent}), all);
        expect_equal("window >= T is full:", at({lengths, 4, 2, 6, window, 100}), all);
        // K = 1: every block acts as a separate sequence
        expect_equal("K = 1 is block-local:", at({{16, 16, 16, 1, 16, 16, 4}, 4, 2, 6}),
                     at({{49, 36}, 4, 2, 6, moba, 0, 16, 1}));
        expect_equal("the 2 most recent are all of 32:", at({{32}, 2, 1, 6, moba, 0, 16, 2, 1, Gate::recent}),
                     at({{32}, 2, 1, 6}));
        // window 1: each token sees only itself
        const Result<double> self = at({lengths, 2, 2, 6, window, 1});
        expect_error("window 1 out", error_of(self.out, draw<double>(self.out.size(), 3)), 1e-15);
        expect_error("window 1 dv", error_of(self.dv, draw<double>(self.out.size(), 4)), 2e-15);
        expect_error("window 1 dq", max_abs(self.dq.data(), self.dq.size()), 6e-15);
    }
}

// The results of a sequence do not depend on the other sequences of the batch.
TEST(Attention, PackedEqualsAlone) {
    for (const Case& both : {Case{{130, 75}, 2, 1, 6}, Case{{130, 75}, 2, 1, 6, window, 20},
                             Case{{130, 75}, 2, 1, 6, moba}, Case{{130, 75}, 2, 2, 6, moba, 0, 32, 2, 2}}) {
        Case one = both;
        one.lengths = {130};  // draw() begins with the same numbers
        const Result<double> a = run<double, double>(both, 2), b = run<double, double>(one, 2);
        const auto begins = [](const std::vector<double>& x, const std::vector<double>& y) {
            return error_of(std::vector<double>(x.begin(), x.begin() + y.size()), y);
        };
        expect_error("packed out", begins(a.out, b.out), 6e-15);
        expect_error("packed dq", begins(a.dq, b.dq), 6e-15);
        expect_error("packed dk", begins(a.dk, b.dk), 6e-15);
        expect_error("packed dv", begins(a.dv, b.dv), 6e-15);
    }
}

// The list of block 0 holds every query: longer than one work item (1024 entries) and longer than one tile.
TEST(Attention, EveryQueryChoosesBlockZero) {
    const Case c{{2100}, 2, 1, 2, moba, 0, 16, 2, 1, Gate::sink};
    const Result<double> want = run<double, double>(c, 1);
    expect_equal("block 0 for all", run<double, double>(c, 2), want);
    expect_error("block 0 for all fp32 dk", error_of((run<float, double>(c, 2).dk), want.dk), 4e-6);
}

TEST(Attention, SameBitsOnThreads) {
    for (const Case& c : {Case{{400, 130}, 4, 2, 33 * 2}, Case{{400, 130}, 4, 2, 66, window, 77},
                          Case{{1500, 130}, 4, 2, 66, moba}, Case{{400, 130}, 4, 4, 6, moba, 0, 64, 2, 3},
                          Case{{1100}, 2, 2, 6, moba, 0, 512, 2, 2}}) {
        for (int version : {1, 2}) {
            if (version == 1 && tokens(c) > 1000) { continue; }  // slow
            expect_same_bits_on_threads([&] {
                const Result<float> r = run<float, float>(c, version);
                return bits(r.out, r.lse, r.dq, r.dk, r.dv);
            });
        }
    }
}

// A workspace planned for the largest batch is enough for every smaller one.
TEST(Attention, WorkspaceGrowsWithTheBatch) {
    for (AttentionKind kind : {full, window, moba}) {
        size_t before = 0;
        for (int M : {1, 16, 127, 128, 129, 1000, 5000}) {
            const auto bytes = [&](Direction direction) {
                return attention_workspace_bytes_cpu<float>(M, 1, {64, 2}, shape_of({{M}, 4, 2, 80, kind}),
                                                            direction);
            };
            EXPECT_GE(bytes(Direction::backward), before);
            EXPECT_GE(bytes(Direction::backward), bytes(Direction::forward));
            before = bytes(Direction::backward);
        }
    }
}

}  // namespace

}  // namespace moba

/* The kernels of the gate against the CPU: the choice, the lists, and the prefix sum and sort they use. */
#include "test/support/gate_case.h"
#include "test/support/kernel_case.h"

namespace moba {

// declared again here, because sort.cuh can be included only in .cu files
void prefix_sum_gpu(const Ctx&, int* count, size_t n);
size_t prefix_sum_workspace_bytes(size_t n);
void sort_by_key_gpu(const Ctx&, int* start, int* list, const int* key, size_t n, int bins, int rows);
size_t sort_workspace_bytes(size_t n, int bins, int rows);

namespace {

using namespace gate_case;
using namespace kernel_case;

TEST(Kernels, PrefixSum) {
    // one, two and three levels of tiles
    for (size_t n : {0, 1, 32, 1023, 1024, 1025, 5000, 1 << 20, (1 << 20) + 1}) {
        const std::vector<int> count = draw_below(n, 1, 7);
        std::vector<int> want(n);
        std::exclusive_scan(count.begin(), count.end(), want.begin(), 0);
        auto run = [&](auto& on) {
            int* p = on.template inout<int>("sums", count);
            on.workspace(prefix_sum_workspace_bytes(n));
            prefix_sum_gpu(on.ctx, p, n);
        };
        const Outputs got = run_in<true, float, float>(0, run);
        EXPECT_TRUE(got[0].values == as<double>(want)) << n;
    }
}

TEST(Kernels, BlockMeans) {
    for (Gate rule : {Gate::topk, Gate::max, Gate::lse}) {
        const GateShape s{4, 2, 70, 3, rule};
        std::vector<int> table;
        const Sequences seqs = build_sequences(table, {0, 37, 38, 90}, {8});
        const int parts = parts_of(rule), N = seqs.level[0].num_blocks;
        expect_kernels("block means", 1, [&](auto& on) {
            using E = element<decltype(on)>;
            CALL(block_means, E, on.template output<E>("means", {N, parts, s.G, s.D}),
                 on.input((size_t)90 * s.G * s.D, 1), rebase(seqs, table.data(), on.constant(table)), s);
        });
    }
}

// One, two and three passes; more rows than the workspace can sort at the same time.
TEST(Kernels, SortRows) {
    for (const auto& [n, bins, rows, together] : {std::tuple{0, 3, 2, 2},
                                                  {5000, 255, 3, 3},
                                                  {5000, 256, 3, 3},
                                                  {2049, 70000, 2, 2},
                                                  {200000, 9, 3, 3},
                                                  {3000, 300, 5, 2},
                                                  {3000, 300, 2, 1}}) {
        const std::vector<int> key = draw_below((size_t)n * rows, 1, bins + 1);
        std::vector<int> list, start;
        for (int r = 0; r < rows; r++) {
            const int* of_row = key.data() + (size_t)r * n;
            std::vector<int> count(bins + 2), order(n);
            for (int i = 0; i < n; i++) { count[of_row[i]]++; }
            std::exclusive_scan(count.begin(), count.end(), count.begin(), 0);
            start.insert(start.end(), count.begin(), count.begin() + bins + 1);
            for (int i = 0; i < n; i++) { order[count[of_row[i]]++] = i; }
            list.insert(list.end(), order.begin(), order.end());
        }
        auto run = [&, n = n, bins = bins, rows = rows, together = together](auto& on) {
            int *starts = on.int_output("start", start.size()), *lists = on.int_output("list", list.size());
            on.workspace(sort_workspace_bytes(n, bins, together));
            sort_by_key_gpu(on.ctx, starts, lists, on.constant(key), n, bins, rows);
        };
        const Outputs got = run_in<true, float, float>(0, run);
        EXPECT_TRUE(got[0].values == as<double>(start) && got[1].values == as<double>(list)) << n;
    }
}

TEST(KernelsDeathTest, SortRefusesIndicesThatOverflow) {
    const size_t n = (1ull << 31) - 2048;  // the last chunk would end at 2^31
    EXPECT_EXIT(sort_by_key_gpu({}, nullptr, nullptr, nullptr, n, 3, 1), testing::ExitedWithCode(1),
                "need n <");
}

// The choice made by one version
template <class E>
std::vector<int> choice_of(int version, const Case& c, Gate gate, const std::vector<E>& q,
                           const std::vector<E>& k) {
    const PackedBatch batch(c.lengths, c.sizes());
    const GateShape s = c.shape(gate);
    const int M = batch.seqs.num_tokens;
    auto run = [&](auto& on) {
        int* chosen = on.int_output("chosen", routing_slots(M, c.sizes(), s));
        const Sequences seqs = rebase(batch.seqs, batch.table.data(), on.constant(batch.table));
        on.workspace(gate_workspace_bytes_gpu<E>(M, (int)c.lengths.size(), c.sizes(), s));
        gate_forward_gpu<E>(on.ctx, {chosen, nullptr, nullptr}, on.constant(q), on.constant(k), seqs, s);
    };
    return as<int>(run_in<true, E, E>(version, run)[0].values);
}
// Calls check(choose) for the versions that support all sizes.
template <class F>
void for_versions(F check) {
    for (int version : {1, 2}) {
        check([version](const auto&... of_case) { return choice_of(version, of_case...); });
    }
}

TEST(Kernels, GateTiesAndIntegersAreExact) {
    for_versions([](auto choose) {
        expect_brute_force<float>(1, 1, choose);
        expect_brute_force<bf16>(8, 3, choose);
    });
}
TEST(Kernels, GateSpecialScores) {
    for_versions([](auto choose) {
        expect_special_scores<float>(choose);
        expect_special_scores<bf16>(choose);
    });
}
TEST(Kernels, GateOfParts) {
    const auto choose = [](const auto&... of_case) { return choice_of(1, of_case...); };
    expect_special_parts<float>(choose);
    expect_special_parts<bf16>(choose);
    expect_best<float>(choose, cases, Gate::lse);
    expect_best<bf16>(choose, cases, Gate::lse);
}
TEST(Kernels, GateRandomChoicesAreTheBest) {
    for_versions([](auto choose) {
        expect_best<float>(choose);
        expect_best<bf16>(choose);
    });
}

// Versions 3 and 4, or those of them that fit the card: one tile of means and more, so many that the first
// pass skips some; more tied scores than there can be candidates; groups of heads; sequences that share a
// tile; mixed block sizes; heads that fill no whole row of means.
TEST(Kernels, GateTensorCores) {
    const Case of[] = {{{17}, 16, 1, 1, 1, 64, 2},         {{40}, 1, 1, 2, 1, 64, 1},
                       {{1, 650}, 1, 1, 2, 1, 64, 8},      {{3, 300, 5, 200}, 1, 1, 2, 2, 64, 17},
                       {{300, 40}, 2, 2, 4, 2, 128, 5},    {{140, 1}, 1, 1, 1, 1, 128, 4},
                       {{200}, 1, 1, 1, 1, 32, 33},        {{5, 140}, 2, 1, 2, 1, 80, 6},
                       {{90}, 1, 1, 1, 1, 96, 3},          {{1100}, 1, 1, 1, 1, 16, 8},
                       {{70, 80}, 4, 1, 4, 2, 64, 4, true}};
    const PackedBatch batch({100}, {16});
    const int last = gate_versions_gpu<bf16>(nullptr, batch.seqs, {1, 1, 64, 3, Gate::topk});
    ASSERT_GE(last, 3);
    for (int version = 3; version <= last; version++) {
        const auto choose = [&](const Case& c, Gate gate, const std::vector<bf16>& q,
                                const std::vector<bf16>& k) {
            // K > 8 does not fit 99 KB of shared memory
            const PackedBatch batch(c.lengths, c.sizes());
            const int fits = gate_versions_gpu<bf16>(nullptr, batch.seqs, c.shape(gate));
            EXPECT_TRUE(fits >= 3 || !has_scores(gate) || c.K << (c.levels - 1) > 8) << c.K;
            return choice_of(std::min(version, fits), c, gate, q, k);
        };
        expect_brute_force<bf16>(8, 3, choose, of);
        expect_brute_force<bf16>(1, 1, choose, of);
        expect_brute_force<bf16>(0, 0, choose, of);
        expect_best<bf16>(choose, of);
        expect_special_scores<bf16>(choose, 64);
    }
}

// After the last channel of a query, up to a whole tile, come the channels of the next head. They must not be
// read, or the NaN of that head would change the result.
TEST(Kernels, GateHeadsAreSeparate) {
    const auto expect_same = [&](auto e) {
        using E = decltype(e);
        const Case c{{150}, 16, 1, 2, 1, 80, 3};
        auto q = draw_integers<E>((size_t)tokens(c) * c.H * c.D, 1, 1);
        const auto k = draw_integers<E>((size_t)tokens(c) * c.G * c.D, 2, 1);
        for (size_t i = 0; i < q.size(); i++) {
            if (i / c.D % 2) { q[i] = E(NAN); }
        }
        const std::vector<int> want = brute_force(c, Gate::topk, q, k);
        const PackedBatch batch(c.lengths, c.sizes());
        const int last = gate_versions_gpu<E>(nullptr, batch.seqs, {c.H, c.G, c.D, c.K, Gate::topk});
        for (int version = 1; version <= last; version++) {
            EXPECT_EQ(choice_of(version, c, Gate::topk, q, k), want) << type_name<E>() << version;
        }
    };
    expect_same(float{});
    expect_same(bf16{});
}

// The lists equal those of the CPU entry by entry: random choices, unused slots, a block that every query
// chooses, mixed block sizes.
TEST(Kernels, GateLists) {
    for (const auto& [T, S, K, levels] :
         {std::tuple{1, 16, 1, 1}, {70, 16, 3, 1}, {1500, 16, 4, 1}, {700, 32, 2, 2}}) {
        for (bool popular : {false, true}) {
            const PackedBatch batch({T, 1, T / 2 + 1}, {S, levels});
            const GateShape s{4, 2, 16, K, Gate::topk};
            const size_t slots = routing_slots(batch.seqs.num_tokens, {S, levels}, s);
            const size_t starts = routing_starts(batch.seqs.num_tokens, 3, {S, levels}, s);
            std::vector<int> chosen(slots);
            for (int h = 0; h < s.H; h++) {
                const int k = s.slots(batch.seqs, h),
                          blocks = batch.seqs.level[s.level(batch.seqs, h)].num_blocks;
                const std::vector<int> any = draw_below((size_t)batch.seqs.num_tokens * k, h, blocks + 1);
                for (size_t i = 0; i < any.size(); i++) {
                    chosen[s.first_slot(batch.seqs, h) + i] =
                        popular && i % 3 ? 0 : any[i] - 1;  // -1: unused
                }
            }
            auto run = [&, S = S, levels = levels](auto& on) {
                int* list = on.int_output("list", slots);
                int* start = on.int_output("start", starts);
                const Routing r{on.constant(chosen), start, list};
                if (on.gpu) {
                    on.workspace(gate_lists_workspace_bytes_gpu(batch.seqs.num_tokens, 3, {S, levels}, s));
                    gate_lists_gpu(on.ctx, r, batch.seqs, s);
                } else {
                    gate_lists_cpu(on.ctx, r, batch.seqs, s);
                }
            };
            const Outputs cpu = run_in<false, float, float>(0, run), gpu = run_in<true, float, float>(0, run);
            EXPECT_EQ(gpu[1].values, cpu[1].values) << "starts";
            for (int h = 0; h < s.H; h++) {
                const int blocks = batch.seqs.level[s.level(batch.seqs, h)].num_blocks;
                const size_t first = s.first_slot(batch.seqs, h);
                const size_t used = (size_t)cpu[1].values[s.first_start(batch.seqs, h) + blocks];
                for (size_t i = 0; i < used; i++) {
                    ASSERT_EQ(gpu[0].values[first + i], cpu[0].values[first + i]);
                }
            }
        }
    }
}

}  // namespace

}  // namespace moba

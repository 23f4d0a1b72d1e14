/* The gate's kernels against the CPU: the choice, the lists, and the prefix sum under them. */
#include "moba/gate.h"
#include "test/kernel_case.h"
#include <numeric>

// sort.cuh is for .cu files
void prefix_sum_gpu(const Ctx&, int* count, size_t n);
size_t prefix_sum_workspace_bytes(size_t n);

namespace {

using namespace kernel_case;

TEST(Kernels, PrefixSum) {
    // one tile, two levels of tiles, three
    for (size_t n : {0, 1, 32, 1023, 1024, 1025, 5000, 1 << 20, (1 << 20) + 1}) {
        const std::vector<int> count = draw_below(n, 1, 7);
        std::vector<int> want(n);
        std::exclusive_scan(count.begin(), count.end(), want.begin(), 0);
        auto run = [&](auto& room) {
            int* p = room.template inout<int>("sums", count);
            room.workspace(prefix_sum_workspace_bytes(n));
            prefix_sum_gpu(room.ctx, p, n);
        };
        const Outputs got = run_in<true, float, float>(0, run);
        EXPECT_TRUE(got[0].second == as<double>(want)) << n;
    }
}

// Small whole numbers make scores exact in any order: the choice is the CPU's, ties included, in every gate and block size.
template <class E>
void expect_same_choice(const std::vector<int>& lengths, int S, int levels, GateShape s, int most) {
    const Batch batch(lengths, S, levels);
    const int M = batch.seqs.num_tokens;
    const size_t slots = routing_slots(M, levels, s);
    const std::vector<int>& table = batch.table;
    auto run = [&](auto& room) {
        int* chosen = room.int_output("chosen", slots);
        const int* there = room.constant(table);
        const E* q = room.constant(draw_integers<E>((size_t)M * s.H * s.D, 1, most));
        const E* k = room.constant(draw_integers<E>((size_t)M * s.G * s.D, 2, most));
        const Sequences seqs = rebase(batch.seqs, table.data(), there);
        const Routing r{chosen, nullptr, nullptr};
        if constexpr (std::decay_t<decltype(room)>::gpu) {
            room.workspace(gate_workspace_bytes_gpu<E>(M, (int)lengths.size(), S, levels, s));
            gate_forward_gpu<E>(room.ctx, r, q, k, seqs, s);
        } else {
            room.workspace(gate_workspace_bytes<E>(M, (int)lengths.size(), S, levels, s));
            gate_forward_cpu<E>(room.ctx, r, q, k, seqs, s);
        }
    };
    EXPECT_EQ((run_in<true, E, E>(0, run)), (run_in<false, E, E>(0, run)))
        << "S = " << S << ", K = " << s.K << ", " << type_name<E>();
}

TEST(Kernels, GateChoice) {
    for (const Gate gate : {Gate::topk, Gate::recent, Gate::sink}) {
        for (const auto& [S, K, levels, most] :
             {std::tuple{16, 1, 1, 3}, {16, 3, 1, 1}, {16, 3, 1, 0}, {64, 2, 2, 2}, {16, 64, 1, 2}}) {
            const GateShape s{4, 2, 18, K, gate};
            expect_same_choice<float>({200, 1, 37, 64}, S, levels, s, most);
            expect_same_choice<bf16>({200, 1, 37, 64}, S, levels, s, most);
        }
    }
}

// A mean that is NaN ranks last, an infinite one first.
TEST(Kernels, GateRanksNaNLast) {
    const Batch batch({80}, 16);
    const GateShape s{1, 1, 2, 2, Gate::topk};
    std::vector<float> q(160, 1.f), k(160, 0.f);
    k[0] = NAN, k[2 * 20] = -5;  // blocks 0 and 1; 2 and 3 score 0
    auto run = [&](auto& room) {
        int* chosen = room.int_output("chosen", routing_slots(80, 1, s));
        const Sequences seqs = rebase(batch.seqs, batch.table.data(), room.constant(batch.table));
        room.workspace(1 << 20);
        if constexpr (std::decay_t<decltype(room)>::gpu) {
            gate_forward_gpu<float>(room.ctx, {chosen, nullptr, nullptr}, room.constant(q), room.constant(k),
                                    seqs, s);
        } else {
            gate_forward_cpu<float>(room.ctx, {chosen, nullptr, nullptr}, room.constant(q), room.constant(k),
                                    seqs, s);
        }
    };
    const Outputs gpu = run_in<true, float, float>(0, run);
    EXPECT_EQ(gpu, (run_in<false, float, float>(0, run)));
    EXPECT_EQ(gpu[0].second[2 * 79], 2) << "the lower one of equals, before -5 and NaN";
}

// The lists are the CPU's, entry by entry: random choices, slots not used, a block that everybody picks, mixed block sizes.
TEST(Kernels, GateLists) {
    for (const auto& [T, S, K, levels] :
         {std::tuple{1, 16, 1, 1}, {70, 16, 3, 1}, {1500, 16, 4, 1}, {700, 32, 2, 2}}) {
        for (bool popular : {false, true}) {
            const Batch batch({T, 1, T / 2 + 1}, S, levels);
            const GateShape s{4, 2, 16, K, Gate::topk};
            const size_t slots = routing_slots(batch.seqs.num_tokens, levels, s);
            const size_t starts = routing_starts(batch.seqs.num_tokens, 3, S, levels, s);
            std::vector<int> chosen(slots);
            for (int h = 0; h < s.H; h++) {
                const int k = s.slots(batch.seqs, h),
                          blocks = batch.seqs.level[s.level(batch.seqs, h)].num_blocks;
                const std::vector<int> any = draw_below((size_t)batch.seqs.num_tokens * k, h, blocks + 1);
                for (size_t i = 0; i < any.size(); i++) {
                    chosen[s.first_slot(batch.seqs, h) + i] =
                        popular && i % 3 ? 0 : any[i] - 1;  // -1: not used
                }
            }
            auto run = [&](auto& room) {
                int* list = room.int_output("list", slots);
                int* start = room.int_output("start", starts);
                const Routing r{room.constant(chosen), start, list};
                if (room.gpu) {
                    room.workspace(gate_lists_workspace_bytes_gpu(batch.seqs.num_tokens, 3, S, levels, s));
                    gate_lists_gpu(room.ctx, r, batch.seqs, s);
                } else {
                    gate_lists_cpu(room.ctx, r, batch.seqs, s);
                }
            };
            const Outputs cpu = run_in<false, float, float>(0, run), gpu = run_in<true, float, float>(0, run);
            EXPECT_EQ(gpu[1].second, cpu[1].second) << "starts";
            for (int h = 0; h < s.H; h++) {
                const int blocks = batch.seqs.level[s.level(batch.seqs, h)].num_blocks;
                const size_t first = s.first_slot(batch.seqs, h);
                const size_t used = (size_t)cpu[1].second[s.first_start(batch.seqs, h) + blocks];
                for (size_t i = 0; i < used; i++) {
                    ASSERT_EQ(gpu[0].second[first + i], cpu[0].second[first + i]);
                }
            }
        }
    }
}

}  // namespace

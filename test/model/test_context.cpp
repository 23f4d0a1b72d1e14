/* A sequence on several ranks: the attention of each rank's tokens is that of one rank. */
#include "moba/context_attention.h"
#include "moba/sent_bytes.h"
#include "test/support/model_case.h"
#include "test/support/rank_threads.h"
#include <utility>

namespace moba {

namespace {

using namespace model_case;

TEST(Context, DealsThereAndBack) {
    std::vector<int> table;
    const Sequences s = build_sequences(table, {0, 35, 37}, {4});  // blocks: 9 and 1
    std::vector<int> all(37, -1);
    for (int rank = 0; rank < 3; rank++) {
        const Dealt d = deal(s.level[0], 37, 3, rank);
        EXPECT_EQ(d.owner, (std::vector<int>{0, 1, 2, 2, 1, 0, 0, 1, 2, 2}));
        EXPECT_TRUE(std::is_sorted(d.tokens.begin(), d.tokens.end()));
        for (size_t i = 0; i < d.tokens.size(); i++) {
            EXPECT_EQ(all[d.tokens[i]], -1);
            all[d.tokens[i]] = rank;
            EXPECT_EQ(d.row[d.tokens[i]], (int)i);
            EXPECT_EQ(d.owner_of_token[d.tokens[i]], rank);
        }
        EXPECT_LE((int)d.tokens.size(), most_dealt(37, 2, 4, 3));
    }
    EXPECT_EQ(std::count(all.begin(), all.end(), -1), 0);
}

// Rows of width `width` of these tokens.
template <class X>
std::vector<X> rows_of(const std::vector<X>& x, const std::vector<int>& tokens, size_t width) {
    std::vector<X> out;
    for (int t : tokens) { out.insert(out.end(), x.begin() + t * width, x.begin() + (t + 1) * width); }
    return out;
}

template <class E>
struct Whole {
    std::vector<E> q, k, v, dout, out, dq, dk, dv;
};

template <class E>
struct Problem {
    Config config;
    std::vector<int> cu, table;
    Sequences seqs;
    Whole<E> x;
    std::vector<int> chosen;  // (H, M, K) of a moba layer

    Problem(const Config& c, const std::vector<int>& lengths) : config(c), cu{0} {
        for (int n : lengths) { cu.push_back(cu.back() + n); }
        seqs = build_sequences(table, cu, c.block_sizes());
        const size_t M = cu.back(), nq = M * c.num_heads * c.head_dim, nk = M * c.num_kv_heads * c.head_dim;
        x.q = as<E>(draw<bf16>(nq, 1)), x.k = as<E>(draw<bf16>(nk, 2)), x.v = as<E>(draw<bf16>(nk, 3));
        x.dout = as<E>(draw<bf16>(nq, 4));
        x.out.resize(nq), x.dq.resize(nq), x.dk.resize(nk), x.dv.resize(nk);
    }
    // On one rank.
    void solve() {
        using A = acc_t<E>;
        const int M = cu.back(), B = (int)cu.size() - 1;
        const AttentionShape s = config.attention_shape(0);
        const BlockSizes sizes = config.block_sizes();
        const size_t slots = routing_slots(M, sizes, s.gate);
        chosen.resize(slots);
        std::vector<int> list(slots), start(routing_starts(M, B, sizes, s.gate));
        const Routing r{chosen.data(), start.data(), list.data()};
        std::vector<A> lse((size_t)s.H * M), delta(lse.size());
        Workspace work(std::max(gate_workspace_bytes_cpu<E>(M, B, sizes, s.gate),
                                attention_workspace_bytes_cpu<E>(M, B, sizes, s, Direction::backward)));
        if (s.kind == AttentionKind::moba) {
            gate_forward_cpu<E>(work.ctx, r, x.q.data(), x.k.data(), seqs, s.gate);
            gate_lists_cpu(work.ctx, r, seqs, s.gate);
        }
        attention_forward_cpu<E>(work.ctx, x.out.data(), lse.data(), x.q.data(), x.k.data(), x.v.data(), r,
                                 seqs, s);
        attention_delta_cpu<E>({}, delta.data(), x.dout.data(), x.out.data(), {M, s.H, s.D});
        attention_backward_cpu<E>(work.ctx, x.dq.data(), x.dk.data(), x.dv.data(), x.dout.data(),
                                  delta.data(), x.q.data(), x.k.data(), x.v.data(), lse.data(), r, seqs, s);
    }
};

// What all ranks need to solve it together.
template <class E>
struct Shared {
    ContextAttention<E> attention;
    Arena arena{"context", &cpu_device};
    Workspace work;
    const Ops<E>& op = *find_ops<E>(Device::cpu);

    Shared(const Problem<E>& p, Comm& comm, int most_guests = 0)
        : attention(p.config, p.cu.back(), (int)p.cu.size() - 1, true, Device::cpu, comm, comm.size(),
                    most_guests),
          work(attention.workspace_bytes(*find_workspaces<E>(Device::cpu))) {
        attention.plan(arena);
        arena.allocate();
        attention.plan(arena);
        attention.set_batch(p.seqs);
    }
};

template <class E>
void expect_equal(const Config& c, const std::vector<int>& lengths, double tolerance, int most_guests = 0) {
    Problem<E> p(c, lengths);
    p.solve();
    const Whole<E>& want = p.x;
    const size_t HD = (size_t)c.num_heads * c.head_dim, GD = (size_t)c.num_kv_heads * c.head_dim;
    for (int R : {1, 2, 3, 5}) {
        run_ranks(R, [&](Comm& comm) {
            using A = acc_t<E>;
            Shared<E> shared(p, comm, most_guests);
            auto& [attention, arena, work, op] = shared;
            const std::vector<int>& tokens = attention.dealt().tokens;
            const size_t M = tokens.size();
            const auto q = rows_of(want.q, tokens, HD), k = rows_of(want.k, tokens, GD),
                       v = rows_of(want.v, tokens, GD), dout = rows_of(want.dout, tokens, HD);
            std::vector<E> out(M * HD), dq(M * HD), dk(M * GD), dv(M * GD);
            std::vector<A> lse(M * c.num_heads), delta(lse.size());
            attention.choose(work.ctx, op, 0, q.data(), k.data());
            attention.forward(work.ctx, op, 0, out.data(), lse.data(), q.data(), k.data(), v.data());
            op.attention_delta(work.ctx, delta.data(), dout.data(), out.data(),
                               {(int)M, c.num_heads, c.head_dim});
            attention.backward(work.ctx, op, 0, dq.data(), dk.data(), dv.data(), dout.data(), delta.data(),
                               q.data(), k.data(), v.data(), lse.data());
            std::string broken;
            EXPECT_TRUE(arena.guards_intact(&broken)) << broken;
            EXPECT_TRUE(work.intact());
            const std::string name = std::string(type_name<E>()) + " context ";
            if (c.has(AttentionKind::moba)) {
                EXPECT_EQ(out, rows_of(want.out, tokens, HD)) << "bit for bit, R = " << R;
            } else {  // tiles of queries begin elsewhere
                expect_error(name + "out", relative_error(out, rows_of(want.out, tokens, HD)), tolerance);
            }
            expect_error(name + "dq", relative_error(dq, rows_of(want.dq, tokens, HD)), tolerance);
            expect_error(name + "dk", relative_error(dk, rows_of(want.dk, tokens, GD)), tolerance);
            expect_error(name + "dv", relative_error(dv, rows_of(want.dv, tokens, GD)), tolerance);
        });
    }
}

TEST(Context, AttentionEqualsOneRank) {
    Config c = small("moba", 1);
    c.num_heads = 4, c.num_kv_heads = 2, c.block_size = 8, c.top_k = 3;
    for (Gate gate : {Gate::topk, Gate::max, Gate::lse, Gate::recent, Gate::sink}) {
        for (bool shared : {false, true}) {
            c.gate = gate, c.shared_gate = shared;
            expect_equal<double>(c, {90, 1, 37}, 1e-14);
            expect_equal<float>(c, {90, 1, 37}, 2e-6);
        }
    }
    c.gate = Gate::topk, c.shared_gate = false;
    for (int most_guests : {1, 7, 40}) {  // many rounds
        expect_equal<double>(c, {90, 1, 37}, 1e-14, most_guests);
        expect_equal<float>(c, {90, 1, 37}, 2e-6, most_guests);
    }
    for (int K : {1, 2, 8}) {
        c.top_k = K;
        expect_equal<double>(c, {7}, 1e-14);
        expect_equal<double>(c, {8, 64}, 1e-14);
        expect_equal<float>(c, {200}, 2e-6);
    }
}

// The bytes that a rank sends are those of docs/many.md: a query for each chosen block of another rank.
TEST(Context, BytesAreThoseOfTheFormula) {
    Config c = small("moba", 1);
    c.num_heads = 4, c.num_kv_heads = 2, c.block_size = 8, c.top_k = 3;
    Problem<float> p(c, {90, 1, 37});
    p.solve();
    const size_t M = p.cu.back(), D = c.head_dim, number = sizeof(float);
    for (size_t R : {2, 3}) {
        run_ranks((int)R, [&](Comm& comm) {
            Shared<float> shared(p, comm);
            auto& [attention, arena, work, op] = shared;
            const Dealt& d = attention.dealt();
            size_t out = 0, in = 0;  // queries that this rank sends, that it gets
            for (size_t i = 0; i < p.chosen.size(); i++) {
                const int t = (int)(i / c.top_k % M), n = p.chosen[i];
                if (n < 0 || d.owner[n] == d.owner_of_token[t]) { continue; }
                out += d.owner_of_token[t] == comm.rank(), in += d.owner[n] == comm.rank();
            }
            const size_t nq = d.tokens.size() * c.num_heads * D, nk = d.tokens.size() * c.num_kv_heads * D;
            const auto q = rows_of(p.x.q, d.tokens, c.num_heads * D),
                       k = rows_of(p.x.k, d.tokens, c.num_kv_heads * D);
            std::vector<float> o(nq), dq(nq), dk(nk), dv(nk), lse(nq / D), delta(nq / D);
            size_t before = comm.sent();
            const auto sent = [&] { return comm.sent() - std::exchange(before, comm.sent()); };
            attention.choose(work.ctx, op, 0, q.data(), k.data());
            EXPECT_EQ(sent(), (R - 1) * (d.blocks[comm.rank()].size() * c.num_kv_heads * D * number +
                                         R * c.num_heads * sizeof(int)) +
                                  out * sizeof(int));
            attention.forward(work.ctx, op, 0, o.data(), lse.data(), q.data(), k.data(), k.data());
            EXPECT_EQ(sent(), out * D * number + in * (D + 1) * number);
            attention.backward(work.ctx, op, 0, dq.data(), dk.data(), dv.data(), q.data(), delta.data(),
                               q.data(), k.data(), k.data(), lse.data());
            EXPECT_EQ(sent(), out * (2 * D + 2) * number + in * D * number);
        });
    }
}

/* What a layer sends, forward with its choice and backward: the count without running it is exact where the
   choice is not open. */
template <class E>
void expect_counted_bytes(const Config& c, const std::vector<int>& lengths) {
    const Problem<E> p(c, lengths);
    const size_t HD = (size_t)c.num_heads * c.head_dim, GD = (size_t)c.num_kv_heads * c.head_dim;
    for (int R : {1, 2, 3, 4}) {
        const std::vector<ContextBytes> counted = context_bytes(c, 0, p.cu, R, {sizeof(E), sizeof(acc_t<E>)});
        run_ranks(R, [&](Comm& comm) {
            Shared<E> shared(p, comm);
            auto& [attention, arena, work, op] = shared;
            const std::vector<int>& tokens = attention.dealt().tokens;
            const auto q = rows_of(p.x.q, tokens, HD), k = rows_of(p.x.k, tokens, GD);
            std::vector<E> out(q.size()), dq(q.size()), dk(k.size()), dv(k.size());
            std::vector<acc_t<E>> lse(tokens.size() * c.num_heads), delta(lse.size());
            const size_t at_first = comm.sent();
            size_t before = at_first;
            const auto sent = [&] { return (double)(comm.sent() - std::exchange(before, comm.sent())); };
            attention.choose(work.ctx, op, 0, q.data(), k.data());
            attention.forward(work.ctx, op, 0, out.data(), lse.data(), q.data(), k.data(), k.data());
            EXPECT_EQ(sent(), counted[comm.rank()].forward) << "R = " << R;
            attention.backward(work.ctx, op, 0, dq.data(), dk.data(), dv.data(), q.data(), delta.data(),
                               q.data(), k.data(), k.data(), lse.data());
            EXPECT_EQ(sent(), counted[comm.rank()].backward) << "R = " << R;
            EXPECT_EQ(attention.sent(), comm.sent() - at_first);
        });
    }
}

TEST(Context, BytesAreCountedWithoutRunning) {
    for (const char* layers : {"full", "window:1", "window:7", "window:20", "window:500", "moba"}) {
        Config c = small(layers, 1);
        c.num_heads = 4, c.num_kv_heads = 2, c.block_size = 8;
        if (std::string(layers) == "moba") { c.top_k = 13; }  // all blocks
        for (const std::vector<int>& lengths : {std::vector<int>{90, 1, 37}, {100}, {3}}) {
            expect_counted_bytes<float>(c, lengths);
            expect_counted_bytes<bf16>(c, lengths);
        }
    }
}

// Each of four ranks begins with 25 tokens, whose keys and values are 16 numbers. In a ring it passes on 75.
TEST(Context, BytesOfARing) {
    Config c = small("full", 1);
    c.num_heads = 4, c.num_kv_heads = 2, c.head_dim = 4, c.block_size = 25;
    for (const ContextBytes& b : ring_bytes(c, {0, 100}, 4, {4, 4})) {
        EXPECT_EQ(b.forward, 75 * 16 * 4);
        EXPECT_EQ(b.backward, (75 + 100) * 16 * 4);
    }
    for (const ContextBytes& b : gathering_bytes(c, {0, 100}, 4, {4, 4})) {
        EXPECT_EQ(b.forward, 3 * 25 * 16 * 4);
        EXPECT_EQ(b.backward, (3 * 25 + 75) * 16 * 4);
    }
}

// Hundreds of sequences of one token: as many blocks as tokens.
TEST(Context, ManyShortSequences) {
    std::vector<int> lengths(300, 1);
    lengths.push_back(20);
    for (const char* layers : {"moba", "window:9", "full"}) {
        Config c = small(layers, 1);
        c.block_size = 4, c.top_k = std::string(layers) == "full" ? 1 : 3;
        expect_equal<double>(c, lengths, 1e-14);
    }
}

// Windows shorter and longer than a block, than what lies between two runs of a rank, and than a sequence.
TEST(Context, WindowEqualsOneRank) {
    for (int window : {1, 2, 7, 20, 70, 500}) {
        Config c = small("window:" + std::to_string(window), 1);
        c.num_heads = 4, c.num_kv_heads = 2, c.block_size = 8;
        expect_equal<double>(c, {90, 1, 37}, 1e-14);
        expect_equal<float>(c, {200}, 2e-6);
    }
}

// Up to two whole chunks of 16 blocks, and the blocks after them.
TEST(Context, FullEqualsOneRank) {
    Config c = small("full", 1);
    c.num_heads = 4, c.num_kv_heads = 2, c.block_size = 4;
    for (const std::vector<int>& lengths : {std::vector<int>{150, 1, 37}, {3}, {64, 65}, {200}}) {
        expect_equal<double>(c, lengths, 1e-14);
        expect_equal<float>(c, lengths, 2e-6);
    }
}

}  // namespace

}  // namespace moba

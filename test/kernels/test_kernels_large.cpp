/* Tensors of more than 2^31 elements: an offset stored in an int would overflow. Only the last rows are
   compared, with the CPU's results for these rows. Needs 20 GB, and minutes on a simulated GPU: MOBA_LONG=1,
   make test-long. */
#include "moba/op_table.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

constexpr size_t more = (1ull << 31) + (1 << 16);  // elements of a large tensor
constexpr int pattern = 1 << 20;                   // random numbers, repeated to fill a tensor

// A tensor on the GPU, filled with repetitions of the pattern.
class Large {
  public:
    explicit Large(size_t n, uint64_t stream = 0) : n_(n), p_((bf16*)memory().allocate(n * sizeof(bf16))) {
        if (!stream) { return; }
        const std::vector<bf16> x = draw<bf16>(pattern, stream);
        for (size_t i = 0; i < n; i += pattern) {
            memory().to_device({}, p_ + i, x.data(), std::min<size_t>(pattern, n - i) * sizeof(bf16));
        }
    }
    ~Large() { memory().release((char*)p_, n_ * sizeof(bf16)); }
    Large(const Large&) = delete;
    operator bf16*() { return p_; }
    std::vector<bf16> last(size_t count) {
        std::vector<bf16> x(count);
        memory().to_host({}, x.data(), p_ + n_ - count, count * sizeof(bf16));
        return x;
    }
    static const DeviceOps& memory() { return *find_device(Device::gpu); }

  private:
    size_t n_;
    bf16* p_;
};

class KernelsLarge : public testing::Test {
  protected:
    void SetUp() override {
        if (!std::getenv("MOBA_LONG")) { GTEST_SKIP() << "MOBA_LONG=1 runs it: 20 GB"; }
        ctx.device = Device::gpu;
    }
    template <class X>
    X* put(const std::vector<X>& x) {
        held.push_back(Large::memory().allocate(x.size() * sizeof(X)));
        Large::memory().to_device({}, held.back(), x.data(), x.size() * sizeof(X));
        return (X*)held.back();
    }
    void workspace(size_t bytes) {
        ctx.workspace = (char*)put(std::vector<char>(bytes));
        ctx.workspace_bytes = bytes;
    }
    void TearDown() override {
        for (char* p : held) { Large::memory().release(p, 0); }
    }
    static void expect_same(const std::vector<bf16>& got, const std::vector<bf16>& want) {
        expect_error("last rows", relative_error(got, want), 8e-3);  // one rounding to bf16
    }
    const Ops<bf16>& gpu = *find_ops<bf16>(Device::gpu);
    const Ops<bf16>& cpu = *find_ops<bf16>(Device::cpu);
    Ctx ctx, on_cpu;
    std::vector<char*> held;
};

TEST_F(KernelsLarge, Rope) {
    const int H = 64, D = 64, tail = 8, M = (int)(more / (H * D));
    Large x(more, 1);
    std::vector<bf16> want = x.last((size_t)tail * H * D);
    std::vector<float> table(rope_table_size(1000, D));
    std::vector<double> f;
    for (int i = 0; i < D / 2; i++) { f.push_back(std::pow(10000.0, -2.0 * i / D)); }
    rope_fill_table(table.data(), f, 1000);
    std::vector<int> position(M);
    for (int m = 0; m < M; m++) { position[m] = m % 1000; }
    gpu.rope_forward(ctx, x, x, put(position), put(table), {M, H, D});
    cpu.rope_forward(on_cpu, want.data(), want.data(), position.data() + M - tail, table.data(),
                     {tail, H, D});
    expect_same(x.last(want.size()), want);
}

TEST_F(KernelsLarge, NormAndResidual) {
    const int C = 4096, tail = 8, M = (int)(more / C);
    Large x(more, 1), b(more, 2);
    const auto w = draw<bf16>(C, 3), xs = x.last((size_t)tail * C), bs = b.last(xs.size());
    std::vector<bf16> y(xs.size()), n(xs.size());
    std::vector<float> rstd(M);
    const StepState step{};
    const DropoutShape none{more, 0, 0, DropoutSite::mlp}, few{xs.size(), 0, 0, DropoutSite::mlp};
    gpu.residual_forward(ctx, x, x, b, put(std::vector<StepState>{step}), none);
    cpu.residual_forward(on_cpu, y.data(), xs.data(), bs.data(), &step, few);
    expect_same(x.last(y.size()), y);
    gpu.norm_forward(ctx, x, put(rstd), x, put(w), {M, C, 1e-5f});
    cpu.norm_forward(on_cpu, n.data(), rstd.data(), y.data(), w.data(), {tail, C, 1e-5f});
    expect_same(x.last(n.size()), n);
}

TEST_F(KernelsLarge, SwiGLU) {
    constexpr int tail = 4096;
    Large gate(more, 1), up(more, 2), y(more);
    const auto g = gate.last(tail), u = up.last(tail);
    std::vector<bf16> want(tail);
    gpu.swiglu_forward(ctx, y, gate, up, {(int)(more / tail), tail, tail});
    cpu.swiglu_forward(on_cpu, want.data(), g.data(), u.data(), {1, tail, tail});
    expect_same(y.last(tail), want);
}

TEST_F(KernelsLarge, RowsAndEmbedding) {
    const int C = 4096, M = (int)(more / C);
    const std::vector<int> row{0, M / 2, M - 1};
    Large x(more, 1);
    bf16 *y = put(std::vector<bf16>(3 * C)), *e = put(std::vector<bf16>(3 * C));
    gpu.gather_rows(ctx, y, x, put(row), {3, M, C});
    gpu.embedding_forward(ctx, e, put(row), x, {3, C, M});
    std::vector<bf16> got(C), again(C);
    Large::memory().to_host({}, got.data(), y + 2 * C, C * sizeof(bf16));
    Large::memory().to_host({}, again.data(), e + 2 * C, C * sizeof(bf16));
    EXPECT_EQ(std::memcmp(got.data(), x.last(C).data(), C * sizeof(bf16)), 0);
    EXPECT_EQ(std::memcmp(again.data(), x.last(C).data(), C * sizeof(bf16)), 0);
    gpu.scatter_rows(ctx, x, y, put(std::vector<int>{0, 1, M - 1}), {3, M, C});
    EXPECT_EQ(std::memcmp(got.data(), x.last(C).data(), C * sizeof(bf16)), 0);
}

// One thread for each element: too many for a simulated GPU.
TEST_F(KernelsLarge, KeyConv) {
    if (std::string(Large::memory().name()) == "simulated GPU") {
        GTEST_SKIP() << "2^31 threads: on a GPU only";
    }
    // sequences of `length` tokens; the last one is compared
    const int C = 4096, W = 3, M = (int)(more / C), length = 1000, tail = M % length;
    Large k(more, 1), y(more);
    const auto w = draw<bf16>((size_t)C * W, 2), ks = k.last((size_t)tail * C);
    std::vector<bf16> want(ks.size());
    std::vector<int> position(M);
    for (int m = 0; m < M; m++) { position[m] = m % length; }
    gpu.key_conv_forward(ctx, y, k, put(w), put(position), {M, C, W});
    cpu.key_conv_forward(on_cpu, want.data(), ks.data(), w.data(), position.data(), {tail, C, W});
    expect_same(y.last(want.size()), want);
}

TEST_F(KernelsLarge, LinearByHand) {
    const int I = 1, O = 1 << 15, M = (int)(more / O), tail = 2;
    Large y(more);
    const auto x = draw<bf16>((size_t)M * I, 1), w = draw<bf16>((size_t)O * I, 2);
    std::vector<bf16> want((size_t)tail * O);
    ctx.kernel_version = 3;
    Workspace cpus(linear_workspace_bytes_cpu<bf16>({tail, I, O}));
    gpu.linear_forward(ctx, y, put(x), put(w), {M, I, O});
    cpu.linear_forward(cpus.ctx, want.data(), x.data() + M - tail, w.data(), {tail, I, O});
    expect_same(y.last(want.size()), want);
}

/* Attention over 2^31 elements of q, on a real GPU only. Window and MoBA (each query's own block and the one
   before) see so few keys that the CPU can compute the last queries from the last 128 tokens alone. */
TEST_F(KernelsLarge, Attention) {
    if (std::string(Large::memory().name()) == "simulated GPU") {
        GTEST_SKIP() << "10^14 flop: on a GPU only";
    }
    const int H = 16, G = 1, D = 128, S = 64, tail = 128, M = (int)(more / (H * D)) / S * S;
    const size_t n = (size_t)M * H * D;
    std::vector<int> table, short_table;
    const Sequences on_host = build_sequences(table, {0, M}, {S}),
                    few = build_sequences(short_table, {0, tail}, {S});
    const Sequences seqs = rebase(on_host, table.data(), put(table));
    Large q(n, 1), out(n), k((size_t)M * G * D, 2), v((size_t)M * G * D, 3);
    const auto qs = q.last((size_t)tail * H * D), ks = k.last((size_t)tail * G * D),
               vs = v.last((size_t)tail * G * D);
    float* lse = put(std::vector<float>((size_t)H * M));
    for (const AttentionKind kind : {AttentionKind::window, AttentionKind::moba}) {
        const GateShape gate{H, G, D, 2, Gate::recent};
        const AttentionShape s{H, G, D, kind, 40, gate};
        const auto make = [&](int tokens) {
            return std::vector<int>(
                std::max(routing_slots(tokens, {S}, gate), routing_starts(tokens, 1, {S}, gate)));
        };
        const Routing r{put(make(M)), put(make(M)), put(make(M))};
        std::vector<int> chosen = make(tail), start = make(tail), list = make(tail);
        const Routing short_r{chosen.data(), start.data(), list.data()};
        const auto& needs = *find_workspaces<bf16>(Device::gpu);
        workspace(std::max({needs.attention(M, 1, {S}, s, Direction::forward), needs.gate(M, 1, {S}, gate),
                            needs.gate_lists(M, 1, {S}, gate)}));
        Workspace cpus(std::max(attention_workspace_bytes_cpu<bf16>(tail, 1, {S}, s, Direction::forward),
                                gate_workspace_bytes_cpu<bf16>(tail, 1, {S}, gate)));
        gpu.gate_forward(ctx, r, q, k, seqs, gate);
        gpu.gate_lists(ctx, r, seqs, gate);
        gpu.attention_forward(ctx, out, lse, q, k, v, r, seqs, s);
        std::vector<bf16> want(qs.size());
        std::vector<float> cpu_lse((size_t)H * tail);
        cpu.gate_forward(cpus.ctx, short_r, qs.data(), ks.data(), few, gate);
        cpu.gate_lists(cpus.ctx, short_r, few, gate);
        cpu.attention_forward(cpus.ctx, want.data(), cpu_lse.data(), qs.data(), ks.data(), vs.data(), short_r,
                              few, s);
        const size_t half = want.size() / 2;  // queries that see nothing before the last 128 tokens
        const auto got = out.last(half);
        expect_same(got, {want.begin() + half, want.end()});
    }
}

// T = 1M, S = 16: 65,536 lists, whose entries equal those of the CPU.
TEST_F(KernelsLarge, ListsOfAMillionTokens) {
    const int M = 1 << 20, S = 16, K = 4;
    const GateShape gate{1, 1, 16, K, Gate::sink};  // every query chooses block 0
    std::vector<int> table;
    const Sequences seqs = build_sequences(table, {0, M}, {S});
    const size_t slots = routing_slots(M, {S}, gate), starts = routing_starts(M, 1, {S}, gate);
    std::vector<int> chosen(slots), start(starts), list(slots), got_start(starts), got(slots);
    Workspace cpus(gate_workspace_bytes_cpu<bf16>(M, 1, {S}, gate));
    const std::vector<bf16> any(1);
    cpu.gate_forward(cpus.ctx, {chosen.data(), nullptr, nullptr}, any.data(), any.data(), seqs, gate);
    cpu.gate_lists(cpus.ctx, {chosen.data(), start.data(), list.data()}, seqs, gate);
    const Routing r{put(chosen), put(got_start), put(got)};
    workspace(gate_lists_workspace_bytes_gpu(M, 1, {S}, gate));
    gpu.gate_lists(ctx, r, rebase(seqs, table.data(), put(table)), gate);
    Large::memory().to_host({}, got_start.data(), r.list_start, starts * sizeof(int));
    Large::memory().to_host({}, got.data(), r.list, slots * sizeof(int));
    EXPECT_EQ(got_start, start);
    const size_t used = start[max_blocks(M, 1, S) - 1];
    EXPECT_TRUE(std::equal(list.begin(), list.begin() + used, got.begin()));
}

}  // namespace

}  // namespace moba

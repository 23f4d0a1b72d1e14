/* judge OP [--costs]: is the kernel in docs/course/OP.cu right? It is compared with the CPU's results in
   double, at several sizes, in fp32 and bf16. --costs: what it does to memory, and what the versions of the
   project do. Used by judge.sh, which runs it in several orders of threads. */
#include "docs/course/exercises.h"
#include "moba/attention/attention.h"
#include "test/support/kernel_case.h"
#include "train/display/numbers.h"
#include "train/lab/lab_report.h"
#include <cstring>

namespace moba {
namespace {

using namespace kernel_case;

/* An exercise: call(on, size, mine) calls the definition on the CPU; on the GPU the student's kernel, or that
   of the project. `sizes`: the last one is that whose costs are shown. */
struct Swiglu {
    static constexpr int versions = 2;
    std::vector<SwigluShape> sizes{{1, 1, 1}, {3, 17, 17}, {5, 40, 44}, {64, 256, 256}};
    static std::string text(SwigluShape s) {
        return formatted("M = %d, F = %d, stride %zu", s.M, s.F, (size_t)s.stride);
    }
    void call(auto& on, SwigluShape s, bool mine) const {
        using E = element<decltype(on)>;
        const size_t n = (size_t)s.M * s.stride;
        const E *gate = on.input(n, 1, 2), *up = on.input(n, 2);
        E* y = on.template output<E>("y", {s.M, s.F});
        if constexpr (std::decay_t<decltype(on)>::gpu) {
            mine ? my_swiglu<E>(on.ctx, y, gate, up, s) : swiglu_forward_gpu<E>(on.ctx, y, gate, up, s);
        } else {
            swiglu_forward_cpu<E>(on.ctx, y, gate, up, s);
        }
    }
};
struct Norm {
    static constexpr int versions = 3;
    std::vector<NormShape> sizes{{1, 1, 1e-5f}, {3, 33, 1e-5f}, {70, 48, 1e-2f}, {256, 256, 1e-5f}};
    static std::string text(NormShape s) { return formatted("M = %d, C = %d", s.M, s.C); }
    void call(auto& on, NormShape s, bool mine) const {
        using E = element<decltype(on)>;
        using A = acc_t<E>;
        const E *x = on.input((size_t)s.M * s.C, 1), *w = on.input(s.C, 2);
        E* y = on.template output<E>("y", {s.M, s.C});
        A* rstd = on.template output<A>("rstd", {s.M});
        if constexpr (std::decay_t<decltype(on)>::gpu) {
            mine ? my_norm<E>(on.ctx, y, rstd, x, w, s) : norm_forward_gpu<E>(on.ctx, y, rstd, x, w, s);
        } else {
            norm_forward_cpu<E>(on.ctx, y, rstd, x, w, s);
        }
    }
};
struct Linear {
    static constexpr int versions = 3;
    std::vector<LinearShape> sizes{{1, 1, 1}, {17, 5, 33}, {40, 70, 50}, {64, 64, 128}};
    static std::string text(LinearShape s) { return formatted("M = %d, I = %d, O = %d", s.M, s.I, s.O); }
    void call(auto& on, LinearShape s, bool mine) const {
        using E = element<decltype(on)>;
        const E *x = on.input((size_t)s.M * s.I, 1), *w = on.input((size_t)s.O * s.I, 2);
        E* y = on.template output<E>("y", {s.M, s.O});
        WORKSPACE(linear, E, s);
        if constexpr (std::decay_t<decltype(on)>::gpu) {
            mine ? my_linear<E>(on.ctx, y, x, w, s) : linear_forward_gpu<E, E>(on.ctx, y, x, w, s);
        } else {
            linear_forward_cpu<E, E>(on.ctx, y, x, w, s);
        }
    }
};
struct Size {
    int T, H, D;
};
struct Attention {
    static constexpr int versions = 4;
    std::vector<Size> sizes{{1, 1, 16}, {70, 2, 64}, {33, 1, 40}, {128, 2, 64}};
    static std::string text(Size s) { return formatted("T = %d, H = %d, D = %d", s.T, s.H, s.D); }
    void call(auto& on, Size s, bool mine) const {
        using E = element<decltype(on)>;
        using A = acc_t<E>;
        const size_t n = (size_t)s.T * s.H * s.D;
        const E *q = on.input(n, 1), *k = on.input(n, 2), *v = on.input(n, 3);
        E* out = on.template output<E>("out", {s.T, s.H, s.D});
        if constexpr (std::decay_t<decltype(on)>::gpu) {
            if (mine) { return my_attention<E>(on.ctx, out, q, k, v, s.T, s.H, s.D); }
        }
        const AttentionShape shape{s.H, s.H, s.D, AttentionKind::full, 0, {}};
        const PackedBatch batch({s.T}, {16});
        const Sequences seqs = rebase(batch.seqs, batch.table.data(), on.constant(batch.table));
        std::vector<A> any((size_t)s.H * s.T);
        A* lse = (A*)on.constant(any);
        WORKSPACE(attention, E, s.T, 1, {16}, shape, Direction::forward);
        CALL(attention_forward, E, out, lse, q, k, v, Routing{}, seqs, shape);
    }
};

template <class In, class X>
bool right(const X& exercise) {
    for (const auto& size : exercise.sizes) {
        auto run = [&](auto& on) { exercise.call(on, size, true); };
        const Outputs want = run_in<false, double, In>(0, run), cpu = run_in<false, In, In>(0, run),
                      got = run_in<true, In, In>(0, run);
        for (size_t i = 0; i < want.size(); i++) {
            const double error = relative_error(got[i].values, want[i].values),
                         allowed = 2 * relative_error(cpu[i].values, want[i].values) +
                                   (std::is_same_v<In, bf16> ? 1e-3 : 1e-6);
            if (error <= allowed) { continue; }  // not if it is NaN
            std::printf("WRONG: %s, %s, %s: %s; error %.2g, allowed %.2g\n", X::text(size).c_str(),
                        type_name<In>(), want[i].name.c_str(),
                        wrong_elements(got[i], want[i], allowed).c_str(), error, allowed);
            return false;
        }
    }
    return !testing::Test::HasFailure();  // guard words after the tensors
}

template <class X>
void costs(const std::string& op, const X& exercise) {
    LabReport report{.card = lab_card("h100"), .sizes = "", .kernels = {}, .chains = {}};
    const auto count = [&](const std::string& whose, int version) {
        auto run = [&](auto& on) {
            RecordPlan plan;
            plan.resources = [&](const KernelCounts& k) { return kernel_resources(report.card, k); };
            recorder->start(op + ", " + whose, plan);
            exercise.call(on, exercise.sizes.back(), version == 0);
        };
        try {
            run_in<true, bf16, bf16>(version, run);
        } catch (const Error&) {}  // this version does not fit these sizes
        for (const KernelCounts& k : recorder->stop()) {
            report.kernels.push_back({k, sum_kernel(report.card, k, 0), kernel_name(k.kernel), version});
        }
    };
    count("yours", 0);
    for (int version = 1; version <= X::versions; version++) { count("ours", version); }
    std::printf("%s", lab_table_header().c_str());
    for (const LabKernel& k : report.kernels) { std::printf("%s", lab_table_row(k).c_str()); }
}

template <class X>
int judge(const std::string& op, const X& exercise, bool with_costs) {
    if (!with_costs) { return right<float>(exercise) && right<bf16>(exercise) ? 0 : 1; }
    costs(op, exercise);
    return 0;
}

int judge_op(const std::string& op, bool with_costs) {
    if (op == "swiglu") { return judge(op, Swiglu(), with_costs); }
    if (op == "norm") { return judge(op, Norm(), with_costs); }
    if (op == "linear") { return judge(op, Linear(), with_costs); }
    if (op == "attention") { return judge(op, Attention(), with_costs); }
    std::fprintf(stderr, "OP=%s: must be swiglu, norm, linear or attention\n", op.c_str());
    return 2;
}

}  // namespace
}  // namespace moba

int main(int argc, char** argv) {
    testing::InitGoogleTest(&argc, argv);
    const std::string op = argc > 1 ? argv[1] : "";
    return moba::judge_op(op, argc > 2 && std::strcmp(argv[2], "--costs") == 0);
}

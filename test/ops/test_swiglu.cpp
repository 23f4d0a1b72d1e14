#include "moba/ops/swiglu.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

template <class E>
struct Result {
    std::vector<E> y, dgate, dup;
};

template <class E, class In>
Result<E> run(size_t n, double scale = 3) {
    const auto gate = as<E>(draw<In>(n, 1, scale)), up = as<E>(draw<In>(n, 2)), dy = as<E>(draw<In>(n, 3));
    Guarded<E> y(n), dgate(n), dup(n);
    swiglu_forward_cpu<E>({}, y.data(), gate.data(), up.data(), {1, (int)n, n});
    swiglu_backward_cpu<E>({}, dgate.data(), dup.data(), dy.data(), gate.data(), up.data(), {1, (int)n, n});
    EXPECT_TRUE(y.intact() && dgate.intact() && dup.intact());
    return {y.values(), dgate.values(), dup.values()};
}

TEST(Swiglu, ForwardIsTheEquation) {
    for (size_t n : {1, 15, 17, 8193}) {
        const auto gate = draw<double>(n, 1, 3), up = draw<double>(n, 2);
        std::vector<double> want(n);
        for (size_t i = 0; i < n; i++) { want[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i]; }
        expect_error("swiglu y fp64", relative_error(run<double, double>(n).y, want), 1e-15);
    }
}

TEST(Swiglu, Gradient) {
    const size_t n = 50;
    auto gate = draw<double>(n, 1, 3), up = draw<double>(n, 2);
    const auto dy = draw<double>(n, 3);
    const Result<double> got = run<double, double>(n);
    const auto f = [&] {
        std::vector<double> y(n);
        swiglu_forward_cpu<double>({}, y.data(), gate.data(), up.data(), {1, (int)n, n});
        return inner(y, dy);
    };
    expect_error("swiglu dgate gradient", gradient_error(gate, got.dgate, f), gradient_tolerance);
    expect_error("swiglu dup gradient", gradient_error(up, got.dup, f), gradient_tolerance);
}

template <class E>
void expect_close_to_double() {
    for (size_t n : {1, 16, 8191, 20001}) {
        const Result<E> got = run<E, E>(n);
        const Result<double> want = run<double, E>(n);
        const std::string name = std::string("swiglu ") + type_name<E>() + " ";
        expect_error(name + "y", relative_error(got.y, want.y), allowed<E>(3e-7, 4e-3));
        expect_error(name + "dgate", relative_error(got.dgate, want.dgate), allowed<E>(8e-7, 4e-3));
        expect_error(name + "dup", relative_error(got.dup, want.dup), allowed<E>(3e-7, 4e-3));
    }
}
TEST(Swiglu, Fp32IsCloseToDouble) { expect_close_to_double<float>(); }
TEST(Swiglu, Bf16IsCloseToDouble) { expect_close_to_double<bf16>(); }

// Very large gates: 0 on the negative side, the input itself on the positive side, never NaN.
TEST(Swiglu, LargeGates) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        const std::vector<E> gate{E(-1e30f), E(-100.f), E(-88.f), E(0.f), E(88.f), E(1e30f)},
            one(gate.size(), E(1.f));
        std::vector<E> y(gate.size()), dgate(y), dup(y);
        swiglu_forward_cpu<E>({}, y.data(), gate.data(), one.data(), {1, (int)y.size(), y.size()});
        swiglu_backward_cpu<E>({}, dgate.data(), dup.data(), one.data(), gate.data(), one.data(),
                               {1, (int)y.size(), y.size()});
        for (size_t i = 0; i < y.size(); i++) {
            const double want = (double)gate[i] > 0 ? (double)gate[i] : 0, slope = want > 0 ? 1
                                                                                   : i == 3 ? 0.5
                                                                                            : 0;
            EXPECT_NEAR((double)y[i], want, 1e-6 * std::fabs((double)gate[i])) << (double)gate[i];
            EXPECT_NEAR((double)dup[i], want, 1e-6 * std::fabs((double)gate[i])) << (double)gate[i];
            EXPECT_NEAR((double)dgate[i], slope, 1e-6) << (double)gate[i];
        }
    });
}

// The model overwrites gate and up with their gradients.
TEST(Swiglu, BackwardInPlace) {
    const size_t n = 9001;
    auto gate = draw<float>(n, 1, 3), up = draw<float>(n, 2);
    const auto dy = draw<float>(n, 3);
    swiglu_backward_cpu<float>({}, gate.data(), up.data(), dy.data(), gate.data(), up.data(), {1, (int)n, n});
    const Result<float> want = run<float, float>(n);
    EXPECT_EQ(gate, want.dgate);
    EXPECT_EQ(up, want.dup);
}

// Gate and up lie side by side in one row for each token, as one matrix product writes them. The results have
// the same bits as with separate tensors.
TEST(Swiglu, GateAndUpInOneRow) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        const int M = 300, F = 37;
        const size_t n = (size_t)M * F;
        const auto gate = as<E>(draw<bf16>(n, 1, 3)), up = as<E>(draw<bf16>(n, 2)),
                   dy = as<E>(draw<bf16>(n, 3));
        std::vector<E> both(2 * n), y(n), want_y(n), dgate(n), dup(n);
        for (size_t i = 0; i < n; i++) {
            both[i / F * 2 * F + i % F] = gate[i];
            both[i / F * 2 * F + F + i % F] = up[i];
        }
        swiglu_forward_cpu<E>({}, y.data(), both.data(), both.data() + F, {M, F, 2 * F});
        swiglu_backward_cpu<E>({}, both.data(), both.data() + F, dy.data(), both.data(), both.data() + F,
                               {M, F, 2 * F});
        swiglu_forward_cpu<E>({}, want_y.data(), gate.data(), up.data(), {M, F, F});
        swiglu_backward_cpu<E>({}, dgate.data(), dup.data(), dy.data(), gate.data(), up.data(), {M, F, F});
        EXPECT_EQ(bits(y), bits(want_y));
        for (size_t i = 0; i < n; i++) {
            ASSERT_EQ((double)both[i / F * 2 * F + i % F], (double)dgate[i]) << i;
            ASSERT_EQ((double)both[i / F * 2 * F + F + i % F], (double)dup[i]) << i;
        }
    });
}

}  // namespace

}  // namespace moba

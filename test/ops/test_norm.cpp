#include "moba/ops/norm.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

static const float eps = 1e-5f;
static const NormShape shapes[] = {{1, 1, eps},    {1, 64, eps},   {3, 2, eps},     {255, 7, eps},
                                   {256, 17, eps}, {257, 33, eps}, {513, 100, eps}, {20, 1023, eps}};

template <class E>
struct Result {
    std::vector<E> y, dx;
    std::vector<acc_t<E>> rstd, dw;
};

// Inputs are rounded to In first: a bf16 run and the double run it is compared with start from the same
// numbers.
template <class E, class In>
static Result<E> run(NormShape s) {
    using A = acc_t<E>;
    const size_t n = (size_t)s.M * s.C;
    const auto x = as<E>(draw<In>(n, 1)), w = as<E>(draw<In>(s.C, 2)), dy = as<E>(draw<In>(n, 3));
    const auto dx0 = as<E>(draw<In>(n, 4));
    const auto dw0 = as<A>(draw<acc_t<In>>(s.C, 5));
    Guarded<E> y(n), dx(n);
    Guarded<A> rstd(s.M), dw(s.C);
    std::copy(dx0.begin(), dx0.end(), dx.data());  // the gradients are added to both
    std::copy(dw0.begin(), dw0.end(), dw.data());
    Workspace work(norm_workspace_bytes_cpu<E>(s));
    norm_forward_cpu<E>(work.ctx, y.data(), rstd.data(), x.data(), w.data(), s);
    norm_backward_cpu<E>(work.ctx, dx.data(), dw.data(), dy.data(), x.data(), w.data(), rstd.data(), s);
    EXPECT_TRUE(y.intact() && rstd.intact() && dx.intact() && dw.intact() && work.intact());
    return {y.values(), dx.values(), rstd.values(), dw.values()};
}

TEST(Norm, ForwardIsTheEquation) {
    for (const NormShape& s : shapes) {
        const Result<double> got = run<double, double>(s);
        const auto x = draw<double>((size_t)s.M * s.C, 1), w = draw<double>(s.C, 2);
        std::vector<double> y(x.size()), rstd(s.M);
        for (int m = 0; m < s.M; m++) {
            double sum = 0;
            for (int c = 0; c < s.C; c++) { sum += x[m * s.C + c] * x[m * s.C + c]; }
            rstd[m] = std::pow(sum / s.C + (double)s.eps, -0.5);
            for (int c = 0; c < s.C; c++) { y[m * s.C + c] = x[m * s.C + c] * rstd[m] * w[c]; }
        }
        expect_error("norm y fp64", relative_error(got.y, y), 3e-15);
        expect_error("norm rstd fp64", relative_error(got.rstd, rstd), 3e-15);
    }
}

TEST(Norm, Gradient) {
    for (const NormShape s :
         {NormShape{1, 1, 0.5f}, {3, 7, eps}, {257, 2, 0.5f}, {2, 33, eps}, {600, 3, 0.5f}}) {
        const size_t n = (size_t)s.M * s.C;
        auto x = draw<double>(n, 1), w = draw<double>(s.C, 2);
        const auto dy = draw<double>(n, 3), dx0 = draw<double>(n, 4), dw0 = draw<double>(s.C, 5);
        const Result<double> got = run<double, double>(s);
        const auto f = [&] {
            std::vector<double> y(n), rstd(s.M);
            norm_forward_cpu<double>({}, y.data(), rstd.data(), x.data(), w.data(), s);
            return inner(y, dy) + inner(x, dx0) + inner(w, dw0);  // gradients are added to dx0 and dw0
        };
        expect_error("norm dx gradient", gradient_error(x, got.dx, f), gradient_tolerance);
        expect_error("norm dw gradient", gradient_error(w, got.dw, f), gradient_tolerance);
    }
}

template <class E>
static void expect_close_to_double() {
    for (const NormShape& s : shapes) {
        const Result<E> got = run<E, E>(s);
        const Result<double> want = run<double, E>(s);
        const std::string name = std::string("norm ") + type_name<E>() + " C=" + std::to_string(s.C) + " ";
        // tolerance for long sums added in order, without vectors
        const double row = s.C > 1000 ? 2e-6 : 4e-7;
        expect_error(name + "y", relative_error(got.y, want.y), allowed<E>(row, 4e-3));
        expect_error(name + "rstd", relative_error(got.rstd, want.rstd), allowed<E>(row, row));
        expect_error(name + "dx", relative_error(got.dx, want.dx), allowed<E>(2e-6, 4e-3));
        expect_error(name + "dw", relative_error(got.dw, want.dw), allowed<E>(2e-6, 2e-6));
    }
}
TEST(Norm, Fp32IsCloseToDouble) { expect_close_to_double<float>(); }
TEST(Norm, Bf16IsCloseToDouble) { expect_close_to_double<bf16>(); }

// Rows of zeros, of huge and of tiny numbers: tests eps and the range of fp32; no NaN.
TEST(Norm, ExtremeRows) {
    const int C = 5;
    const std::vector<float> size{0, 1e-30f, 1e15f};
    std::vector<float> x, w(C, 1.f);
    for (float v : size) { x.insert(x.end(), C, v); }
    Guarded<float> y(x.size()), rstd(size.size());
    norm_forward_cpu<float>({}, y.data(), rstd.data(), x.data(), w.data(), {(int)size.size(), C, eps});
    for (int c = 0; c < C; c++) {
        EXPECT_EQ(y[c], 0.f);
        EXPECT_LT(y[C + c], 1e-26f);
        EXPECT_NEAR(y[2 * C + c], 1, 1e-6);
    }
    EXPECT_NEAR(rstd[0], 1 / std::sqrt((double)eps), 1e-4);
}

TEST(Norm, InPlace) {
    const NormShape s{300, 33, eps};
    const auto w = draw<float>(s.C, 2);
    std::vector<float> x = draw<float>((size_t)s.M * s.C, 1), rstd(s.M);
    norm_forward_cpu<float>({}, x.data(), rstd.data(), x.data(), w.data(), s);
    EXPECT_EQ(x, (run<float, float>(s).y));
}

// y and norm have the bits that the residual and the norm give when computed one after the other; y may
// overwrite x.
TEST(Norm, ResidualNormIsTheTwo) {
    const StepState state{1234567890123, 5, 2, 1, 0};
    for_all_types([&](auto zero) {
        using E = decltype(zero);
        for (const NormShape& s : shapes) {
            for (float p : {0.f, 0.3f}) {
                const size_t n = (size_t)s.M * s.C;
                const DropoutShape d{n, p, 3, DropoutSite::mlp};
                const auto x = draw<E>(n, 1), b = draw<E>(n, 2), w = draw<E>(s.C, 3);
                Guarded<E> sum(n), want(n), y(n), norm(n), norm_over(n);
                Guarded<acc_t<E>> rstd_want(s.M), rstd(s.M), rstd_over(s.M);
                std::vector<E> over = x;
                residual_forward_cpu<E>({}, sum.data(), x.data(), b.data(), &state, d);
                norm_forward_cpu<E>({}, want.data(), rstd_want.data(), sum.data(), w.data(), s);
                residual_norm_forward_cpu<E>({}, y.data(), norm.data(), rstd.data(), x.data(), b.data(),
                                             w.data(), &state, d, s);
                residual_norm_forward_cpu<E>({}, over.data(), norm_over.data(), rstd_over.data(), over.data(),
                                             b.data(), w.data(), &state, d, s);
                const std::string bits_want = bits(sum.values(), want.values(), rstd_want.values());
                EXPECT_EQ(bits(y.values(), norm.values(), rstd.values()), bits_want);
                EXPECT_EQ(bits(over, norm_over.values(), rstd_over.values()), bits_want);
                EXPECT_TRUE(y.intact() && norm.intact() && rstd.intact());
            }
        }
    });
}

TEST(Norm, SameBitsOnThreads) {
    expect_same_bits_on_threads([] {
        const Result<float> r = run<float, float>({1500, 65, eps});
        return bits(r.y, r.dx, r.rstd, r.dw);
    });
}

}  // namespace

}  // namespace moba

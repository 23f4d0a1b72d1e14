/* Linear layers, and the matrix products they consist of: tile.h and matmul.cpp, with the BLAS and with the
   plain loop. */
#include "moba/core/matmul.h"
#include "moba/core/tile.h"
#include "moba/ops/linear.h"
#include "test/support/packed_batch.h"

// A second copy of matmul.cpp with the plain loop: MOBA_BLAS is defined only where moba/core/matmul.cpp is
// compiled.
namespace plain_loop::moba {
using namespace ::moba;
}
namespace plain_loop {
#include "moba/core/matmul.cpp"
}

namespace moba {

namespace {

static const LinearShape shapes[] = {{1, 1, 1},      {1, 64, 64},    {3, 5, 7},       {127, 33, 129},
                                     {128, 256, 17}, {129, 257, 31}, {130, 100, 513}, {2, 1000, 3},
                                     {5, 1, 4},      {5, 4, 1},      {1, 4, 5},       {1, 577, 1030},
                                     {1, 33, 70},    {1, 31, 3}};  // M = 1: dot products

template <class E>
struct Result {
    std::vector<E> y, dx;
    std::vector<acc_t<E>> wide, dw;
};

template <class E, class In>
static Result<E> run(LinearShape s) {
    using A = acc_t<E>;
    const size_t M = s.M;
    const auto x = as<E>(draw<In>(M * s.I, 1)), w = as<E>(draw<In>((size_t)s.O * s.I, 2));
    const auto dy = as<E>(draw<In>(M * s.O, 3));
    const auto dw0 = as<A>(draw<acc_t<In>>(w.size(), 5));
    Guarded<E> y(dy.size()), dx(x.size());
    Guarded<A> wide(dy.size()), dw(w.size());
    std::copy(dw0.begin(), dw0.end(), dw.data());
    Workspace work(linear_workspace_bytes_cpu<E>(s));
    linear_forward_cpu<E, E>(work.ctx, y.data(), x.data(), w.data(), s);
    linear_forward_cpu<E, A>(work.ctx, wide.data(), x.data(), w.data(), s);
    linear_backward_input_cpu<E>(work.ctx, dx.data(), dy.data(), w.data(), s);
    linear_backward_weight_cpu<E>(work.ctx, dw.data(), dy.data(), x.data(), s);
    EXPECT_TRUE(y.intact() && dx.intact() && wide.intact() && dw.intact() && work.intact());
    return {y.values(), dx.values(), wide.values(), dw.values()};
}

// The three sums, written out, from the same rounded inputs.
template <class In>
static Result<double> reference(LinearShape s) {
    const size_t M = s.M, I = s.I, O = s.O;
    const auto x = as<double>(draw<In>(M * I, 1)), w = as<double>(draw<In>(O * I, 2)),
               dy = as<double>(draw<In>(M * O, 3));
    Result<double> r{
        std::vector<double>(M * O), std::vector<double>(M * I), {}, as<double>(draw<acc_t<In>>(O * I, 5))};
    for (size_t m = 0; m < M; m++) {
        for (size_t o = 0; o < O; o++) {
            for (size_t i = 0; i < I; i++) {
                r.y[m * O + o] += x[m * I + i] * w[o * I + i];
                r.dx[m * I + i] += dy[m * O + o] * w[o * I + i];
                r.dw[o * I + i] += dy[m * O + o] * x[m * I + i];
            }
        }
    }
    r.wide = r.y;
    return r;
}

template <class E>
static void expect_sums(LinearShape s) {
    const Result<E> got = run<E, E>(s);
    const Result<double> want = reference<E>(s);
    const std::string name = std::string("linear ") + type_name<E>() + " k=" + std::to_string(s.I) + " ";
    expect_error(name + "y", relative_error(got.y, want.y), allowed<E>(2e-6, 4e-3));
    expect_error(name + "wide y", relative_error(got.wide, want.wide), allowed<E>(2e-6, 1.2e-6));
    expect_error(name + "dx", relative_error(got.dx, want.dx), allowed<E>(2e-6, 4e-3));
    expect_error(name + "dw", relative_error(got.dw, want.dw), allowed<E>(4e-6, 2e-6));
}

TEST(Linear, IsTheSum) {
    for_all_types([](auto zero) {
        for (const LinearShape& s : shapes) { expect_sums<decltype(zero)>(s); }
    });
}

// For 1024 rows and more, dw is summed in pieces of rows; the last piece is shorter.
TEST(Linear, SplitRows) {
    for_all_types([](auto zero) {
        for (int M : {1023, 1024, 1537, 3100}) { expect_sums<decltype(zero)>({M, 9, 5}); }
        expect_sums<decltype(zero)>({2100, 260, 3});
    });
}

TEST(Linear, Gradient) {
    const LinearShape s{6, 5, 3};
    std::vector<double> x = draw<double>(s.M * s.I, 1), w = draw<double>(s.O * s.I, 2);
    const auto dy = draw<double>(s.M * s.O, 3), dw0 = draw<double>(s.O * s.I, 5);
    const Result<double> got = run<double, double>(s);
    Workspace work(linear_workspace_bytes_cpu<double>(s));
    const auto f = [&] {
        std::vector<double> y(dy.size());
        linear_forward_cpu<double, double>(work.ctx, y.data(), x.data(), w.data(), s);
        return inner(y, dy) + inner(w, dw0);
    };
    expect_error("linear dx gradient", gradient_error(x, got.dx, f), gradient_tolerance);
    expect_error("linear dw gradient", gradient_error(w, got.dw, f), gradient_tolerance);
}

TEST(Linear, SameBitsOnThreads) {
    for_all_types([](auto zero) {
        using E = decltype(zero);
        expect_same_bits_on_threads([] {
            const Result<E> r = run<E, E>({1600, 70, 300});
            return bits(r.y, r.dx, r.wide, r.dw);
        });
    });
}

TEST(LinearDeathTest, SmallWorkspace) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    std::vector<float> x(4), w(4), y(4);
    Workspace work(100);
    EXPECT_EXIT((linear_forward_cpu<float, float>(work.ctx, y.data(), x.data(), w.data(), {2, 2, 2})),
                testing::ExitedWithCode(1), "workspace has 100");
}

// ---- matmul.h ----

// All four layouts, set and add, and sums longer than one piece. The BLAS and the plain loop are compared
// with the sum written out in double.
template <class E, class Out>
static void expect_tiles() {
    using A = acc_t<E>;
    struct Size {
        int m, n, k;
    };
    for (const Size z :
         {Size{1, 1, 1}, {128, 256, 64}, {127, 255, 257}, {5, 17, 600}, {33, 1, 256}, {1, 100, 33}}) {
        const auto a = draw<E>((size_t)z.m * z.k, 1), b = draw<E>((size_t)z.k * z.n, 2);
        const auto c0 = draw<Out>((size_t)z.m * z.n, 3);
        for (int layout = 0; layout < 8; layout++) {
            const bool at = layout & 1, bt = layout & 2, add = layout & 4;
            const size_t ar = at ? 1 : z.k, ac = at ? z.m : 1, br = bt ? 1 : z.n, bc = bt ? z.k : 1;
            std::vector<double> want(c0.size());
            for (int i = 0; i < z.m; i++) {
                for (int p = 0; p < z.k; p++) {
                    for (int j = 0; j < z.n; j++) {
                        want[i * z.n + j] += (double)a[i * ar + p * ac] * (double)b[p * br + j * bc];
                    }
                }
            }
            for (size_t i = 0; add && i < c0.size(); i++) { want[i] += (double)c0[i]; }
            Guarded<A> scratch(matmul_scratch);
            for (bool blas : {false, true}) {
                Guarded<Out> c(c0.size());
                if (add) { std::copy(c0.begin(), c0.end(), c.data()); }
                const auto f = blas ? &::moba::matmul_tile<E, Out> : &plain_loop::moba::matmul_tile<E, Out>;
                f(c.data(), z.n, a.data(), ar, ac, b.data(), br, bc, z.m, z.n, z.k,
                  add ? Store::add : Store::replace, scratch.data());
                expect_error(std::string("matmul ") + type_name<E>() + (blas ? " as built" : " plain"),
                             relative_error(c.values(), want), allowed<Out>(2e-6, 4e-3));
                EXPECT_TRUE(c.intact() && scratch.intact());
            }
        }
    }
}
TEST(Matmul, TilesAreSums) {
    expect_tiles<double, double>();
    expect_tiles<float, float>();
    expect_tiles<bf16, bf16>();
    expect_tiles<bf16, float>();
    EXPECT_STREQ(plain_loop::moba::blas_name(), "none");
}

// tile.h promises the same order of summation for all m and n: the bits of an element do not depend on the
// tile it is computed in.
TEST(Tile, BitsDoNotDependOnTheTile) {
    const int m = 23, n = 7 * 16, k = 41;
    const auto a = draw<float>(m * k, 1), b = draw<float>(k * n, 2);
    std::vector<float> whole(m * n), transposed(k * m);
    tile_matmul<float>(whole.data(), n, a.data(), k, 1, b.data(), n, m, n, k);
    for (int i = 0; i < m; i++) {
        for (int p = 0; p < k; p++) { transposed[p * m + i] = a[i * k + p]; }
    }
    for (int i = 0; i < m; i++) {  // one row at a time, 16 columns at a time, A transposed
        for (int j = 0; j < n; j += 16) {
            Guarded<float> part(16);
            tile_matmul<float>(part.data(), 16, transposed.data() + i, 1, m, b.data() + j, n, 1, 16, k);
            ASSERT_EQ(std::memcmp(part.data(), &whole[i * n + j], 16 * sizeof(float)), 0);
            EXPECT_TRUE(part.intact());
        }
    }
    std::vector<float> twice = whole;
    tile_matmul<float>(twice.data(), n, a.data(), k, 1, b.data(), n, m, n, k, Store::add);
    for (int i = 0; i < m * n; i++) { ASSERT_NEAR(twice[i], 2 * whole[i], 2e-5); }
}

}  // namespace

}  // namespace moba

#include "moba/ops/key_conv.h"
#include "test/support/packed_batch.h"

namespace moba {

namespace {

template <class E>
struct Result {
    std::vector<E> y, dk;
    std::vector<acc_t<E>> dw;
};

template <class E, class In>
Result<E> run(const PackedBatch& batch, int C, int W) {
    using A = acc_t<E>;
    const KeyConvShape s{batch.seqs.num_tokens, C, W};
    const size_t n = (size_t)s.M * C;
    const auto k = as<E>(draw<In>(n, 1)), w = as<E>(draw<In>((size_t)C * W, 2)), dy = as<E>(draw<In>(n, 3));
    const auto dw0 = as<A>(draw<acc_t<In>>((size_t)C * W, 4));
    Guarded<E> y(n), dk(n);
    Guarded<A> dw(dw0.size());
    std::copy(dw0.begin(), dw0.end(), dw.data());  // the gradient is added to these values
    Workspace work(key_conv_workspace_bytes_cpu<E>(s));
    key_conv_forward_cpu<E>(work.ctx, y.data(), k.data(), w.data(), batch.seqs.position, s);
    key_conv_backward_cpu<E>(work.ctx, dk.data(), dw.data(), dy.data(), k.data(), w.data(),
                             batch.seqs.position, s);
    EXPECT_TRUE(y.intact() && dk.intact() && dw.intact() && work.intact());
    return {y.values(), dk.values(), dw.values()};
}

// Sequences shorter than the number of taps, sequences of one token, and sequences that cross the pieces of
// 256 tokens over which dw is summed.
const std::vector<std::vector<int>> lengths{{1},   {2, 1, 1, 7},     {255},   {256},
                                            {257}, {254, 3, 1, 260}, {1, 600}};

TEST(KeyConv, ForwardIsTheEquation) {
    for (const auto& l : lengths) {
        for (int W : {1, 3, 5, 8}) {
            const PackedBatch batch(l, {16});
            const int C = 6, M = batch.seqs.num_tokens;
            const auto k = draw<double>((size_t)M * C, 1), w = draw<double>(C * W, 2);
            std::vector<double> want;
            for (size_t i = 0; i + 1 < batch.cu.size(); i++) {
                for (int t = batch.cu[i]; t < batch.cu[i + 1]; t++) {
                    for (int c = 0; c < C; c++) {
                        double u = 0;
                        for (int tap = 0; tap < W; tap++) {
                            u += t - tap >= batch.cu[i] ? w[c * W + tap] * k[(t - tap) * C + c] : 0;
                        }
                        want.push_back(k[t * C + c] + u / (1 + std::exp(-u)));
                    }
                }
            }
            expect_error("key_conv y fp64", relative_error(run<double, double>(batch, C, W).y, want), 2e-15);
        }
    }
}

TEST(KeyConv, Gradient) {
    for (const auto& l : std::vector<std::vector<int>>{{1}, {2, 1, 1, 7}, {250, 12}, {590}}) {
        for (int W : {1, 3, 5}) {
            const PackedBatch batch(l, {16});
            const KeyConvShape s{batch.seqs.num_tokens, 3, W};
            const size_t n = (size_t)s.M * s.C;
            auto k = draw<double>(n, 1), w = draw<double>(s.C * W, 2);
            const auto dy = draw<double>(n, 3), dw0 = draw<double>(s.C * W, 4);
            const Result<double> got = run<double, double>(batch, s.C, W);
            const auto f = [&] {
                std::vector<double> y(n);
                key_conv_forward_cpu<double>({}, y.data(), k.data(), w.data(), batch.seqs.position, s);
                return inner(y, dy) + inner(w, dw0);
            };
            expect_error("key_conv dk gradient", gradient_error(k, got.dk, f), gradient_tolerance);
            expect_error("key_conv dw gradient", gradient_error(w, got.dw, f), gradient_tolerance);
        }
    }
}

template <class E>
void expect_close_to_double() {
    for (const auto& l : lengths) {
        for (int W : {3, 5}) {
            const PackedBatch batch(l, {16});
            const Result<E> got = run<E, E>(batch, 33, W);
            const Result<double> want = run<double, E>(batch, 33, W);
            const std::string name = std::string("key_conv ") + type_name<E>() + " ";
            expect_error(name + "y", relative_error(got.y, want.y), allowed<E>(3e-7, 4e-3));
            expect_error(name + "dk", relative_error(got.dk, want.dk), allowed<E>(6e-7, 4e-3));
            expect_error(name + "dw", relative_error(got.dw, want.dw), allowed<E>(2e-6, 1.6e-6));
        }
    }
}
TEST(KeyConv, Fp32IsCloseToDouble) { expect_close_to_double<float>(); }
TEST(KeyConv, Bf16IsCloseToDouble) { expect_close_to_double<bf16>(); }

// No tap reaches into another sequence, neither forward nor backward.
TEST(KeyConv, PackedEqualsAlone) {
    const int C = 4, W = 5, first = 9, second = 4;
    const PackedBatch both({first, second}, {16}), a({first}, {16});
    const auto k = draw<float>((first + second) * C, 1), w = draw<float>(C * W, 2);
    std::vector<float> packed(k.size()), alone(second * C);
    key_conv_forward_cpu<float>({}, packed.data(), k.data(), w.data(), both.seqs.position,
                                {first + second, C, W});
    key_conv_forward_cpu<float>({}, alone.data(), k.data() + first * C, w.data(), a.seqs.position,
                                {second, C, W});
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), packed.begin() + first * C));
    const Result<float> x = run<float, float>(both, C, W);
    // the same first sequence, and no other sequence after it
    const Result<float> y = run<float, float>(a, C, W);
    // dy is drawn again for the other size, but begins with the same numbers
    EXPECT_TRUE(std::equal(y.dk.begin(), y.dk.end(), x.dk.begin()));
}

TEST(KeyConv, LargeInputsStayFinite) {
    const std::vector<float> k{1e4f, -1e4f, 1e4f}, w{-1e4f, 1e4f, 3};
    const PackedBatch batch({3}, {16});
    const KeyConvShape s{3, 1, 3};
    std::vector<float> y(3), dk(3), dw(3);
    Workspace work(key_conv_workspace_bytes_cpu<float>(s));
    key_conv_forward_cpu<float>({}, y.data(), k.data(), w.data(), batch.seqs.position, s);
    key_conv_backward_cpu<float>(work.ctx, dk.data(), dw.data(), k.data(), k.data(), w.data(),
                                 batch.seqs.position, s);
    for (int i = 0; i < 3; i++) {
        EXPECT_TRUE(std::isfinite(y[i]) && std::isfinite(dk[i]) && std::isfinite(dw[i]));
    }
}

TEST(KeyConv, SameBitsOnThreads) {
    expect_same_bits_on_threads([] {
        const PackedBatch batch({700, 1, 800}, {16});
        const Result<float> r = run<float, float>(batch, 20, 5);
        return bits(r.y, r.dk, r.dw);
    });
}

}  // namespace

}  // namespace moba

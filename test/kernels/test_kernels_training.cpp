/* The kernels of a step that are neither layers nor attention: loss, gradient norm, AdamW. Every version,
   both element types. */
#include "moba/ops/adamw.h"
#include "moba/ops/loss.h"
#include "test/support/kernel_case.h"

namespace moba {

namespace {

using namespace kernel_case;

TEST(Kernels, Loss) {
    // Rows that begin and end at every position of a pack; rows with more packs than the threads load in
    // one round (4096 and 16384 logits).
    for (const LossShape s :
         {LossShape{1, 1}, {33, 7}, {20, 257}, {5, 3001}, {3, 9001}, {4, 8000}, {5, 20003}, {2, 16384}}) {
        for (bool gradient : {false, true}) {
            expect_kernels("loss", 3, [s, gradient](auto& on) {
                using E = element<decltype(on)>;
                using A = wide<decltype(on)>;
                const size_t n = (size_t)s.M * s.V;
                std::vector<float> z = draw<float>(n, 1, 4);
                for (float& x : z) { x = std::round(x); }  // makes ties for the largest
                std::vector<int> target = draw_below(s.M, 2, s.V);
                for (int m = 1; m < s.M; m += 3) { target[m] = ignored; }
                A* loss = on.template output<A>("loss", s.M);
                int* correct = on.int_output("correct", s.M);
                E* dz = gradient ? on.template output<E>("dz", {s.M, s.V}) : nullptr;
                CALL(loss_forward_backward, E, loss, correct, dz, on.constant(as<A>(z)), on.constant(target),
                     on.constant(std::vector<StepState>{{0, 0, 0, 0.25, 0}}), s);
            });
        }
    }
}

// dz may overwrite z.
TEST(Kernels, LossInPlace) {
    const LossShape s{9, 300};
    auto run = [&](auto& on) {
        using A = wide<decltype(on)>;
        A* z = on.template inout<A>("dz", {s.M, s.V}, as<A>(draw<float>((size_t)s.M * s.V, 1, 4)));
        A* loss = on.template output<A>("loss", s.M);
        int* correct = on.int_output("correct", s.M);
        CALL(loss_forward_backward, A, loss, correct, z, z, on.constant(draw_below(s.M, 2, s.V)),
             on.constant(std::vector<StepState>{{0, 0, 0, 0.25, 0}}), s);
    };
    expect_kernels_of<float>("loss in place", 3, run);
}

// Rows 0 to 2: all logits are -inf except the last 7, so most threads see only -inf; in row 0 the target is
// an additional exception. Rows 3 to 6: the largest logit occurs twice, and the answer counts as correct
// only if the target is the first of them.
TEST(Kernels, LossOfMinusInfinity) {
    const LossShape s{8, 9003};
    std::vector<float> z = draw<float>((size_t)s.M * s.V, 1, 4);
    std::vector<int> target = draw_below(s.M, 2, s.V);
    const auto row = [&](int m) { return z.begin() + (size_t)m * s.V; };
    for (int m : {0, 1, 2}) { std::fill(row(m), row(m) + s.V - 7, -INFINITY); }
    target[0] = 5, target[1] = s.V - 1, target[2] = s.V - 7;
    for (int m : {3, 4, 5, 6, 7}) {
        target[m] = 4000 + m;
        row(m)[target[m]] = 100;
    }
    row(0)[5] = 2;
    row(3)[8500] = row(4)[target[4] - 1] = row(5)[0] = row(6)[s.V - 1] = 100;
    expect_kernels("loss of -inf", 3, [&](auto& on) {
        using E = element<decltype(on)>;
        using A = wide<decltype(on)>;
        A* loss = on.template output<A>("loss", s.M);
        int* correct = on.int_output("correct", s.M);
        CALL(loss_forward_backward, E, loss, correct, on.template output<E>("dz", z.size()),
             on.constant(as<A>(z)), on.constant(target),
             on.constant(std::vector<StepState>{{0, 0, 0, 0.25, 0}}), s);
    });
}

// One NaN anywhere: the loss and the whole gradient are NaN, in every version. Version 3 refuses rows that
// its packs do not fit.
TEST(Kernels, LossOfNanIsNan) {
    const LossShape s{1, 9003};
    for (int at : {0, 1, 4000, 9002}) {
        for (int version = 1; version <= 3; version++) {
            DeviceRun<true, float, float> on(version);
            std::vector<float> z = draw<float>(s.V, 1, 4);
            z[at] = NAN;
            float *loss = on.output<float>("loss", 1), *dz = on.output<float>("dz", s.V);
            int* correct = on.int_output("correct", 1);
            loss_forward_backward_gpu<float>(on.ctx, loss, correct, dz, on.constant(z),
                                             on.constant(std::vector<int>{17}),
                                             on.constant(std::vector<StepState>{{0, 0, 0, 0.25, 0}}), s);
            const Outputs out = on.results();
            EXPECT_TRUE(std::isnan(out[0].values[0])) << at << " version " << version;
            EXPECT_TRUE(std::isnan(out[1].values[5])) << at << " version " << version;
            if (version < 3) { continue; }
            EXPECT_THROW(loss_forward_backward_gpu<float>(on.ctx, loss, correct, nullptr, dz + 1,
                                                          on.constant(std::vector<int>{17}), nullptr,
                                                          {1, 9000}),
                         Error);
        }
    }
}

TEST(Kernels, AdamW) {
    const size_t n = 25000;
    // Chunks with several tensors, with a tensor that began in an earlier chunk, with none; a gap at the
    // end.
    const std::vector<ParamRange> few{{0, 100, 3, 0},
                                      {128, 1, 1, 0.1f},
                                      {192, 9000, 0.5f, 0.1f},
                                      {9200, 3000, 2, 0},
                                      {17000, 900, 1, 0.2f}};
    std::vector<ParamRange> many;  // more than a block has threads; the first does not begin at 0
    for (size_t r = 0; r < 300; r++) { many.push_back({4160 + 64 * r, 60, 1 + r % 3 * 0.5f, r % 2 * 0.1f}); }
    struct Case {
        bool finite;  // a norm that is not finite must change nothing
        const std::vector<ParamRange>& ranges;
        uint32_t step;
    };
    for (const auto& [finite, ranges, step] :
         {Case{true, few, 5}, {false, few, 5}, {true, many, 1}, {true, few, 1000000}}) {
        expect_kernels("adamw", 1, [&, finite = finite, &ranges = ranges, step = step](auto& on) {
            using E = element<decltype(on)>;
            using A = wide<decltype(on)>;
            const auto positive = [&](uint64_t stream) {
                std::vector<float> v = draw<float>(n, stream);
                for (float& x : v) { x *= x; }
                return as<A>(v);
            };
            std::vector<float> gradient = draw<float>(n, 1);
            for (size_t r = 0; r < ranges.size(); r++) {
                const size_t next = r + 1 < ranges.size() ? ranges[r + 1].begin : n;
                std::fill(gradient.begin() + ranges[r].begin + ranges[r].count, gradient.begin() + next, 0.f);
            }
            std::fill(gradient.begin(), gradient.begin() + ranges[0].begin, 0.f);
            if (!finite) { gradient[5] = INFINITY; }
            const A* g = on.constant(as<A>(gradient));
            A* w = on.template inout<A>("w", as<A>(draw<float>(n, 2)));
            E* w_low = !std::decay_t<decltype(on)>::low
                           ? nullptr
                           : on.template inout<E>("w_low", as<E>(draw<float>(n, 2)));
            A* m = on.template inout<A>("m", as<A>(draw<float>(n, 3)));
            A* v = on.template inout<A>("v", positive(4));
            A* norm = finite ? on.template output<A>("norm", 1) : on.constant(std::vector<A>{A(0)});
            const size_t count = square_sums_count(n);
            double* sums =
                finite ? on.template output<double>("sums", count) : on.constant(std::vector<double>(count));
            CALL(square_sums, A, sums, g, n);
            CALL(grad_norm, A, norm, sums, count);
            CALL(adamw, E, w, w_low, m, v, g, norm, on.constant(ranges), (int)ranges.size(),
                 on.constant(std::vector<StepState>{{0, step, 0, 0, 1e-2}}),
                 AdamWShape{n, 0.9, 0.999, 1e-8, 1});
        });
    }
}

// More partial sums than the last block of the norm loads in one round: 3, 4, 12 and 84 among 33 million
// zeros; the 84 is added by another warp.
TEST(Kernels, NormOfManyPartialSums) {
    const size_t chunk = 4096, n = 8192 * chunk + 5000;
    Ctx ctx;
    ctx.device = Device::gpu;
    float *g = (float*)gpu_device.allocate(n * sizeof(float)),
          *norm = (float*)gpu_device.allocate(sizeof(float));
    const size_t count = square_sums_count(n);
    double* sums = (double*)gpu_device.allocate(count * sizeof(double));
    {
        std::vector<float> host(n);
        host[0] = 3, host[1024 * chunk + 5] = 4, host[n - 1] = 12, host[700 * chunk + 9] = 84;
        gpu_device.to_device({}, g, host.data(), n * sizeof(float));
    }
    square_sums_gpu<float>(ctx, sums, g, n);
    grad_norm_gpu<float>(ctx, norm, sums, count);
    float got = 0;
    gpu_device.to_host({}, &got, norm, sizeof(float));
    EXPECT_EQ(got, 85);
    gpu_device.release((char*)sums, count * sizeof(double));
    gpu_device.release((char*)g, n * sizeof(float)), gpu_device.release((char*)norm, sizeof(float));
}

}  // namespace

}  // namespace moba

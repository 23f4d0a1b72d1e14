/* Ranks together compute what one rank computes alone. */
#include "moba/sent_bytes.h"
#include "test/support/model_case.h"
#include "test/support/rank_threads.h"

namespace moba {

namespace {

using namespace model_case;

// What a run of a few steps leaves.
struct Result {
    std::vector<double> losses, norms, weights, moment1, moment2;
};

// The sequences [first, end) of d, which are those of one rank; first token: d.cu[first].
Data part(const Data& d, int first, int end) {
    Data p;
    p.scale = d.scale;
    const int from = d.cu[first], to = d.cu[end];
    p.tokens.assign(d.tokens.begin() + from, d.tokens.begin() + to);
    p.targets.assign(d.targets.begin() + from, d.targets.begin() + to);
    for (int i = first + 1; i <= end; i++) { p.cu.push_back(d.cu[i] - from); }
    return p;
}

const std::vector<int> five{20, 17, 1, 33, 12};

/* Three steps of two micro-batches; each has the five sequences, shared out among the ranks. `uneven`: the
   first rank has only one of them, and none in the second micro-batch. */
template <class E>
Result steps(const Config& c, float dropout, Comm& comm, bool uneven, int context = 1) {
    ModelSizes sizes{.max_tokens = 83,
                     .max_seqs = 5,
                     .max_position = 33,
                     .training = true,
                     .dropout = dropout,
                     .context = context};
    Model<E> model(c, sizes, Device::cpu, comm);
    model.allocate();
    model.init_weights(7);
    model.set_optimizer({.weight_decay = 0.1, .clip = 0.5, .embedding_lr_factor = 2});
    Result result;
    const int R = comm.size() / context, r = comm.rank() / context;  // each group has its own sequences
    for (uint32_t step = 1; step <= 3; step++) {
        StepState s{3, step, 0, 0, 1e-2};
        model.zero_gradients();
        for (int micro = 0; micro < 2; micro++) {
            Data d = data(five, c.vocab_size);
            std::rotate(d.tokens.begin(), d.tokens.begin() + 3 * step + micro, d.tokens.end());
            int first = 5 * r / R, end = 5 * (r + 1) / R;
            if (uneven && R > 1) {
                const int of_0 = 1 - micro;
                first = r == 0 ? 0 : of_0 + (5 - of_0) * (r - 1) / (R - 1);
                end = r == 0 ? of_0 : of_0 + (5 - of_0) * r / (R - 1);
            }
            s.loss_scale = d.scale / 2, s.micro_batch = (uint32_t)micro;
            if (first == end) {
                if (micro == 1) { model.skip_last_passes(); }
                continue;
            }
            const Data mine = part(d, first, end);
            model.set_batch(mine.tokens.data(), mine.targets.data(), mine.cu, s, d.cu[first]);
            model.training_passes(micro == 1);
        }
        model.update(s);
        const auto got = model.step_result();
        double loss = got.loss;
        comm.all_reduce(&loss, 1);
        result.losses.push_back(loss), result.norms.push_back(got.norm);
    }
    using Kind = typename Model<E>::Kind;
    result.weights = all(model, Kind::weight);
    result.moment1 = all(model, Kind::moment1), result.moment2 = all(model, Kind::moment2);
    expect_intact(model);
    return result;
}

void expect_equal(const std::string& name, const Result& got, const Result& want, double tolerance) {
    expect_error(name + "losses", relative_error(got.losses, want.losses), tolerance);
    expect_error(name + "norms", relative_error(got.norms, want.norms), tolerance);
    expect_error(name + "weights", relative_error(got.weights, want.weights), tolerance);
    expect_error(name + "moment1", relative_error(got.moment1, want.moment1), tolerance);
    expect_error(name + "moment2", relative_error(got.moment2, want.moment2), tolerance);
}

// Gradients are added in another order than by one rank, and three steps let the differences grow.
template <class E>
void expect_equal_to_one_rank(double tolerance) {
    for (const auto& [config, dropout] : variety()) {
        Comm alone;
        const Result want = steps<E>(config, dropout, alone, false);
        for (int R : {1, 2, 3, 4, 7}) {
            for (bool uneven : {false, true}) {
                run_ranks(R, [&, &config = config, &dropout = dropout](Comm& comm) {
                    const Result got = steps<E>(config, dropout, comm, uneven);
                    expect_equal(std::string(type_name<E>()) + " ranks: ", got, want, tolerance);
                });
            }
        }
    }
}

TEST(Ranks, EqualOneRank) { expect_equal_to_one_rank<double>(2e-13); }
TEST(Ranks, EqualOneRankFp32) { expect_equal_to_one_rank<float>(1e-4); }
TEST(Ranks, EqualOneRankBf16) { expect_equal_to_one_rank<bf16>(6e-6); }

// Ranks that share the sequences, in one group or in two.
template <class E>
void expect_context_equals_one_rank(double tolerance) {
    // A window's sums have another order on several ranks. In bf16 that can round otherwise, and the next
    // layer then chooses otherwise; so there only moba, whose forward pass has the same bits.
    Config c = small(std::is_same_v<E, bf16> ? "moba,moba:none" : "window:6:rope,moba:none,full", 3);
    c.num_heads = 4, c.num_kv_heads = 2, c.block_size = 4, c.top_k = 3;
    for (float dropout : {0.f, 0.3f}) {
        Comm alone;
        const Result want = steps<E>(c, dropout, alone, false);
        for (const auto& [R, context] : {std::pair{2, 2}, {3, 3}, {4, 2}, {4, 4}}) {
            run_ranks(R, [&, context = context](Comm& comm) {
                const Result got = steps<E>(c, dropout, comm, false, context);
                expect_equal(std::string(type_name<E>()) + " context ranks: ", got, want, tolerance);
            });
        }
    }
}
TEST(Ranks, ContextEqualsOneRank) { expect_context_equals_one_rank<double>(1e-14); }
TEST(Ranks, ContextEqualsOneRankFp32) { expect_context_equals_one_rank<float>(5e-6); }
TEST(Ranks, ContextEqualsOneRankBf16) { expect_context_equals_one_rank<bf16>(5e-7); }

// A rank without a block: it takes part in what the others exchange.
TEST(Ranks, ContextOfFewBlocks) {
    Config c = small("window:6:rope,moba:none,full", 3);
    c.block_size = 8;
    Comm alone;
    const auto pass_of = [&](Comm& comm, int context) {
        Model<double> model(
            c, {.max_tokens = 9, .max_seqs = 1, .max_position = 9, .training = true, .context = context},
            Device::cpu, comm);
        model.allocate();
        model.init_weights(7);
        const Data d = data({9}, c.vocab_size);  // two blocks
        StepState s = state;
        s.loss_scale = d.scale;
        model.zero_gradients();
        model.set_batch(d.tokens.data(), d.targets.data(), d.cu, s);
        model.training_passes();
        model.update(s);
        return all(model, Model<double>::Kind::weight);
    };
    const std::vector<double> want = pass_of(alone, 1);
    run_ranks(4, [&](Comm& comm) {
        expect_error("context of few blocks", relative_error(pass_of(comm, 4), want), 1e-13);
    });
}

// All ranks have the same bits, and so do two runs.
TEST(Ranks, SameBits) {
    const Config c = variety()[0].first;
    std::vector<Result> results(6);
    for (int run : {0, 1}) {
        run_ranks(3,
                  [&](Comm& comm) { results[run * 3 + comm.rank()] = steps<float>(c, 0.2f, comm, false); });
    }
    for (const Result& r : results) {
        EXPECT_EQ(r.losses, results[0].losses);
        EXPECT_EQ(r.norms, results[0].norms);
        EXPECT_EQ(r.weights, results[0].weights);
        EXPECT_EQ(r.moment2, results[0].moment2);
    }
}

// Through a device's collectives: the same bits, and the same bytes are counted.
TEST(Ranks, CollectivesOfADevice) {
    Config c = small("window:6:rope,moba:none,full", 3);
    c.num_heads = 4, c.num_kv_heads = 2, c.block_size = 4, c.top_k = 3;
    for (int context : {1, 2, 4}) {
        std::vector<Result> host(4), device(4);
        std::vector<size_t> sent_host(4), sent_device(4);
        run_ranks(4, [&](Comm& comm) {
            host[comm.rank()] = steps<float>(c, 0.3f, comm, false, context);
            sent_host[comm.rank()] = comm.sent();
        });
        RankThreads devices(4);
        run_ranks(4, [&](Comm& comm) {
            comm.set_device(std::make_unique<HostDeviceComm>(devices, comm.rank()));
            device[comm.rank()] = steps<float>(c, 0.3f, comm, false, context);
            sent_device[comm.rank()] = comm.sent();
        });
        EXPECT_EQ(sent_device, sent_host);
        for (int r = 0; r < 4; r++) {
            EXPECT_EQ(device[r].losses, host[r].losses) << context;
            EXPECT_EQ(device[r].weights, host[r].weights) << context;
            EXPECT_EQ(device[r].moment2, host[r].moment2) << context;
        }
    }
}

// What a step sends: gradients, the sums for their norm, weights.
TEST(Ranks, BytesAreThoseOfTheFormula) {
    const Config c = variety()[0].first;
    for (int R : {2, 3, 4}) {
        run_ranks(R, [&](Comm& comm) {
            const Data d = data({20}, c.vocab_size);
            Model<bf16> model(c, {.max_tokens = 20, .max_seqs = 1, .max_position = 20, .training = true},
                              Device::cpu, comm);
            model.allocate();
            model.init_weights(7);
            model.set_batch(d.tokens.data(), d.targets.data(), d.cu, state);
            const size_t before = comm.sent();
            model.training_passes();
            model.update(state);
            EXPECT_EQ((double)(comm.sent() - before), update_bytes(c, R, {sizeof(bf16), sizeof(float)}));
            EXPECT_NEAR((double)(comm.sent() - before), 6.0 * model.num_parameters() * (R - 1) / R,
                        64 * 6 * (c.num_layers + 3) + 8e3)
                << "docs/many.md";
        });
    }
}

// What is written comes back, whichever rank owns it, and the memory of moments is shared out.
TEST(Ranks, OwnedSlices) {
    const Config c = variety()[2].first;
    size_t alone = 0;
    {
        const Model<bf16> model(c, {.max_tokens = 8, .max_seqs = 1, .max_position = 8, .training = true});
        alone = model.owned_elements();
    }
    for (int R : {2, 3}) {
        run_ranks(R, [&](Comm& comm) {
            Model<bf16> model(c, {.max_tokens = 8, .max_seqs = 1, .max_position = 8, .training = true},
                              Device::cpu, comm);
            model.allocate();
            EXPECT_GE(model.owned_elements() * R, alone - 64 * model.params().size());
            EXPECT_LE(model.owned_elements(), alone / R + 64 * (c.num_layers + 3));
            using Kind = Model<bf16>::Kind;
            for (Kind kind : {Kind::weight, Kind::moment1, Kind::moment2}) {
                for (const ParamInfo& p : model.params()) {
                    model.write_param(kind, p, draw<float>(p.count, p.begin + (int)kind));
                }
            }
            std::vector<float> got;
            for (Kind kind : {Kind::weight, Kind::moment1, Kind::moment2}) {
                for (const ParamInfo& p : model.params()) {
                    model.read_param(kind, p, got);
                    EXPECT_EQ(got, draw<float>(p.count, p.begin + (int)kind)) << p.name;
                }
            }
            expect_intact(model);
        });
    }
}

}  // namespace

}  // namespace moba

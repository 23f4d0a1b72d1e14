/* Whole trainings: a tiny run learns, far better than chance, and uses no more memory than it announced. */
#include "moba/core/philox.h"
#include "moba/model.h"
#include "test/support/check.h"
#include "test/support/program.h"
#include <nlohmann/json.hpp>
#include <unistd.h>

namespace moba {

static double final_accuracy(const std::string& run) {
    std::ifstream in(run + "/log.jsonl");
    std::string line;
    double accuracy = -1;
    while (std::getline(in, line)) {
        const auto j = nlohmann::json::parse(line);
        if (j.contains("val_accuracy")) { accuracy = j["val_accuracy"]; }
    }
    return accuracy;
}

TEST(Training, TinyRunLearns) {
    const TempDir dir;
    const std::string common =
        "train --hidden-size 64 --num-layers 2 --seq-len 32 --batch-size 128 --pairs 8 --steps 200 --lr 3e-3 "
        "--embedding-lr-factor 3 --block-size 16 --top-k 2 --eval-every 200 --log-every 100 --lr-schedule "
        "constant ";
    const Outcome r = moba(common + "--out " + (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_GE(final_accuracy(dir / "run"), 0.95) << r.out;
    // a model that sees only its own block cannot learn this
    const Outcome local = moba(common + "--top-k 1 --out " + (dir / "local"));
    ASSERT_EQ(local.status, 0);
    EXPECT_LE(final_accuracy(dir / "local"), 0.8) << local.out;
}

static size_t resident_bytes() {
    std::ifstream in("/proc/self/statm");
    size_t all = 0, resident = 0;
    in >> all >> resident;
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

// Runs steps on one sequence of T tokens; returns the growth of resident memory and the planned memory.
static void grow(int T, const std::string& layers, double* growth, double* plan) {
    Config c;
    c.vocab_size = 97;
    c.hidden_size = 128;
    c.num_heads = 2;
    c.num_kv_heads = 1;
    c.intermediate_size = 320;
    c.block_size = 64;
    c.layers = parse_layers(layers, c.num_layers);
    Model<float> model(c, {.max_tokens = T, .max_seqs = 1, .max_position = T, .training = true});
    *plan = (double)model.bytes();
    std::vector<int> tokens(T), targets(T);
    Rng rng(1, Purpose::test, 0);
    for (int t = 0; t < T; t++) { tokens[t] = rng.below(97), targets[t] = rng.below(97); }
    const size_t before = resident_bytes();
    model.allocate();
    model.init_weights(1);
    for (uint32_t step = 1; step <= 2; step++) {
        model.zero_gradients();
        model.set_batch(tokens.data(), targets.data(), {0, T}, {1, step, 0, 1.0 / T, 1e-3});
        model.forward(true);
        model.loss(true);
        model.backward();
        model.update({1, step, 0, 1.0 / T, 1e-3});
    }
    *growth = (double)resident_bytes() - (double)before;
}

TEST(Training, MemoryIsWhatWasPlannedAndLinear) {
    double growth, plan, warm_up;
    grow(256, "moba,full", &warm_up, &plan);  // libraries and threads allocate their memory once
    for (const char* layers : {"moba", "full"}) {
        double before = 0;
        for (int T : {4096, 8192}) {
            grow(T, layers, &growth, &plan);
            std::printf("  %s T = %d: planned %.1f MB, grew by %.1f MB\n", layers, T, plan / 1e6,
                        growth / 1e6);
            EXPECT_LE(growth, 1.05 * plan);
            EXPECT_GE(growth, 0.80 * plan) << "planned far more than is used";
            if (before > 0) { EXPECT_LE(plan, 2.02 * before) << "linear in T"; }
            before = plan;
        }
    }
}

}  // namespace moba

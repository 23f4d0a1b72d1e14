/* --precision: bf16 learns and resumes with the same bits, and models are readable in either precision. */
#include "test/support/check.h"
#include "test/support/program.h"
#include <nlohmann/json.hpp>

namespace moba {

namespace {

using nlohmann::json;

std::vector<double> losses_of(const std::string& run) {
    std::ifstream in(run + "/log.jsonl");
    std::vector<double> losses;
    for (std::string line; std::getline(in, line);) {
        const json j = json::parse(line);
        if (j.contains("loss")) { losses.push_back(j["loss"]); }
    }
    return losses;
}

const std::string run = std::string(tiny_run) + "--steps 60 --save-every 20 --lr 1e-2 --dropout 0.1 ";

TEST(Precision, Bf16LearnsAndResumesExactly) {
    const TempDir dir;
    const Outcome r = moba(run + "--precision bf16 --out " + (dir / "run"));
    ASSERT_EQ(r.status, 0) << r.out;
    EXPECT_NE(r.out.find("precision=bf16"), std::string::npos) << r.out;
    const std::vector<double> losses = losses_of(dir / "run");
    ASSERT_EQ(losses.size(), 60u);
    EXPECT_LE(losses.back(), 0.8 * losses.front());

    // go back to step 40, as if the run had been killed before its end
    const std::string weights = read_text(dir / "run/latest/model.safetensors"),
                      moments = read_text(dir / "run/latest/state.safetensors");
    std::filesystem::remove_all(dir / "run/step-60");
    std::filesystem::remove(dir / "run/latest");
    std::filesystem::create_directory_symlink("step-40", dir / "run/latest");
    const Outcome other = moba_errors("train --resume --precision fp32 --out " + (dir / "run"));
    EXPECT_EQ(other.status, 1);
    EXPECT_NE(other.out.find("--precision \"fp32\" contradicts the run"), std::string::npos) << other.out;
    ASSERT_EQ(moba("train --resume --out " + (dir / "run")).status, 0);
    EXPECT_EQ(read_text(dir / "run/latest/model.safetensors"), weights);
    EXPECT_EQ(read_text(dir / "run/latest/state.safetensors"), moments);
    EXPECT_EQ(losses_of(dir / "run"), losses);
}

// The same training in both precisions gives similar but not identical models. Each model gives nearly the
// same loss when it is read in either precision.
TEST(Precision, EitherReadsTheOther) {
    const TempDir dir;
    for (const std::string trained : {"fp32", "bf16"}) {
        ASSERT_EQ(moba(run + "--precision " + trained + " --out " + (dir / trained)).status, 0);
        double loss[2];
        for (const std::string read : {"fp32", "bf16"}) {
            const std::string model = " --precision " + read + " --model " + (dir / trained);
            const Outcome e = moba("eval --samples 50 --depths 2 --json " + (dir / "e.json") + model);
            ASSERT_EQ(e.status, 0) << e.out;
            const json j = json::parse(read_text(dir / "e.json"));
            EXPECT_EQ(j["precision"], read);
            double sum = 0, count = 0;
            for (const json& p : j["lengths"][0]["loss_by_position"]) {
                sum += p["loss"].get<double>() * p["count"].get<double>();
                count += p["count"].get<double>();
            }
            loss[read == "bf16"] = sum / count;
            const Outcome s = moba("sample --prompt 'k1 v2 n3 k1' --max-new-tokens 3" + model);
            EXPECT_EQ(s.status, 0) << s.out;
        }
        EXPECT_NE(loss[0], loss[1]);
        EXPECT_NEAR(loss[1] / loss[0], 1, 0.02) << trained;
    }
    const double fp32 = losses_of(dir / "fp32")[0], low = losses_of(dir / "bf16")[0];
    EXPECT_NE(fp32, low);
    EXPECT_NEAR(low / fp32, 1, 0.02) << "the same weights and the same samples";
}

TEST(Precision, OthersAreRefused) {
    for (const char* command : {"train", "eval --model x", "sample --model x", "bench step"}) {
        for (const char* bad : {"fp16", "BF16", "''"}) {
            const Outcome r = moba_errors(std::string(command) + " --precision " + bad);
            EXPECT_EQ(r.status, 2) << command << " " << bad;
            EXPECT_NE(r.out.find("--precision"), std::string::npos) << r.out;
            EXPECT_EQ(lines(r.out), 1) << r.out;
        }
    }
}

TEST(Precision, BenchInBf16) {
    for (const char* what : {"attention --head-dim 16", "step --hidden-size 32 --num-layers 1",
                             "decode --hidden-size 32 --num-layers 1", "op --hidden-size 32 --head-dim 16"}) {
        const Outcome r =
            moba(std::string("bench ") + what +
                 " --precision bf16 --seq-len 64 --num-heads 2 --repeats 1 --block-size 16 --top-k 2");
        EXPECT_EQ(r.status, 0) << r.out;
        EXPECT_NE(r.out.find(", bf16: "), std::string::npos) << r.out;
    }
}

}  // namespace

}  // namespace moba

/* The counts of the lab: of kernels that were counted by hand, and what `moba lab` makes of them. */
#include "test/lab/lab_cases.h"
#include "train/lab/lab_report.h"
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace moba {
namespace {

struct Memory : testing::Test {
    Memory() { prepare_lab_cases(); }
    ~Memory() override { finish_lab_cases(); }
};
using Lab = Memory;

std::vector<KernelCounts> counted(const LabCase& c, RecordPlan plan = {}) {
    recorder->start(c.name, plan);
    c.run();
    return recorder->stop();
}
const LabCase& case_of(const std::string& name) {
    for (const LabCase& c : lab_cases()) {
        if (name == c.name) { return c; }
    }
    throw Error("no case " + name);
}

TEST_F(Lab, CountsAreThoseByHand) {
    for (const LabCase& c : lab_cases()) {
        const std::vector<KernelCounts> kernels = counted(c);
        ASSERT_EQ(kernels.size(), 1u) << c.name;
        for (bool write : {false, true}) {
            MemoryCounts g, m;
            for (const auto& [pc, counts] : kernels[0].at) {
                if (counts.write == write) { (counts.shared ? m : g).add(counts); }
            }
            const WantGlobal& w = write ? c.written : c.read;
            const WantShared& s = write ? c.shared_written : c.shared_read;
            const char* what = write ? " written" : " read";
            EXPECT_EQ(g.requests, w.requests) << c.name << what;
            EXPECT_EQ(g.sectors, w.sectors) << c.name << what;
            EXPECT_EQ(g.ideal_sectors, w.ideal) << c.name << what;
            EXPECT_EQ(g.lines, w.lines) << c.name << what;
            EXPECT_EQ(m.requests, s.requests) << c.name << what;
            EXPECT_EQ(m.wavefronts, s.wavefronts) << c.name << what;
            EXPECT_EQ(m.conflicts, s.conflicts) << c.name << what;
        }
    }
}

// Of 2 blocks one is counted, and times are scaled to both.
TEST_F(Lab, SomeOfTheBlocks) {
    RecordPlan plan;
    plan.blocks = 1;
    const KernelCounts all = counted(case_of("float copy"))[0], one = counted(case_of("float copy"), plan)[0];
    EXPECT_EQ(one.counted, 1u);
    EXPECT_EQ(one.blocks, 2u);
    EXPECT_EQ(one.scale(), 2);
    const LabCard& card = lab_card("h100");
    EXPECT_EQ(2 * sum_kernel(card, one, 0).global.requests, sum_kernel(card, all, 0).global.requests);
    EXPECT_NEAR(sum_kernel(card, one, 0).l2, sum_kernel(card, all, 0).l2, 1e-15);
}

TEST_F(Lab, NothingIsCountedUnlessAsked) {
    case_of("float copy").run();
    recorder->start("empty", {});
    EXPECT_TRUE(recorder->stop().empty());
}

// 2 x 256 floats read and written: each byte moves once, at L2 and at DRAM.
TEST_F(Lab, CachesAndTimes) {
    const LabCard& card = lab_card("h100");
    const KernelCounts k = counted(case_of("float copy"))[0];
    EXPECT_EQ(k.sectors_read, 64u);
    EXPECT_EQ(k.sectors_written, 64u);
    EXPECT_EQ(k.dram_read, 2048u);
    EXPECT_EQ(k.dram_written, 2048u);
    const KernelSums s = sum_kernel(card, k, 0);
    EXPECT_EQ(s.global.l2_sectors, 128u);
    EXPECT_DOUBLE_EQ(s.dram, 4096 / card.dram);
    // a block has 16 requests of one line, each a wavefront; both run at the same time
    EXPECT_DOUBLE_EQ(s.sm, 16 / card.clock);
    // the same sectors again are in L1: stride 0
    const KernelCounts broadcast = counted(case_of("broadcast"))[0];
    EXPECT_EQ(broadcast.dram_read, 32u);
}

// 128 registers of 256 threads: 2 blocks of 65536; 100 KB of shared memory: 2 of 228 KB
TEST_F(Lab, Occupancy) {
    const LabCard& card = lab_card("h100");
    KernelCounts k;
    k.kernel = (const void*)&lab_cases;  // no kernel: its registers are unknown
    k.block[0] = 256, k.block[1] = k.block[2] = 1;
    EXPECT_EQ(kernel_resources(card, k).resident, 8u);  // 64 warps
    k.shared_bytes = 100 << 10;
    EXPECT_EQ(kernel_resources(card, k).resident, 2u);
    EXPECT_EQ(kernel_resources(lab_card("a100"), k).resident, 1u);
}

TEST_F(Lab, Report) {
    LabReport report{.card = lab_card("h200"), .sizes = "sizes", .kernels = {}, .chains = {}};
    for (const char* name : {"transpose", "misaligned"}) {
        KernelCounts k = counted(case_of(name))[0];
        report.kernels.push_back({k, sum_kernel(report.card, k, 0), kernel_name(k.kernel), 1});
    }
    std::set<uint32_t> addresses;
    for (const LabKernel& k : report.kernels) {
        for (const auto& [pc, c] : k.counts.at) { addresses.insert(pc - 1); }
    }
    report.chains = source_chains(addresses);
    EXPECT_EQ(report.kernels[0].name, "transpose_kernel<32>");
    const std::string text = lab_text(report, report.kernels[0], 1);
    EXPECT_NE(text.find("1056 wavefronts"), std::string::npos) << text;
    EXPECT_NE(text.find("tile[threadIdx.x][threadIdx.y]"), std::string::npos)
        << text;  // the costly line first
    EXPECT_NE(text.find("more lines"), std::string::npos) << text;

    // Each access is at one line, and all lines together have all requests.
    uint64_t requests = 0;
    for (const auto& [at, line] : lines_of(report, report.kernels[0].counts)) {
        EXPECT_NE(at.first.find("lab_cases.cu"), std::string::npos);
        requests += line.read.requests + line.written.requests + line.shared_read.requests +
                    line.shared_written.requests;
    }
    EXPECT_EQ(requests, 128u);

    const nlohmann::json j = lab_json(report);
    EXPECT_EQ(j["kernels"][0]["exact"]["shared"]["conflicts"], 992);
    EXPECT_EQ(j["kernels"][1]["exact"]["global"]["sectors"], 80 + 64);
    EXPECT_EQ(j["kernels"][0]["lines"].size(), 4u);

    const std::string page = lab_page(report);
    EXPECT_NE(page.find("transpose_kernel&lt;32&gt;"), std::string::npos);
    EXPECT_NE(page.find("const requests = [["), std::string::npos);
}

}  // namespace
}  // namespace moba

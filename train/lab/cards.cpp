#include "train/lab/cards.h"
#include "train/lab/source_lines.h"
#include <algorithm>
#include <cmath>
#include <fstream>
#include <sstream>

namespace moba {

static const std::vector<LabCard>& cards() {
    // H100 and H200: fp32 at the boost clock would be 67 TFLOP/s; here everything is at one clock.
    static const std::vector<LabCard> all{
        {"h100", "H100 SXM", "sm_90a", "90", 3.35e12, 5.5e12, 1.755e9, 59.3e12, 949e12, 132, 79ul << 30,
         50 << 20, 256 << 10, 228 << 10, 227 << 10},
        {"h200", "H200", "sm_90a", "90", 4.8e12, 5.5e12, 1.755e9, 59.3e12, 949e12, 132, 139ul << 30, 50 << 20,
         256 << 10, 228 << 10, 227 << 10},
        {"a100", "A100 SXM 80GB", "sm_80", "80", 2.04e12, 4.5e12, 1.41e9, 19.5e12, 312e12, 108, 79ul << 30,
         40 << 20, 192 << 10, 164 << 10, 163 << 10}};
    return all;
}
const LabCard& lab_card(std::string_view id) {
    for (const LabCard& c : cards()) {
        if (id == c.id) { return c; }
    }
    throw Error("--card " + std::string(id) + ": must be " + lab_card_names());
}
std::vector<std::string> lab_card_ids() {
    std::vector<std::string> ids;
    for (const LabCard& c : cards()) { ids.push_back(c.id); }
    return ids;
}
std::string lab_card_names() {
    const std::vector<std::string> ids = lab_card_ids();
    std::string text;
    for (size_t i = 0; i < ids.size(); i++) {
        text += (i == 0 ? "" : i + 1 == ids.size() ? " or " : ", ") + ids[i];
    }
    return text;
}

// Registers and static shared memory by "arch kernel"
static const std::map<std::string, std::pair<unsigned, unsigned>>& resource_table() {
    static const auto table = [] {
        std::map<std::string, std::pair<unsigned, unsigned>> rows;
        std::ifstream in(MOBA_SOURCE_DIR "/test/kernels/resources.txt");
        for (std::string line; std::getline(in, line);) {
            std::istringstream words(line);
            std::string arch, dynamic, threads, occupancy, kernel;
            unsigned registers, shared;
            if (!(words >> arch >> registers >> shared >> dynamic >> threads >> occupancy)) { continue; }
            std::getline(words >> std::ws, kernel);
            rows[arch + " " + kernel] = {registers, shared};
        }
        return rows;
    }();
    return table;
}

KernelResources kernel_resources(const LabCard& card, const KernelCounts& k) {
    KernelResources r;
    const auto row = resource_table().find(std::string(card.arch) + " " + kernel_name(k.kernel));
    if (row != resource_table().end()) {
        r.registers = row->second.first, r.static_shared = row->second.second;
    }
    const unsigned warps = ceil_div(k.threads(), 32u);
    // registers are allocated to warps, 256 at a time
    const unsigned of_warp = r.registers ? round_up(r.registers * 32, 256u) : 0;
    const size_t shared = k.shared_bytes + r.static_shared + card.reserved_shared;
    const unsigned by_registers = of_warp ? card.registers / of_warp / warps : card.blocks;
    r.resident = std::max(1u, std::min({(unsigned)card.blocks, card.warps / warps, by_registers,
                                        (unsigned)(card.shared_bytes / shared)}));
    return r;
}

KernelSums sum_kernel(const LabCard& card, const KernelCounts& k, double flop) {
    KernelSums s{};
    for (const auto& [pc, c] : k.at) { (c.shared ? s.shared : s.global).add(c); }
    for (const auto& [place, m] : k.meetings) {
        s.barriers += m.barriers, s.warp_operations += m.warp_operations;
    }
    const double scale = k.scale(), grid = (double)k.blocks / k.launches,
                 busy = std::min<double>(card.sms, grid);
    s.waves = grid / ((double)card.sms * k.resources.resident);
    s.dram = scale * (k.dram_read + k.dram_written) / card.dram;
    s.l2 = scale * 32 * s.global.l2_sectors / card.l2;
    s.sm = scale * (s.global.lines + s.shared.wavefronts) / busy / card.clock;
    s.longest_block = k.launches * (double)k.longest_block / card.clock;
    s.fp32 = flop / (card.fp32 * busy / card.sms);
    s.tensor = k.tensor_flop / (card.tensor * busy / card.sms);
    const std::pair<double, const char*> times[] = {
        {s.dram, "DRAM"},
        {s.l2, "L2"},
        {s.sm, s.shared.wavefronts > s.global.lines ? "shared memory" : "L1"},
        {s.longest_block, "the longest thread block"},
        {s.fp32, "fp32 arithmetic"},
        {s.tensor, "tensor cores"}};
    const auto& most = *std::max_element(std::begin(times), std::end(times));
    s.floor = most.first, s.bound = most.second;
    return s;
}

}  // namespace moba

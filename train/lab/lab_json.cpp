#include "train/lab/lab_report.h"
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

// Exact counts.
static json counts_json(const MemoryCounts& c) {
    json out{{"requests", c.requests}, {"lanes", c.lanes}, {"bytes", c.bytes}};
    if (c.shared) {
        out.update({{"wavefronts", c.wavefronts},
                    {"ideal_wavefronts", c.ideal_wavefronts},
                    {"conflicts", c.conflicts}});
    } else {
        out.update({{"sectors", c.sectors}, {"ideal_sectors", c.ideal_sectors}, {"lines", c.lines}});
    }
    return out;
}

json lab_json(const LabReport& report) {
    json kernels = json::array();
    for (const LabKernel& kernel : report.kernels) {
        const KernelCounts& k = kernel.counts;
        const KernelSums& s = kernel.sums;
        json lines = json::array();
        for (const auto& [pc, c] : k.at) {
            json places = json::array();
            for (const SourceFrame& f : report.chain(pc)) {
                places.push_back(short_path(f.file) + ":" + std::to_string(f.line));
            }
            json line = counts_json(c);
            line.update({{"places", places},
                         {"memory", c.shared ? "shared" : "global"},
                         {"access", c.write ? "write" : "read"},
                         {"bytes_per_lane", c.size}});
            lines.push_back(line);
        }
        const double scale = k.scale();
        kernels.push_back({{"operation", k.operation},
                           {"version", kernel.version},
                           {"kernel", kernel.name},
                           {"grid", k.grid},
                           {"threads", k.threads()},
                           {"launches", k.launches},
                           {"blocks", k.blocks},
                           {"counted_blocks", k.counted},
                           {"exact",
                            {{"global", counts_json(s.global)},
                             {"shared", counts_json(s.shared)},
                             {"barriers", s.barriers},
                             {"warp_operations", s.warp_operations},
                             {"distinct_bytes_read", 32 * k.sectors_read},
                             {"distinct_bytes_written", 32 * k.sectors_written},
                             {"tensor_flop", k.tensor_flop}}},
                           {"estimated",
                            {{"l2_bytes", scale * 32 * s.global.l2_sectors},
                             {"dram_bytes_read", scale * k.dram_read},
                             {"dram_bytes_written", scale * k.dram_written},
                             {"seconds", s.floor},
                             {"bound", s.bound},
                             {"resident_blocks", k.resources.resident},
                             {"waves", s.waves}}},
                           {"registers", k.resources.registers ? json(k.resources.registers) : json()},
                           {"lines", lines}});
    }
    return {{"card", report.card.name}, {"sizes", report.sizes}, {"kernels", kernels}};
}

}  // namespace moba

#include "train/display/numbers.h"
#include "train/lab/lab_report.h"
#include <algorithm>

namespace moba {

const SourceChain& LabReport::chain(uint32_t pc) const {
    static const SourceChain none;
    const auto it = chains.find(pc - 1);
    return it == chains.end() ? none : it->second;
}

void LabLine::add(const MemoryCounts& c) {
    (c.shared ? c.write ? shared_written : shared_read : c.write ? written : read).add(c);
}
LabLines lines_of(const LabReport& report, const KernelCounts& k) {
    LabLines lines;
    for (const auto& [pc, c] : k.at) {
        std::set<std::pair<std::string, int>> seen;
        for (const SourceFrame& f : report.chain(pc)) {
            if (seen.insert({f.file, f.line}).second) { lines[{f.file, f.line}].add(c); }
        }
    }
    return lines;
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

namespace {

std::string micro(double seconds) { return formatted("%.4g us", 1e6 * seconds); }

std::string place(const SourceFrame& f) {
    return f.file.substr(f.file.rfind('/') + 1) + ":" + std::to_string(f.line);
}
std::string trimmed(const SourceFrame& f) {
    const auto& text = source_text(f.file);
    if (f.line < 1 || f.line > (int)text.size()) { return ""; }
    const std::string& line = text[f.line - 1];
    const size_t at = line.find_first_not_of(' ');
    return at == std::string::npos ? "" : line.substr(at);
}

struct Row {
    std::string where, text;
    MemoryCounts counts;
    uint64_t cost() const { return counts.shared ? counts.wavefronts : counts.lines; }
};
// One for each way to an access, reads and writes apart; the most expensive first.
std::vector<Row> rows_of(const LabReport& report, const KernelCounts& k) {
    std::map<std::string, Row> by_way;
    for (const auto& [pc, c] : k.at) {
        Row row;
        const SourceChain& chain = report.chain(pc);
        for (size_t i = chain.size(); i-- > 0;) {
            row.where += (row.where.empty() ? "" : " > ") + place(chain[i]);
        }
        if (!chain.empty()) { row.text = trimmed(chain.back()); }
        Row& to = by_way.try_emplace(row.where + (c.shared ? " s" : " g") + (c.write ? "w" : "r"), row)
                      .first->second;
        to.counts.add(c);
    }
    std::vector<Row> rows;
    for (const auto& [way, row] : by_way) { rows.push_back(row); }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const Row& a, const Row& b) { return a.cost() > b.cost(); });
    return rows;
}

}  // namespace

std::string lab_text(const LabReport& report, const LabKernel& kernel, int lines) {
    const KernelCounts& k = kernel.counts;
    const KernelSums& s = kernel.sums;
    const MemoryCounts &g = s.global, &m = s.shared;
    const LabCard& card = report.card;
    const unsigned warps = ceil_div(k.threads(), 32u);
    std::string out =
        formatted("\n%s, version %d: %s\n", k.operation.c_str(), kernel.version, kernel.name.c_str());
    const std::string registers = k.resources.registers ? std::to_string(k.resources.registers) : "unknown";
    out += formatted(
        "  launch       %s x (%u, %u, %u) thread blocks of %u threads; %zu + %u bytes of shared memory, "
        "%s registers\n",
        readable_number(k.launches).c_str(), k.grid[0], k.grid[1], k.grid[2], k.threads(), k.shared_bytes,
        k.resources.static_shared, registers.c_str());
    out += formatted("  occupancy    %u thread blocks = %u warps on an SM (%.0f%%); %.2f waves on %d SMs%s\n",
                     k.resources.resident, k.resources.resident * warps,
                     100.0 * k.resources.resident * warps / card.warps, s.waves, card.sms,
                     k.counted < k.blocks
                         ? formatted("; %s of %s thread blocks counted", readable_number(k.counted).c_str(),
                                     readable_number(k.blocks).c_str())
                               .c_str()
                         : "");
    if (g.requests) {
        out += formatted("  memory       %s requests, %s sectors of 32 bytes: %.2f per request, %.2f would "
                         "do: %.0f%% used; %s lines of 128\n",
                         readable_number(g.requests).c_str(), readable_number(g.sectors).c_str(),
                         ratio(g.sectors, g.requests), ratio(g.ideal_sectors, g.requests),
                         100 * ratio(g.ideal_sectors, g.sectors), readable_number(g.lines).c_str());
        out +=
            formatted("  distinct     %sB read, %sB written\n", readable_number(32. * k.sectors_read).c_str(),
                      readable_number(32. * k.sectors_written).c_str());
        out +=
            formatted("  estimated    L1 holds %.0f%% of the sectors; L2 %sB; DRAM %sB read, %sB written\n",
                      100 - 100 * ratio(g.l2_sectors, g.sectors), readable_number(32. * g.l2_sectors).c_str(),
                      readable_number(k.dram_read).c_str(), readable_number(k.dram_written).c_str());
    }
    if (m.requests) {
        out += formatted("  shared       %s requests, %s wavefronts: %.2f per request, %.2f would do; bank "
                         "conflicts: %s (%.0f%%)\n",
                         readable_number(m.requests).c_str(), readable_number(m.wavefronts).c_str(),
                         ratio(m.wavefronts, m.requests), ratio(m.ideal_wavefronts, m.requests),
                         readable_number(m.conflicts).c_str(), 100 * ratio(m.conflicts, m.wavefronts));
    }
    out += formatted("  threads      %.1f lanes per request; %s barriers, %s warp operations",
                     ratio(g.lanes + m.lanes, g.requests + m.requests), readable_number(s.barriers).c_str(),
                     readable_number(s.warp_operations).c_str());
    if (k.tensor_flop) { out += ", " + readable_number(k.tensor_flop) + "flop on tensor cores"; }
    out += "\n  at least     " + micro(s.floor) + " (estimated), " + card.name + ": " + s.bound + ". DRAM " +
           micro(s.dram) + ", L2 " + micro(s.l2) + ", L1 and shared " + micro(s.sm) +
           ", longest thread block " + micro(s.longest_block);
    if (s.fp32 > 0) { out += ", fp32 " + micro(s.fp32); }
    if (s.tensor > 0) { out += ", tensor cores " + micro(s.tensor); }
    out += "\n";
    const std::vector<Row> rows = rows_of(report, k);
    if (lines == 0 || rows.empty()) { return out; }
    const double all = g.lines + m.wavefronts;
    out += "  share  access         bytes   requests  per request  would do  lanes  conflicts  line\n";
    for (int i = 0; i < std::min(lines, (int)rows.size()); i++) {
        const MemoryCounts& c = rows[i].counts;
        const double got = c.shared ? c.wavefronts : c.sectors,
                     ideal = c.shared ? c.ideal_wavefronts : c.ideal_sectors;
        out += formatted("  %4.0f%%  %-6s %-6s %6u %10s  %6.2f %-4s %9.2f %6.1f %10s  ",
                         100 * ratio(rows[i].cost(), all), c.shared ? "shared" : "memory",
                         c.write ? "write" : "read", c.size, readable_number(c.requests).c_str(),
                         ratio(got, c.requests), c.shared ? "wave" : "sect", ratio(ideal, c.requests),
                         ratio(c.lanes, c.requests), c.shared ? readable_number(c.conflicts).c_str() : "");
        out += rows[i].where + "   " + rows[i].text + "\n";
    }
    if (lines < (int)rows.size()) {
        out += formatted("  ... and %d more lines (--lines)\n", (int)rows.size() - lines);
    }
    return out;
}

std::string lab_table_header() {
    return formatted("%-26s %2s %9s %9s %9s %9s %9s %9s %9s %6s %7s  %s\n", "operation", "v", "requests",
                     "sectors", "ideal", "shared", "wavefront", "ideal", "conflicts", "barr.", "warpops",
                     "kernel");
}
std::string lab_table_row(const LabKernel& k) {
    const KernelSums& s = k.sums;
    return formatted(
        "%-26s %2d %9zu %9zu %9zu %9zu %9zu %9zu %9zu %6zu %7zu  %s\n", k.counts.operation.c_str(), k.version,
        (size_t)s.global.requests, (size_t)s.global.sectors, (size_t)s.global.ideal_sectors,
        (size_t)s.shared.requests, (size_t)s.shared.wavefronts, (size_t)s.shared.ideal_wavefronts,
        (size_t)s.shared.conflicts, (size_t)s.barriers, (size_t)s.warp_operations, k.name.c_str());
}

}  // namespace moba

#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/lab/lab_report.h"
#include "train/lab/lab_script.h"
#include <algorithm>
#include <nlohmann/json.hpp>

namespace moba {

using nlohmann::json;

namespace {

std::string two(double x) { return formatted("%.2f", x); }
std::string bad(const std::string& text, bool is) {
    return is ? "<span class=bad>" + text + "</span>" : text;
}

std::string overview(const LabReport& report) {
    HtmlTable t{{"kernel", "requests", "sectors per request (would do)", "bytes used",
                 "shared: wavefronts per request (would do)", "bank conflicts", "lanes per request",
                 "DRAM, estimated", "at least, estimated", "bound by"},
                {}};
    for (size_t i = 0; i < report.kernels.size(); i++) {
        const LabKernel& k = report.kernels[i];
        const MemoryCounts &g = k.sums.global, &m = k.sums.shared;
        const double used = ratio(g.ideal_sectors, g.sectors);
        t.rows.push_back(
            {formatted("<a href=\"#k%zu\">", i) + html_escape(k.counts.operation) +
                 formatted(", version %d</a><br><small>", k.version) + html_escape(k.name) + "</small>",
             readable_number(g.requests) +
                 (m.requests ? "<small>shared: " + readable_number(m.requests) + "</small>" : ""),
             g.requests
                 ? two(ratio(g.sectors, g.requests)) + " (" + two(ratio(g.ideal_sectors, g.requests)) + ")"
                 : "-",
             g.requests ? bad(percent(used), used < 0.5) : "-",
             m.requests ? two(ratio(m.wavefronts, m.requests)) + " (" +
                              two(ratio(m.ideal_wavefronts, m.requests)) + ")"
                        : "-",
             m.requests ? bad(percent(ratio(m.conflicts, m.wavefronts)), m.conflicts * 10 > m.wavefronts)
                        : "-",
             formatted("%.1f", ratio(g.lanes + m.lanes, g.requests + m.requests)),
             readable_number(k.counts.dram_read + k.counts.dram_written) + "B",
             formatted("%.4g us", 1e6 * k.sums.floor), html_escape(k.sums.bound)});
    }
    return html_table(t);
}

// Adds the pictures of a line's requests to `pictures`; returns their numbers.
std::string add_pictures(json& pictures, const LabLine& line) {
    std::string which;
    for (const MemoryCounts* c : {&line.read, &line.written, &line.shared_read, &line.shared_written}) {
        if (!c->requests) { continue; }
        which += (which.empty() ? "" : " ") + std::to_string(pictures.size());
        pictures.push_back(
            {c->shared, c->write, c->worst.size, c->worst.lanes, c->worst.bytes, c->worst.cost});
    }
    return which;
}

// The cells of a line with counts, up to its source. all: the cost of the kernel.
std::string counted_cells(const LabLine& line, double all) {
    MemoryCounts global = line.read, shared = line.shared_read;
    global.add(line.written), shared.add(line.shared_written);
    const double requests = global.requests + shared.requests, got = global.sectors + shared.wavefronts,
                 ideal = global.ideal_sectors + shared.ideal_wavefronts,
                 share = 100 * ratio(line.cost(), all);
    return formatted("<td class=share style=\"--to:%.0f%%\">%.0f%%<td class=less>", share, share) +
           readable_number(requests) + "<td>" + bad(two(ratio(got, requests)), got > 2 * ideal) +
           "<td class=less>" + two(ratio(ideal, requests)) + "<td>" +
           (shared.requests ? bad(readable_number(shared.conflicts), shared.conflicts) : "");
}

// The lines of one file that access memory, and a few lines around them.
std::string file_rows(const std::string& file, const std::map<int, LabLine>& lines, double all,
                      json& pictures) {
    const std::vector<std::string>& text = source_text(file);
    if (text.empty()) { return ""; }
    const std::string name = html_escape(short_path(file)), gap = "<tr class=file><td colspan=7>";
    std::string out = gap + name + "</tr>\n";
    int shown = 0;
    for (const auto& [at, line] : lines) {
        for (int n = std::max(shown + 1, at - 3); n <= std::min(at + 3, (int)text.size()); n++) {
            if (n > at && lines.count(n)) { break; }
            if (shown && n > shown + 1) { out += gap + "&hellip;</tr>\n"; }
            shown = n;
            const std::string number = std::to_string(n),
                              code = "<td class=code>" + html_escape(text[n - 1]) + "</tr>\n";
            out += n == at
                       ? "<tr data-p=\"" + add_pictures(pictures, line) + "\" data-where=\"" + name + ":" +
                             number + formatted("\" data-share=\"%.3f\"><td>", ratio(line.cost(), all)) +
                             number + counted_cells(line, all) + code
                       : "<tr><td>" + number + "<td><td class=less><td><td class=less><td>" + code;
        }
    }
    return out;
}

// The kernel's own file comes first.
std::string source_of(const LabReport& report, const LabKernel& kernel, json& pictures) {
    std::map<std::pair<bool, std::string>, std::map<int, LabLine>> files;
    std::string own;
    for (const auto& [pc, c] : kernel.counts.at) {
        if (!report.chain(pc).empty()) { own = report.chain(pc).back().file; }
    }
    for (const auto& [at, line] : lines_of(report, kernel.counts)) {
        files[{at.first != own, at.first}][at.second] = line;
    }
    std::string out =
        "<div class=\"wide source\"><table><thead><tr><th>line<th>share<th class=less>requests<th>per "
        "request<th class=less>would do<th>conflicts<th class=code>source</tr></thead><tbody>\n";
    const double all = kernel.sums.global.lines + kernel.sums.shared.wavefronts;
    for (const auto& [file, lines] : files) { out += file_rows(file.second, lines, all, pictures); }
    return out + "</tbody></table></div>\n";
}

std::string about(const LabKernel& kernel) {
    const KernelCounts& k = kernel.counts;
    return formatted("%u thread blocks of %u threads, %zu bytes of shared memory, %s registers: %u thread "
                     "blocks on an SM, "
                     "%.2f waves. %s barriers, %s warp operations.",
                     k.grid[0] * k.grid[1] * k.grid[2], k.threads(),
                     k.shared_bytes + k.resources.static_shared,
                     k.resources.registers ? std::to_string(k.resources.registers).c_str() : "unknown",
                     k.resources.resident, kernel.sums.waves, readable_number(kernel.sums.barriers).c_str(),
                     readable_number(kernel.sums.warp_operations).c_str());
}

}  // namespace

std::string lab_page(const LabReport& report) {
    json pictures = json::array();
    std::string sources, operation;
    int version = 0;
    for (size_t i = 0; i < report.kernels.size(); i++) {
        const LabKernel& k = report.kernels[i];
        const bool other = k.counts.operation != operation;
        if (other) {
            sources += (i ? "</div></div>\n<h2>" : "<h2>") + html_escape(k.counts.operation) +
                       "</h2>\n<div class=versions>\n";
        }
        if (other || k.version != version) { sources += other ? "<div>\n" : "</div><div>\n"; }
        operation = k.counts.operation, version = k.version;
        sources += formatted("<h3 id=\"k%zu\">version %d: ", i, k.version) + html_escape(k.name) +
                   "</h3>\n<p class=note>" + html_escape(about(k)) + "</p>\n" +
                   source_of(report, k, pictures);
    }
    if (!report.kernels.empty()) { sources += "</div></div>\n"; }
    const std::string body =
        "<h1>Memory accesses, line by line</h1>\n<p>" + html_escape(report.sizes) + "; estimates for " +
        report.card.name +
        ".</p>\n<p class=note>Counted on a simulated GPU. A request is one access of "
        "one warp. Device memory moves sectors of 32 "
        "bytes; &ldquo;would do&rdquo; is the fewest that could hold the bytes. Shared "
        "memory serves a wavefront at once: 32 banks of 4 "
        "bytes. These counts are exact; DRAM and times are estimates of a model without "
        "latency. Point at a line of source, or tap "
        "it, to see one of its requests; Escape closes the picture. A line has the share "
        "of all that it calls, so shares add up to more than 100%.</p>\n" +
        overview(report) + sources + "<div id=picture hidden></div>\n";
    return html_page("moba lab", body, "const requests = " + pictures.dump() + ";\n" + lab_script, lab_style);
}

}  // namespace moba

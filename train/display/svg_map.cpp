#include "train/display/svg_map.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/display/svg_parts.h"
#include "train/display/svg_style.h"
#include <algorithm>
#include <cmath>

namespace moba {

using namespace svg;

std::string draw_heat_map(const std::string& title, const HeatMap& m) {
    if (m.rows.empty() || m.columns.empty()) { return ""; }
    const double cell_w = (right - left) / (double)m.columns.size(),
                 cell_h = std::clamp(240.0 / (double)m.rows.size(), 4.0, 20.0);
    const double end = top + cell_h * (double)m.rows.size();
    size_t longest = 0;
    for (const std::string& c : m.columns) { longest = std::max(longest, c.size()); }
    const size_t every_row = (size_t)std::ceil(13 / cell_h),
                 every_column = (size_t)std::ceil((7.0 * (double)longest + 8) / cell_w);
    std::string out = text(2, 12, "start", m.corner);
    for (size_t c = 0; c < m.columns.size(); c += every_column) {
        out += text(left + cell_w * ((double)c + 0.5), end + 14, "middle", m.columns[c]);
    }
    for (size_t r = 0; r < m.rows.size(); r++) {
        const double y = top + cell_h * (double)r;
        if (r % every_row == 0) { out += text(left - 5, y + cell_h / 2 + 4, "end", m.rows[r]); }
        for (size_t c = 0; c < m.share[r].size(); c++) {
            const double share = m.share[r][c], x = left + cell_w * (double)c;
            if (std::isnan(share)) { continue; }
            const int level = heat_level(share);
            out += "<g class=\"h" + std::to_string(level) + "\"><title>" +
                   html_escape(m.rows[r] + ", " + m.columns[c] + ": " + percent(share)) +
                   "</title><rect class=\"cell\"" + attribute("x", x) + attribute("y", y) +
                   attribute("width", cell_w - 1) + attribute("height", cell_h - 1) + "/>";
            if (cell_h >= 14 && cell_w >= 26) {
                out += text(x + cell_w / 2 - 0.5, y + cell_h / 2 + 3.5, "middle",
                            printed(cell_w >= 36 ? "%.1f" : "%.0f", 100 * share),
                            level > heat_levels / 2 ? "on-high" : "on-low");
            }
            out += "</g>";
        }
    }
    return figure(title, title + ": percentages by " + m.corner, end + 22, out);
}

// The cells, one unit wide and high: one path for each level of both hues.
static std::string dense_cells(const DenseMap& m) {
    std::string path[2 * heat_levels];
    int at[2 * heat_levels][2] = {};  // column and row where the last stroke of each path began
    for (int r = 0; r < m.rows; r++) {
        const auto style = [&](int c) {
            const size_t cell = (size_t)r * m.columns + c;
            if (std::isnan(m.value[cell])) { return -1; }
            const bool other = !m.other_hue.empty() && m.other_hue[cell];
            return heat_level(m.value[cell] / m.high) + other * heat_levels;
        };
        for (int c = 0, next; c < m.columns; c = next) {
            const int s = style(c);
            for (next = c + 1; next < m.columns && style(next) == s;) { next++; }
            if (s < 0) { continue; }
            // One stroke, one cell high, for neighbours of one level. Relative moves need fewer characters.
            path[s] += "m" + std::to_string(c - at[s][0]) + " " + std::to_string(r - at[s][1]) + "h" +
                       std::to_string(next - c);
            at[s][0] = next, at[s][1] = r;
        }
    }
    std::string out;
    for (int s = 0; s < 2 * heat_levels; s++) {
        if (path[s].empty()) { continue; }
        out += "<path class=\"" + std::string(s < heat_levels ? "h" : "o") + std::to_string(s % heat_levels) +
               "\" transform=\"translate(0 .5)\" d=\"M0 0" + path[s] + "\"/>";
    }
    return out;
}

static std::string arrow(double x1, double y1, double x2, double y2, double x3, double y3,
                         const std::string& label) {
    return "<path class=\"arrow\" d=\"M" + number(x1) + " " + number(y1) + "L" + number(x2) + " " +
           number(y2) + "L" + number(x3) + " " + number(y3) + "Z\"><title>" + html_escape(label) +
           "</title></path>";
}

std::string draw_dense_map(const DenseMap& m) {
    if (m.rows < 1 || m.columns < 1) { return ""; }
    const double end = top + std::min(240.0, 24.0 * m.rows);
    const double cell_w = (right - left) / m.columns, cell_h = (end - top) / m.rows;
    std::string out =
        text(2, 12, "start", m.row_label) + text((left + right) / 2, end + 31, "middle", m.column_label);
    for (const Tick& t : linear_ticks(0, m.rows * m.row_unit, std::min(6, m.rows))) {
        const double y = top + (end - top) * t.at / (m.rows * m.row_unit);
        out += line("grid", left - 4, y, left, y) + text(left - 6, y + 4, "end", t.label);
    }
    for (const Tick& t : linear_ticks(0, m.columns * m.column_unit, std::min(6, m.columns))) {
        const double x = left + (right - left) * t.at / (m.columns * m.column_unit);
        out += line("grid", x, end, x, end + 4) + text(std::min(x, right - 6), end + 16, "middle", t.label);
    }
    const std::string transform = formatted("translate(%g %g) scale(%.6g %.6g)", left, top, cell_w, cell_h);
    out += "<g class=\"dense\" shape-rendering=\"crispEdges\" transform=\"" + transform + "\">" +
           dense_cells(m) + "</g>";
    for (const Mark& row : m.row_marks) {
        const double y = top + cell_h * (row.at + 0.5);
        out += arrow(right + 1, y, right + 9, y - 4, right + 9, y + 4, row.label);
    }
    for (const Mark& column : m.column_marks) {
        const double x = left + cell_w * (column.at + 0.5);
        out += arrow(x, top - 1, x - 4, top - 9, x + 4, top - 9, column.label);
        for (const Mark& row : m.row_marks) {
            out += "<rect class=\"ring\"" + attribute("x", x - cell_w / 2 - 2) +
                   attribute("y", top + cell_h * row.at - 2) + attribute("width", cell_w + 4) +
                   attribute("height", cell_h + 4) + " rx=\"2\"/>";
        }
    }
    return figure(m.title, m.title + ": " + m.row_label + " by " + m.column_label, end + 38, out, "", m.id);
}

}  // namespace moba

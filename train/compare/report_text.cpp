#include "train/compare/findings.h"
#include "train/compare/report.h"
#include "train/core/terminal.h"
#include "train/core/utf8.h"
#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace moba {

namespace {

// Counts UTF-8 characters, not bytes.
int characters(const std::string& text) {
    return (int)std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); });
}

std::string padded(const std::string& text, int width) {
    return text + std::string(std::max(0, width - characters(text)), ' ');
}

// Removes the spaces at the end.
std::string trimmed(const std::string& line) { return line.substr(0, line.find_last_not_of(' ') + 1); }

std::string cell_text(const FigureCell& cell) {
    return cell.text + (cell.note.empty() ? "" : " (" + cell.note + ")");
}

/* As many variants side by side as fit the width, the next ones below them. */
std::string table_text(const FigureTable& table, const TaskFigures& t, int width, bool colour) {
    size_t heading = table.name.size();
    for (const std::string& c : table.columns) { heading = std::max(heading, c.size()); }
    std::vector<int> needed;
    for (size_t v = 0; v < table.rows.size(); v++) {
        needed.push_back(characters(t.variants[v].name));
        for (const FigureCell& cell : table.rows[v]) {
            needed.back() = std::max(needed.back(), characters(cell_text(cell)));
        }
    }
    std::string out;
    for (size_t first = 0, next; first < needed.size(); first = next) {
        int used = (int)heading + 2 + needed[first];
        for (next = first + 1; next < needed.size() && used + 2 + needed[next] <= width; next++) {
            used += 2 + needed[next];
        }
        std::string line = padded(table.name, (int)heading);
        for (size_t v = first; v < next; v++) { line += "  " + padded(t.variants[v].name, needed[v]); }
        out += trimmed(line) + "\n";
        for (size_t c = 0; c < table.columns.size(); c++) {
            line = padded(table.columns[c], (int)heading);
            for (size_t v = first; v < next; v++) {
                const FigureCell& cell = table.rows[v][c];
                const std::string text = padded(cell_text(cell), needed[v]);
                line += "  " + (colour && cell.best ? "\033[1m" + text + "\033[0m" : text);
            }
            out += trimmed(line) + "\n";
        }
        out += "\n";
    }
    return out;
}

// The heat maps of the variants, side by side as far as they fit the width.
std::string maps_text(const TaskFigures& t, int width, bool colour) {
    std::string out;
    std::vector<std::string> block;  // the lines of maps side by side
    int used = 0;
    const auto flush = [&] {
        for (const std::string& line : block) { out += trimmed(line) + "\n"; }
        if (!block.empty()) { out += "\n"; }
        block.clear(), used = 0;
    };
    for (const VariantFigures& v : t.variants) {
        const HeatMap map = depth_map(v);
        if (map.rows.empty()) { continue; }
        std::vector<std::string> lines = heat_map_lines(map, colour);
        const std::string title = "    " + t.name + ": " + v.name;
        const int wide = std::max(heat_map_width(map), characters(title));
        lines.insert(lines.begin(), title);
        if (used && used + 3 + wide > width) { flush(); }
        block.resize(std::max(block.size(), lines.size()), std::string(used, ' '));
        for (size_t i = 0; i < block.size(); i++) {
            // every line of a map shows heat_map_width() characters; its colour codes are not visible
            const int shown = i >= lines.size() ? 0 : i == 0 ? characters(lines[0]) : heat_map_width(map);
            block[i] += std::string(used ? 3 : 0, ' ') + (i < lines.size() ? lines[i] : "") +
                        std::string(wide - shown, ' ');
        }
        used += (used ? 3 : 0) + wide;
    }
    flush();
    return out;
}

}  // namespace

std::string comparison_text(const std::vector<TaskFigures>& tasks, int width, bool colour) {
    std::string out;
    for (const TaskFigures& t : tasks) {
        for (const FigureTable& table : figure_tables(t)) {
            FigureTable named = table;
            named.name = t.name + ": " + table.name;
            out += table_text(named, t, width, colour);
        }
        out += maps_text(t, width, colour);
        for (const std::string& sentence : findings(t)) { out += sentence + "\n"; }
        for (const VariantFigures& v : t.variants) {
            const std::string note = learning_rate_note(v);
            if (!note.empty()) { out += v.name + ": " + note + "\n"; }
        }
        for (const std::string& w : warnings(t)) { out += "warning: " + w + "\n"; }
        out += "\n";
    }
    return out;
}

void print_comparison(const std::vector<TaskFigures>& tasks) {
    std::printf("%s", comparison_text(tasks, terminal_columns(), has_colours(STDOUT_FILENO)).c_str());
}

}  // namespace moba

#include "train/display/heat_map.h"
#include "train/core/terminal.h"
#include "train/display/numbers.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unistd.h>

namespace moba {

// From red over yellow to green in the 6x6x6 colour cube of 256-colour terminals.
static int heat_colour(double share) {
    const int red = share < 0.5 ? 5 : (int)std::lround(5 * 2 * (1 - share));
    const int green = share > 0.5 ? 5 : (int)std::lround(5 * 2 * share);
    return 16 + 36 * std::clamp(red, 0, 5) + 6 * std::clamp(green, 0, 5);
}

int heat_map_width(const HeatMap& m) { return 10 + 10 * (int)m.columns.size(); }

std::vector<std::string> heat_map_lines(const HeatMap& m, bool colour) {
    std::vector<std::string> lines = {formatted("%10s", m.corner.c_str())};
    for (const std::string& c : m.columns) { lines[0] += formatted(" %9s", c.c_str()); }
    for (size_t r = 0; r < m.rows.size(); r++) {
        std::string line = formatted("%10s", m.rows[r].c_str());
        for (double share : m.share[r]) {
            if (std::isnan(share)) {
                line += formatted(" %9s", "-");
            } else if (colour) {
                line += formatted(" \033[30;48;5;%dm%8.1f%%\033[0m", heat_colour(share), 100 * share);
            } else {
                line += formatted(" %8.1f%%", 100 * share);
            }
        }
        lines.push_back(line);
    }
    return lines;
}

void print_heat_map(const HeatMap& m) {
    for (const std::string& line : heat_map_lines(m, has_colours(STDOUT_FILENO))) {
        std::printf("%s\n", line.c_str());
    }
}

void LiveHeatMap::show(const HeatMap& m) {
    const int lines = (int)m.rows.size() + 1;
    if (!is_terminal(STDOUT_FILENO) || heat_map_width(m) > terminal_columns() || lines >= terminal_lines()) {
        return;
    }
    clear();
    print_heat_map(m);
    std::fflush(stdout);
    lines_ = lines;
}

void LiveHeatMap::clear() {
    if (lines_ > 0) { std::printf("\033[%dA\033[J", lines_); }
    lines_ = 0;
}

}  // namespace moba

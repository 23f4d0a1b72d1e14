#include "train/display/heat_map.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unistd.h>

namespace moba {

// The 6x6x6 colour cube of 256-colour terminals: red over yellow to green.
static int heat_colour(double share) {
    const int red = share < 0.5 ? 5 : (int)std::lround(5 * 2 * (1 - share));
    const int green = share > 0.5 ? 5 : (int)std::lround(5 * 2 * share);
    return 16 + 36 * std::clamp(red, 0, 5) + 6 * std::clamp(green, 0, 5);
}

int heat_map_width(const HeatMap& m) { return 10 + 10 * (int)m.columns.size(); }

std::vector<std::string> heat_map_lines(const HeatMap& m, bool colour) {
    char text[64];
    const auto padded = [&](const char* form, const std::string& what) {
        std::snprintf(text, sizeof text, form, what.c_str());
        return std::string(text);
    };
    std::vector<std::string> lines = {padded("%10s", m.corner)};
    for (const std::string& c : m.columns) { lines[0] += padded(" %9s", c); }
    for (size_t r = 0; r < m.rows.size(); r++) {
        std::string line = padded("%10s", m.rows[r]);
        for (double share : m.share[r]) {
            if (std::isnan(share)) {
                line += padded(" %9s", "-");
                continue;
            }
            if (colour) { line += " \033[30;48;5;" + std::to_string(heat_colour(share)) + "m"; }
            std::snprintf(text, sizeof text, colour ? "%8.1f%%\033[0m" : " %8.1f%%", 100 * share);
            line += text;
        }
        lines.push_back(line);
    }
    return lines;
}

void print_heat_map(const HeatMap& m) {
    for (const std::string& line : heat_map_lines(m, isatty(STDOUT_FILENO))) {
        std::printf("%s\n", line.c_str());
    }
}

}  // namespace moba

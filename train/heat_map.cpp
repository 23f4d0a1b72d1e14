#include "train/heat_map.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unistd.h>

// The 6x6x6 colour cube of 256-colour terminals: red over yellow to green.
static int heat_colour(double share) {
    const int red = share < 0.5 ? 5 : (int)std::lround(5 * 2 * (1 - share));
    const int green = share > 0.5 ? 5 : (int)std::lround(5 * 2 * share);
    return 16 + 36 * std::clamp(red, 0, 5) + 6 * std::clamp(green, 0, 5);
}

void print_heat_map(const HeatMap& m) {
    const bool colour = isatty(STDOUT_FILENO);
    std::printf("%10s", m.corner.c_str());
    for (const std::string& c : m.columns) { std::printf(" %9s", c.c_str()); }
    std::printf("\n");
    for (size_t r = 0; r < m.rows.size(); r++) {
        std::printf("%10s", m.rows[r].c_str());
        for (double share : m.share[r]) {
            if (std::isnan(share)) {
                std::printf(" %9s", "-");
            } else if (colour) {
                std::printf(" \033[30;48;5;%dm%8.1f%%\033[0m", heat_colour(share), 100 * share);
            } else {
                std::printf(" %8.1f%%", 100 * share);
            }
        }
        std::printf("\n");
    }
}

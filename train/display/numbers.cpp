#include "train/display/numbers.h"
#include <cmath>
#include <cstdio>

namespace moba {

std::string printed(const char* form, double x) {
    if (std::isnan(x)) { return "-"; }
    char text[400];
    std::snprintf(text, sizeof text, form, x);
    return text;
}

std::string percent(double share) { return printed("%.1f%%", 100 * share); }

std::string readable_number(double x) {
    static const char* unit[] = {"K", "M", "G", "T", "P"};
    if (!(std::fabs(x) >= 9999.5 && std::fabs(x) < 9.995e17)) {
        return printed(std::fabs(x) >= 1000 && std::fabs(x) < 9999.5 ? "%.4g" : "%.3g", x);
    }
    int u = -1;
    for (; u < 4 && std::fabs(x) >= 999.5; u++) { x /= 1000; }
    return printed("%.3g", x) + unit[u];
}

std::string readable_length(double tokens) {
    if (tokens >= 1024 && std::fmod(tokens, 1024) == 0) { return printed("%.0fK", tokens / 1024); }
    return printed("%.4g", tokens);
}

}  // namespace moba

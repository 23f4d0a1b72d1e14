#include "train/display/numbers.h"
#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace moba {

std::string formatted(const char* format, ...) {
    std::va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    std::string text(std::vsnprintf(nullptr, 0, format, arguments), '\0');
    std::vsnprintf(text.data(), text.size() + 1, format, again);
    va_end(again);
    va_end(arguments);
    return text;
}

std::string printed(const char* format, double x) { return std::isnan(x) ? "-" : formatted(format, x); }

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

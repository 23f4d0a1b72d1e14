#include "train/core/shell_text.h"

namespace moba {

std::string shell_text(const std::vector<std::string>& words) {
    std::string out;
    for (const std::string& w : words) {
        if (!out.empty()) { out += ' '; }
        const bool plain =
            !w.empty() && w.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                              "0123456789+-_=@,./:%") == std::string::npos;
        if (plain) {
            out += w;
            continue;
        }
        out += '\'';
        for (char c : w) { out += c == '\'' ? std::string("'\\''") : std::string(1, c); }
        out += '\'';
    }
    return out;
}

}  // namespace moba

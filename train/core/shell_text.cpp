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

static std::string program_path = "moba";
void set_program_path(const char* argv0) {
    if (argv0 && *argv0) { program_path = argv0; }
}
std::string program_text(std::vector<std::string> words) {
    words.insert(words.begin(), program_path);
    return shell_text(words);
}

}  // namespace moba

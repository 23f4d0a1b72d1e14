#include "train/core/terminal.h"
#include <cstdlib>
#include <string>
#include <sys/ioctl.h>
#include <unistd.h>

namespace moba {

static std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

bool is_terminal(int fd) { return isatty(fd) && variable("TERM") != "dumb"; }

bool has_colours(int fd) { return is_terminal(fd) && variable("NO_COLOR").empty(); }

int terminal_columns() {
    winsize size{};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
}

int terminal_lines() {
    winsize size{};
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row ? size.ws_row : 24;
}

}  // namespace moba

#include "train/progress.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <sys/ioctl.h>
#include <unistd.h>

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

std::string readable_seconds(double seconds) {
    char text[32];
    const long s = (long)(seconds + 0.5);
    if (s < 60) {
        std::snprintf(text, sizeof text, "%lds", s);
    } else if (s < 3600) {
        std::snprintf(text, sizeof text, "%ldm%02lds", s / 60, s % 60);
    } else {
        std::snprintf(text, sizeof text, "%ldh%02ldm", s / 3600, s / 60 % 60);
    }
    return text;
}

Progress::Progress(int log_every) : terminal_(isatty(STDOUT_FILENO)), log_every_(log_every) {}

void Progress::step(const StepReport& r) {
    if (!terminal_ && r.step % log_every_ && r.step != 1 && r.step != r.total) { return; }
    if (terminal_ && r.step != r.total && now_ms() - last_drawn_ms_ < 50) { return; }
    last_drawn_ms_ = now_ms();
    char text[256];
    std::snprintf(text, sizeof text,
                  "step %d/%d%s%s  loss %.4f  acc %5.1f%%  norm %.2f  lr %.2e  %.0f ms  %.1fk tok/s  ETA %s",
                  r.step, r.total, r.stage.empty() ? "" : " ", r.stage.c_str(), r.loss, 100 * r.accuracy,
                  r.grad_norm, r.lr, r.ms, r.tokens / r.ms, readable_seconds(r.eta_seconds).c_str());
    if (!terminal_) {
        std::printf("%s\n", text);
        std::fflush(stdout);
        return;
    }
    winsize size{};
    const int columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 80;
    std::string bar;
    const int width = 20, eighths = (int)(8.0 * width * r.step / r.total);
    static const char* part[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
    for (int i = 0; i < width; i++) { bar += part[std::min(8, std::max(0, eighths - 8 * i))]; }
    const int room = columns - width - 4;  // a line that wraps cannot be drawn over
    std::printf("\r\033[K▕%s▏ %.*s", bar.c_str(), room > 0 ? room : 0, text);
    std::fflush(stdout);
    bar_shown_ = true;
}

void Progress::line(const std::string& text) {
    if (bar_shown_) { std::printf("\r\033[K"); }
    bar_shown_ = false;
    std::printf("%s\n", text.c_str());
    std::fflush(stdout);
}

void Progress::done() {
    if (bar_shown_) { std::printf("\n"); }
    bar_shown_ = false;
    std::fflush(stdout);
}

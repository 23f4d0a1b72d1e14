#include "train/core/progress.h"
#include "train/core/terminal.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unistd.h>

namespace moba {

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

static std::string format(const char* form, double x) {
    char text[64];
    std::snprintf(text, sizeof text, form, x);
    return text;
}

std::string step_text(const StepReport& r, int max_length) {
    const struct {
        int rank;  // the highest ranks are left out first
        std::string text;
    } parts[] = {
        {0, "step " + std::to_string(r.step) + "/" + std::to_string(r.total) + (r.stage.empty() ? "" : " ") +
                r.stage + format("  loss %.4f", r.loss) + format("  acc %5.1f%%", 100 * r.accuracy)},
        {5, format("  norm %.2f", r.grad_norm)},
        {6, format("  lr %.2e", r.lr)},
        {4, format("  %.0f ms", r.ms)},
        {3, format("  %.1fk tok/s", r.tokens / r.ms)},
        {2, std::isfinite(r.mfu) ? format("  MFU %.1f%%", 100 * r.mfu) : ""},
        {6, r.replayed ? "  graph" : ""},
        {1, "  ETA " + readable_seconds(r.eta_seconds)},
    };
    std::string text;
    for (int rank = 6; rank >= 0; rank--) {
        text.clear();
        for (const auto& p : parts) { text += p.rank <= rank ? p.text : ""; }
        if ((int)text.size() <= max_length) { break; }
    }
    return text.substr(0, max_length);
}

Progress::Progress(int log_every) : terminal_(is_terminal(STDOUT_FILENO)), log_every_(log_every) {}

void Progress::step(const StepReport& r) {
    if (!terminal_ && r.step % log_every_ && r.step != 1 && r.step != r.total) { return; }
    if (terminal_ && r.step != r.total && now_ms() - last_drawn_ms_ < 50) { return; }
    last_drawn_ms_ = now_ms();
    if (!terminal_) {
        std::printf("%s\n", step_text(r, 1000).c_str());
        std::fflush(stdout);
        return;
    }
    const int columns = terminal_columns();
    std::string bar;
    const int width = columns < 120 ? 10 : 20, eighths = (int)(8.0 * width * r.step / r.total);
    static const char* part[] = {" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
    for (int i = 0; i < width; i++) { bar += part[std::min(8, std::max(0, eighths - 8 * i))]; }
    const int max_length = columns - width - 4;  // a line that wraps cannot be overwritten
    std::printf("\r\033[K▕%s▏ %s", bar.c_str(), step_text(r, std::max(0, max_length)).c_str());
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

StatusLine::~StatusLine() {
    if (!shown_) { return; }
    std::printf("\r\033[K");
    std::fflush(stdout);
}

void StatusLine::show(const std::string& text) {
    if (!is_terminal(STDOUT_FILENO) || now_ms() - drawn_ms_ < 100) { return; }
    drawn_ms_ = now_ms();
    std::printf("\r\033[K%s", text.substr(0, (size_t)terminal_columns() - 1).c_str());
    std::fflush(stdout);
    shown_ = true;
}

void StatusLine::line(const std::string& text) {
    std::printf("%s%s\n", shown_ ? "\r\033[K" : "", text.c_str());
    std::fflush(stdout);
    shown_ = false;
}

}  // namespace moba

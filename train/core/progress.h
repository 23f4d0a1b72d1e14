/* What a run shows while it works: a live progress bar on a terminal, plain lines elsewhere. */
#pragma once
#include "moba/core/clock.h"
#include <string>

namespace moba {

struct StepReport {
    int step, total;
    double loss, accuracy, grad_norm, lr, ms;
    double mfu;   // NaN is not printed
    long tokens;  // in this step
    double eta_seconds;
    std::string stage;      // "T=64", "" without a curriculum
    bool replayed = false;  // the passes were replayed from a recorded graph
};

/* A line of at most `max_length` characters; the least important parts are left out first. */
std::string step_text(const StepReport&, int max_length);

class Progress {
  public:
    explicit Progress(int log_every);
    void step(const StepReport&);
    void line(const std::string& text);  // prints a separate line: validation, checkpoints
    void done();                         // ends the line of the bar

  private:
    bool terminal_, bar_shown_ = false;
    int log_every_;
    double last_drawn_ms_ = 0;
};

/* One line that is overwritten, for work in many parts. Without a terminal only line() prints. */
class StatusLine {
  public:
    ~StatusLine();  // clears the line
    void show(const std::string& text);
    void line(const std::string& text);  // is not overwritten

  private:
    double drawn_ms_ = 0;
    bool shown_ = false;
};

std::string readable_seconds(double seconds);  // "2m05s"

}  // namespace moba

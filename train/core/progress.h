/* What a run shows: a live bar on a terminal, plain lines in a pipe. */
#pragma once
#include <string>

namespace moba {

struct StepReport {
    int step, total;
    double loss, accuracy, grad_norm, lr, ms, mfu;
    long tokens;  // of this step
    double eta_seconds;
    std::string stage;      // "T=64", "" without a curriculum
    bool replayed = false;  // the passes came from a recorded graph
};

/* A line of at most `room` characters: what matters least is left out first. */
std::string step_text(const StepReport&, int room);

class Progress {
  public:
    explicit Progress(int log_every);
    void step(const StepReport&);
    void line(const std::string& text);  // a line of its own: validation, checkpoints
    void done();                         // leaves the bar

  private:
    bool terminal_, bar_shown_ = false;
    int log_every_;
    double last_drawn_ms_ = 0;
};

/* One line that changes, for work of many parts; on a pipe only what line() says. */
class StatusLine {
  public:
    void show(const std::string& text);
    void line(const std::string& text);  // for good

  private:
    double drawn_ms_ = 0;
    bool shown_ = false;
};

std::string readable_seconds(double seconds);  // "2m05s"
double now_ms();
int terminal_columns();  // 80 where it is not told

}  // namespace moba

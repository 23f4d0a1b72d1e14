/* What a training run has written about itself: the lines of its log, and the options in its newest
   checkpoint. A run that still trains can be read too. */
#pragma once
#include <map>
#include <string>
#include <vector>

namespace moba {

struct StepLine {
    int step = 0, seq_len = 0;
    double loss = 0, accuracy = 0, lr = 0, grad_norm = 0, tokens_per_s = 0, ms = 0;
    double tokens = 0, seconds = 0;  // sums up to this step
};
struct ValidationLine {
    int step = 0;
    double loss = 0, accuracy = 0;
    std::string prompt, sample;  // what the model wrote after the prompt; "" for a task
};
struct RunCurves {
    std::string name, folder;
    std::vector<StepLine> steps;
    std::vector<ValidationLine> validations;
    std::map<std::string, std::string> options;  // empty before the first checkpoint
};

/* `folders` are folders of runs, or of comparisons, whose runs are all read. Names are as short as they can
   be without two runs having the same one. Throws Error. */
std::vector<RunCurves> read_runs(const std::vector<std::string>& folders);

/* The mean over neighbouring steps, at most `most` points. */
struct LogPoint {
    double step, mean, low, high;
};
std::vector<LogPoint> thinned(const std::vector<StepLine>&, double StepLine::*value, size_t most);

/* The running mean of a curve: a point counts half as much after one hundredth of the curve. */
std::vector<LogPoint> smoothed(std::vector<LogPoint>);

}  // namespace moba

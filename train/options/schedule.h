/* The learning rate of a step, and the stages of a length curriculum. */
#pragma once
#include "moba/core/base.h"
#include <string>
#include <vector>

namespace moba {

enum class LrSchedule { cosine, wsd, constant };

struct LrSettings {
    LrSchedule schedule = LrSchedule::wsd;
    double peak = 3e-3;
    int warmup = 50;         // steps from 0 to the peak, linear
    double min_ratio = 0.1;  // of the peak, at the end of cosine and wsd
    int decay_steps = 0;     // wsd: the last steps, linear to min_ratio; 0 = a fifth of all
};

/* step: from 1; remaining: steps after this one as far as known (a stage may end early). */
double learning_rate(const LrSettings&, int step, int remaining);

/* The schedule of a run of so many steps. If warm-up and decay do not fit, the warm-up becomes a tenth of the
   run, and the decay at most the rest. note: a sentence that says so, "" if nothing changed. */
struct FittedLr {
    LrSettings settings;
    std::string note;
};
FittedLr fit_to_run(LrSettings, int steps);

LrSchedule parse_lr_schedule(const std::string&);

/* One stage: samples of T tokens with `pairs` pairs, `batch` of them, for at most `steps` steps. */
struct Stage {
    int T, pairs, batch, steps;
};

/* "32:8:128:400,64:4:64:200". Throws Error. Empty text: no stages. */
std::vector<Stage> parse_curriculum(const std::string&);

}  // namespace moba

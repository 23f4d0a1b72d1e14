#include "train/options/schedule.h"
#include <algorithm>
#include <sstream>

namespace moba {

LrSchedule parse_lr_schedule(const std::string& text) {
    if (text == "cosine") { return LrSchedule::cosine; }
    if (text == "wsd") { return LrSchedule::wsd; }
    if (text == "constant") { return LrSchedule::constant; }
    throw Error("lr-schedule = '" + text + "': must be cosine, wsd or constant");
}

double learning_rate(const LrSettings& s, int step, int remaining) {
    if (step <= s.warmup) { return s.peak * step / s.warmup; }
    const int total = step + remaining;
    double ratio = 1;
    if (s.schedule == LrSchedule::cosine) {
        const double progress = (double)(step - s.warmup) / std::max(1, total - s.warmup);
        ratio = s.min_ratio + (1 - s.min_ratio) * 0.5 * (1 + std::cos(M_PI * progress));
    } else if (s.schedule == LrSchedule::wsd) {
        const int decay = s.decay_steps ? s.decay_steps : std::max(1, total / 5);
        ratio = s.min_ratio + (1 - s.min_ratio) * std::min(1.0, (double)remaining / decay);
    }
    return s.peak * ratio;
}

std::vector<Stage> parse_curriculum(const std::string& text) {
    std::vector<Stage> out;
    std::stringstream in(text);
    std::string part;
    long total = 0;
    while (std::getline(in, part, ',')) {
        Stage s;
        char rest;
        if (std::sscanf(part.c_str(), "%9d:%9d:%9d:%9d%c", &s.T, &s.pairs, &s.batch, &s.steps, &rest) != 4 ||
            s.T < 1 || s.pairs < 1 || s.batch < 1 || s.steps < 1 || s.T > 1 << 24 || s.pairs > 1 << 20 ||
            s.batch > 1 << 20 || (total += s.steps) > 1 << 30) {
            throw Error("curriculum: '" + part +
                        "': must be T:pairs:batch:steps, four numbers from 1, e.g. 64:4:64:150, at most 2^30 "
                        "steps in all");
        }
        out.push_back(s);
    }
    return out;
}

}  // namespace moba

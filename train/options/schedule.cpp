#include "train/options/schedule.h"
#include "moba/core/decimal.h"
#include <algorithm>
#include <sstream>

namespace moba {

LrSchedule parse_lr_schedule(const std::string& text) {
    if (text == "cosine") { return LrSchedule::cosine; }
    if (text == "wsd") { return LrSchedule::wsd; }
    if (text == "constant") { return LrSchedule::constant; }
    throw Error("lr-schedule = '" + text + "': must be cosine, wsd or constant");
}

// The last steps of wsd, in which the rate falls.
static int decay_steps(const LrSettings& s, int steps) {
    return s.decay_steps ? s.decay_steps : std::max(1, steps / 5);
}

FittedLr fit_to_run(LrSettings s, int steps) {
    const bool wsd = s.schedule == LrSchedule::wsd;
    // a cosine needs one step after the warm-up, a constant rate none
    const int decay = wsd ? decay_steps(s, steps) : s.schedule == LrSchedule::cosine;
    if (s.warmup + decay <= steps) { return {s, ""}; }
    std::string note = "--warmup " + std::to_string(s.warmup);
    if (wsd) { note += " and a decay of " + std::to_string(decay); }
    note += (wsd ? " do" : " does") + std::string(" not fit in ") + std::to_string(steps) +
            (steps == 1 ? " step: " : " steps: ");
    s.warmup = std::max(1, steps / 10);
    note += std::to_string(s.warmup);
    if (wsd) {
        s.decay_steps = std::max(1, std::min(decay, steps - s.warmup));
        note += " and " + std::to_string(s.decay_steps);
    }
    return {s, note + " instead"};
}

double learning_rate(const LrSettings& s, int step, int remaining) {
    if (step <= s.warmup) { return s.peak * step / s.warmup; }
    const int total = step + remaining;
    double ratio = 1;
    if (s.schedule == LrSchedule::cosine) {
        const double progress = (double)(step - s.warmup) / std::max(1, total - s.warmup);
        ratio = s.min_ratio + (1 - s.min_ratio) * 0.5 * (1 + std::cos(M_PI * progress));
    } else if (s.schedule == LrSchedule::wsd) {
        ratio = s.min_ratio + (1 - s.min_ratio) * std::min(1.0, (double)remaining / decay_steps(s, total));
    }
    return s.peak * ratio;
}

std::vector<Stage> parse_curriculum(const std::string& text) {
    std::vector<Stage> out;
    std::stringstream in(text);
    std::string part;
    long total = 0;
    while (std::getline(in, part, ',')) {
        Stage s{};
        std::stringstream fields(part);
        std::string field;
        bool numbers = std::count(part.begin(), part.end(), ':') == 3;
        for (int* number : {&s.T, &s.pairs, &s.batch, &s.steps}) {
            std::getline(fields, field, ':');
            const std::optional<int> n = parse_whole<int>(field);
            numbers &= n.has_value();
            *number = n.value_or(0);
        }
        if (!numbers || s.T < 1 || s.pairs < 1 || s.batch < 1 || s.steps < 1 || s.T > 1 << 24 ||
            s.pairs > 1 << 20 || s.batch > 1 << 20 || (total += s.steps) > 1 << 30) {
            throw Error("curriculum: '" + part +
                        "': must be T:pairs:batch:steps, four numbers from 1, e.g. 64:4:64:150, at most 2^30 "
                        "steps in all");
        }
        out.push_back(s);
    }
    return out;
}

}  // namespace moba

#include "train/eval/tally.h"
#include "train/core/statistics.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>

namespace moba {

using nlohmann::json;

json Tally::to_json() const {
    const Interval i = wilson(right, answers);
    return {{"accuracy", share()}, {"low", i.low}, {"high", i.high}, {"right", right}, {"answers", answers}};
}

void PositionLoss::add(int position, double loss) {
    if ((int)sum_.size() <= position) {
        sum_.resize(position + 1);
        count_.resize(position + 1);
    }
    sum_[position] += loss;
    count_[position]++;
}

int PositionLoss::first() const {
    return (int)(std::find_if(count_.begin(), count_.end(), [](long n) { return n > 0; }) - count_.begin());
}

long PositionLoss::tokens() const { return std::accumulate(count_.begin(), count_.end(), 0L); }

double PositionLoss::mean() const {
    return std::accumulate(sum_.begin(), sum_.end(), 0.0) / (double)tokens();
}

json PositionLoss::to_json() const {
    json out = json::array();
    for (size_t p = 0; p < count_.size(); p++) {
        if (count_[p]) {
            out.push_back({{"position", p}, {"loss", sum_[p] / (double)count_[p]}, {"count", count_[p]}});
        }
    }
    return out;
}

}  // namespace moba

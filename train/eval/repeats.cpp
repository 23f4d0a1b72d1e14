#include "train/eval/repeats.h"
#include "train/display/numbers.h"
#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <unordered_map>
#include <utility>

namespace moba {

using nlohmann::json;

std::vector<int> repeat_distances(const int* tokens, int count, int context) {
    constexpr uint64_t base = 0x9E3779B97F4A7C15;  // any large odd number
    uint64_t hash = 0, oldest = 1;                 // of the last `context` tokens; the factor of their first
    for (int i = 0; i < context; i++) { oldest *= base; }
    std::unordered_map<uint64_t, int> last;  // hash -> where it was last seen
    std::vector<int> distances(count);
    for (int t = 0; t < count; t++) {
        hash = hash * base + (uint64_t)tokens[t] + 1;
        if (t >= context) { hash -= oldest * ((uint64_t)tokens[t - context] + 1); }
        if (t + 1 < context) { continue; }
        const auto [place, is_new] = last.try_emplace(hash, t);
        if (is_new) { continue; }
        const int p = std::exchange(place->second, t);
        const int* end = tokens + t + 1;
        if (std::equal(end - context, end, tokens + p + 1 - context)) { distances[t] = t - p; }
    }
    return distances;
}

namespace {

int last_of(int range) { return range == 0 ? 0 : 16 << 2 * range; }  // 0, 64, 256, 1024 ...
int first_of(int range) { return range < 2 ? range : last_of(range - 1) + 1; }

}  // namespace

void RepeatLoss::add(int distance, double loss) {
    size_t i = 0;
    while (i + 1 < ranges_.size() && distance > last_of((int)i)) { i++; }
    ranges_[i].sum += loss, ranges_[i].count++;
}

std::string RepeatLoss::text() const {
    long all = 0;
    for (const Range& r : ranges_) { all += r.count; }
    std::string out;
    for (int i = 0; i < (int)ranges_.size(); i++) {
        const Range& r = ranges_[i];
        if (r.count == 0) { continue; }
        const std::string where =
            i == 0 ? "nowhere"
                   : std::to_string(first_of(i)) + " to " + std::to_string(last_of(i)) + " tokens ago";
        out += formatted("  %-28s loss %.4f, %s of the tokens\n", where.c_str(), r.sum / (double)r.count,
                         percent((double)r.count / (double)all).c_str());
    }
    return out;
}

json RepeatLoss::to_json() const {
    json out = json::array();
    for (int i = 0; i < (int)ranges_.size(); i++) {
        const Range& r = ranges_[i];
        if (r.count == 0) { continue; }
        out.push_back({{"from", first_of(i)},
                       {"to", last_of(i)},
                       {"loss", r.sum / (double)r.count},
                       {"count", r.count}});
    }
    return out;
}

}  // namespace moba

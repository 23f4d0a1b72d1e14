/* Where a text repeats itself: which tokens could be copied, and from how far away. */
#pragma once
#include <array>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moba {

/* For each token t: t - p of the last earlier token p where the same `context` tokens end as at t, so that
   what follows p suggests what follows t. 0: there is none. */
std::vector<int> repeat_distances(const int* tokens, int count, int context);

/* Losses by that distance: none, up to 64, up to 256, and so on by factors of four. */
class RepeatLoss {
  public:
    void add(int distance, double loss);
    std::string text() const;        // a line for each range that has tokens
    nlohmann::json to_json() const;  // [{"from", "to", "loss", "count"}, ...]; from = to = 0: no repeat

  private:
    struct Range {
        double sum = 0;
        long count = 0;
    };
    std::array<Range, 14> ranges_;  // the last one ends at 2^30 tokens
};

}  // namespace moba

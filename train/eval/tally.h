/* What evaluations count: right answers with their 95% interval, and the loss by position in the sequence. */
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace moba {

struct Tally {
    long right = 0, answers = 0;
    void add(const Tally& o) { right += o.right, answers += o.answers; }
    double share() const { return (double)right / (double)answers; }
    nlohmann::json to_json() const;
};

class PositionLoss {
  public:
    void add(int position, double loss);
    int first() const;  // the first position with a loss
    int last() const { return (int)count_.size() - 1; }
    long tokens() const;
    double mean() const;
    nlohmann::json to_json() const;  // [{"position", "loss", "count"}, ...]

  private:
    std::vector<double> sum_;
    std::vector<long> count_;
};

}  // namespace moba

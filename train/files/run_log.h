/* log.jsonl of a run: one JSON object per line, for each step and each validation. It reads as if the run had
   never stopped: the lines of steps that are done again are dropped. */
#pragma once
#include <fstream>
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

class RunLog {
  public:
    /* Keeps the lines up to this step, then appends. Throws Error. */
    void open(const std::string& path, int step);
    /* Throws Error when the line cannot be written. */
    void write(const nlohmann::json& line);
    /* Whether the step at which the log was opened has its validation. */
    bool validated() const { return validated_; }

  private:
    std::string path_;
    std::ofstream file_;
    bool validated_ = false;
};

}  // namespace moba

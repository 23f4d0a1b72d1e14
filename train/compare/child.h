/* This program, run once more as a process of its own: what the comparison does is what its commands would do by hand. */
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace moba {

struct ChildResult {
    int status;  // of the exit, or 128 + the signal that ended it
    std::string last_line;
    size_t peak_bytes;  // resident memory
};

/* Runs `moba <words>`. What it prints, errors too, is added to the file `log` and handed to `line`, line by line. SIGINT and
   SIGTERM reach the child too, which ends in its own way; child_stopped() then tells. A child whose parent dies is asked to stop. Throws
   Error when it cannot be started. */
ChildResult run_child(const std::vector<std::string>& words, const std::string& log,
                      const std::function<void(const std::string&)>& line);
bool child_stopped();

/* The words as a shell would have to be told them. */
std::string shell_text(const std::vector<std::string>& words);

}  // namespace moba

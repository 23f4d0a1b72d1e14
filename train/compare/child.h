/* Runs this program again as a child process: a comparison does exactly what its commands do by hand. */
#pragma once
#include <functional>
#include <string>
#include <vector>

namespace moba {

struct ChildResult {
    int status;             // exit status, or 128 + the signal that ended it
    std::string last_line;  // of its output
    size_t peak_bytes;      // resident memory
};

/* Runs `moba <words>`. Its output, errors too, is appended to the file `log` and passed to `line`, line by
   line. SIGINT and SIGTERM are passed on to the child, which then stops as it does when run by hand. If the
   parent dies, the child gets SIGTERM. Throws Error when the child cannot be started. */
ChildResult run_child(const std::vector<std::string>& words, const std::string& log,
                      const std::function<void(const std::string&)>& line);
bool child_stopped();  // this process has received SIGINT or SIGTERM since the first run_child()

}  // namespace moba

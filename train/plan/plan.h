/* `moba plan`: memory, bytes sent and time of a training step on cards that are not here. */
#pragma once
#include <string>
#include <vector>

namespace moba {

/* The words of `moba plan`: its own options, and those of `moba train`. */
int run_plan(const std::vector<std::string>& words);

}  // namespace moba

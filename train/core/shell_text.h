/* Commands that can be copied into a shell. */
#pragma once
#include <string>
#include <vector>

namespace moba {

/* The words as one line for a shell, quoted where needed. */
std::string shell_text(const std::vector<std::string>& words);

}  // namespace moba

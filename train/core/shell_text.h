/* Commands that can be copied into a shell. */
#pragma once
#include <string>
#include <vector>

namespace moba {

/* The words as one line for a shell, quoted where needed. */
std::string shell_text(const std::vector<std::string>& words);

/* The same for a command of this program, which is called as the user called it: "build/moba train ...". */
std::string program_text(std::vector<std::string> words);
void set_program_path(const char* argv0);  // "moba" before the call

}  // namespace moba

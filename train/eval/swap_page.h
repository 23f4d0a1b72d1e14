/* The page of `moba swap`. */
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

/* results: results.json of the folder. The variants stand in their order there. */
std::string swap_page(const nlohmann::json& results);

/* The same as a table for a terminal: its head, and the line of variant i. */
std::string swap_head();
std::string swap_line(const nlohmann::json& results, size_t i);

}  // namespace moba

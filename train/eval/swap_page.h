/* The page of `moba swap`. */
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace moba {

/* results: results.json of the folder. The variants stand in their order there. */
std::string swap_page(const nlohmann::json& results);

/* The same as a table for a terminal. */
std::string swap_table(const nlohmann::json& results);

}  // namespace moba

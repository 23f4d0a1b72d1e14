/* What a comparison found, to be read: a page that needs nothing else, and a summary for the terminal. Both work while runs are missing;
   what nobody measured does not appear. lines: of results.jsonl, as train/compare/summary.h describes them. */
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moba {

std::string report_page(const std::vector<nlohmann::json>& lines, const std::string& title);

/* The charts of the page as files that stand alone, by path: "needle/accuracy-against-length.svg". */
std::map<std::string, std::string> chart_files(const std::vector<nlohmann::json>& lines);

/* Tables with the variants side by side, heat maps, sentences, in lines of at most `width` characters as far as one column allows. */
std::string comparison_text(const std::vector<nlohmann::json>& lines, int width, bool colour);
void print_comparison(const std::vector<nlohmann::json>& lines);  // fits the terminal, coloured if it is one

}  // namespace moba

/* The results of a comparison for people: an HTML page in one file, and a summary for the terminal. Both work
   while runs are missing; figures that were not measured do not appear. */
#pragma once
#include "train/compare/summary.h"

namespace moba {

std::string report_page(const std::vector<TaskFigures>&, const std::string& title);

/* The charts of the page as SVG files, by path: "needle/accuracy-against-length.svg". */
std::map<std::string, std::string> chart_files(const std::vector<TaskFigures>&);

/* Tables with the variants side by side, heat maps and sentences. Lines of tables and maps have at most
   `width` characters, unless one variant alone needs more. */
std::string comparison_text(const std::vector<TaskFigures>&, int width, bool colour);
/* Prints it as wide as the terminal, in colour if stdout is a terminal. */
void print_comparison(const std::vector<TaskFigures>&);

}  // namespace moba

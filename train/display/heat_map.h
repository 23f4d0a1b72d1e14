/* Figures on a terminal: a heat map of shares, rows by columns. */
#pragma once
#include <string>
#include <vector>

namespace moba {

struct HeatMap {
    std::string corner;  // what rows and columns are: "depth \ T"
    std::vector<std::string> columns, rows;
    std::vector<std::vector<double>> share;  // [row][column], 0..1; NaN = nothing measured
};

/* A line for the columns' names, then one for each row, all equally wide; with a colour from red (0) to green (1) behind the
   percentages if so wanted. */
std::vector<std::string> heat_map_lines(const HeatMap&, bool colour);
int heat_map_width(const HeatMap&);  // characters, colours not counted

/* The lines; coloured on a terminal. */
void print_heat_map(const HeatMap&);

}  // namespace moba

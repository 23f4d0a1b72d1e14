/* Figures on a terminal: a heat map of shares, rows by columns. */
#pragma once
#include <string>
#include <vector>

struct HeatMap {
    std::string corner;  // what rows and columns are: "depth \ T"
    std::vector<std::string> columns, rows;
    std::vector<std::vector<double>> share;  // [row][column], 0..1; NaN = nothing measured
};

/* Percentages; on a terminal with a colour from red (0) to green (1) behind them. */
void print_heat_map(const HeatMap&);

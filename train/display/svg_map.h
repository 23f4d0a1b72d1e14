/* Heat maps as SVG inside an HTML page, drawn like the charts of svg.h. */
#pragma once
#include "train/display/heat_map.h"
#include "train/display/svg.h"

namespace moba {

/* Shares from 0 to 1 in labelled cells; large enough cells also show the percentage. "" for an empty map. */
std::string draw_heat_map(const std::string& title, const HeatMap&);

/* Many small cells (512 x 128): one path for each of the 16 levels. Level 0 is 0 alone. <g class="dense"> is
   scaled so that x counts columns and y counts rows: a script finds the cell under the pointer by its
   getScreenCTM(). */
struct DenseMap {
    std::string title;
    int rows = 0, columns = 0;
    std::vector<float> value = {};  // [row][column]; NaN = blank
    double high = 1;                // the value of the highest level
    std::string row_label = "", column_label = "";
    double row_unit = 1, column_unit = 1;  // what one row and one column count on the axes, e.g. tokens
    std::string id = "";                   // of the <svg>, for a script
    std::vector<char> other_hue = {};      // [row][column]: 1 = drawn in the second hue; empty = none
    /* Arrows at the edge that point to rows and columns; a ring where a marked row and column cross. */
    std::vector<Mark> row_marks = {}, column_marks = {};
};
std::string draw_dense_map(const DenseMap&);

}  // namespace moba

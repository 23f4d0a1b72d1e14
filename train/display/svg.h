/* Charts as SVG text for an HTML page (train/display/page.h, whose style gives the colours). Each is a <figure> with its title and legend,
   drawn 360 wide with text of 12 (marks 11): on a phone about as many pixels. Text is escaped here. What is NaN is not drawn. */
#pragma once
#include "train/display/heat_map.h"
#include <cmath>
#include <string>
#include <vector>

namespace moba {

constexpr int series_colours = 6,
              heat_levels = 16;  // classes s0 to s5; h0 to h15, and o0 to o15 in another hue

/* The level of a share: 0 is level 0; all else, however small, is to be told from it. */
int heat_level(double share);

/* How an axis counts, and how its numbers are written. log2: ticks at powers of two, 1K = 1024. */
enum class Scale { linear, log2, log10 };
struct Axis {
    std::string label;
    Scale scale = Scale::linear;
    bool percent = false;          // 0.5 is written 50%
    double low = NAN, high = NAN;  // ends; NaN = where the data ends
};

struct Point {
    double x, y;
    double low = NAN, high = NAN;  // a band around the line, where a series has two such points in a row
    std::string note = "";         // shown on pointing at it, in place of the numbers
};

struct Series {
    std::string name;
    std::vector<Point> points;
    int style = 0;       // colour, dash and marker; the same for what belongs together
    bool faint = false;  // thin, and only a line: what is noisy
    bool joined = true;  // false: points only, a scatter
};

/* A dashed line across the chart with a word at it. */
struct Mark {
    double at;
    std::string label;
};

struct Chart {
    std::string title;
    Axis x, y;
    std::vector<Series> series;
    std::vector<Mark> x_marks, y_marks;  // upright; level
    bool diagonal = false;               // y = x
};
std::string draw_chart(const Chart&);
/* The same as an SVG file that stands alone: title, legend and style in it, light and dark. */
std::string draw_chart_file(const Chart&);

/* Shares 0..1 in labelled cells, with their percentages as far as there is room. */
std::string draw_heat_map(const std::string& title, const HeatMap&);

/* Many small cells (512 x 128): one path for each of 16 levels. Level 0 is 0 alone. The <g class="dense"> is scaled so that its units
   are cells, column across and row down: a script finds the cell under the pointer through its getScreenCTM(). */
struct DenseMap {
    std::string title;
    int rows, columns;
    std::vector<float> value;  // [row][column]; NaN stays blank
    double high = 1;           // the value of the last level
    std::string row_label, column_label;
    double row_unit = 1, column_unit = 1;  // what one row and one column count on the axes, e.g. tokens
    std::string id = "";                   // of the <svg>, for a script
    std::vector<char> other_hue = {};      // [row][column]; empty = none
    /* Arrows at the edges, pointing at a row or a column; where two of them meet, a ring. */
    std::vector<Mark> row_marks = {}, column_marks = {};
};
std::string draw_dense_map(const DenseMap&);

}  // namespace moba

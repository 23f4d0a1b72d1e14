/* Charts as SVG inside an HTML page (html.h, whose style gives the colours). Each is a <figure> with a title
   and a legend, drawn 360 units wide with text of 12 units (marks 11): on a phone a unit is about one pixel.
   Text is escaped here. Points with NaN are not drawn. */
#pragma once
#include <cmath>
#include <string>
#include <vector>

namespace moba {

/* log2: ticks at powers of two, written with 1K = 1024. */
enum class Scale { linear, log2, log10 };
struct Axis {
    std::string label;
    Scale scale = Scale::linear;
    bool percent = false;          // 0.5 is written 50%
    double low = NAN, high = NAN;  // ends; NaN = where the data ends
};

struct Point {
    double x, y;
    double low = NAN, high = NAN;  // a band around the line, between neighbouring points that both have one
    std::string note = "";         // tooltip; empty = the numbers
};

struct Series {
    std::string name;
    std::vector<Point> points;
    int style = 0;       // colour, dashes and marker
    bool faint = false;  // a thin line without markers, for noisy data
    bool joined = true;  // false: points only, a scatter plot
};

/* A dashed line across the chart with a label. */
struct Mark {
    double at;
    std::string label;
};

struct Chart {
    std::string title;
    Axis x, y;
    std::vector<Series> series = {};
    std::vector<Mark> x_marks = {}, y_marks = {};  // vertical lines, horizontal lines
    bool diagonal = false;                         // draws the line y = x
};
/* Log scale if the values span more than a factor of 30: the lowest would otherwise lie on the axis. */
Scale wide_scale(const std::vector<Series>&);
std::string draw_chart(const Chart&);
/* The same as a complete SVG file, with title, legend and style, for light and dark mode. */
std::string draw_chart_file(const Chart&);

}  // namespace moba

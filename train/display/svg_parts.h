/* What charts (svg.h) and maps (svg_map.h) share: coordinates, SVG elements, ticks. Text is escaped here. */
#pragma once
#include <string>
#include <vector>

namespace moba {
namespace svg {

// Size of a drawing and edges of its plot, in SVG units. Below a map the drawing is as high as the map needs.
constexpr double width = 360, height = 240, left = 48, right = 350, top = 26, bottom = 200;

std::string number(double);  // at most one decimal: enough for a coordinate
std::string attribute(const char* name, double value);
std::string line(const char* style, double x1, double y1, double x2, double y2);
/* anchor: "start", "middle" or "end" */
std::string text(double x, double y, const char* anchor, const std::string& content, const char* style = "");

/* <figure> with a title, an SVG of this height whose elements are `inside`, and the HTML `below` it. */
std::string figure(const std::string& title, const std::string& label, double height,
                   const std::string& inside, const std::string& below = "", const std::string& id = "");

struct Tick {
    double at;
    std::string label;
};
/* About `count` ticks, in steps of 1, 2 or 5 times a power of ten. */
enum class Labels { numbers, percent };
std::vector<Tick> linear_ticks(double low, double high, int count, Labels = Labels::numbers);

}  // namespace svg
}  // namespace moba

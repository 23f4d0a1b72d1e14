/* The colours of pages and drawings, for light and dark mode, and the CSS classes of the drawings. */
#pragma once
#include <string>

namespace moba {

/* Classes s0 to s5: the colours of series. */
constexpr int series_colours = 6;
/* Classes h0 to h15, and o0 to o15 in a second hue: the colours of heat maps. */
constexpr int heat_levels = 16;

/* The level of a share. Level 0 is 0 alone: every positive share, however small, gets a visible level. */
int heat_level(double share);

/* The colours as CSS custom properties, light and dark, and the classes that the drawings use. */
std::string drawing_style();
/* The same for an SVG file of one chart, without custom properties: not every SVG viewer knows them. */
std::string chart_style();

}  // namespace moba

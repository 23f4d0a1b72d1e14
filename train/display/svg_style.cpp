#include "train/display/svg_style.h"
#include "train/display/numbers.h"
#include <algorithm>
#include <cmath>

namespace moba {

namespace {

// Series: after the palette of Okabe and Ito, which colour-blind people can distinguish; darker on white and
// lighter on black than theirs, so that each colour has a contrast of at least 3:1.
// Heat maps: two hues, blue and orange; the order of the levels can be seen in greyscale too.
struct Theme {
    const char* names;   // CSS custom properties
    int level[2][3][3];  // [hue][lowest, middle, highest level][red, green, blue]
};
const Theme light = {
    "--paper:#fff;--card:#f6f8fa;--ink:#1b2430;--soft:#566273;--rule:#d3dae2;--warn:#fff3d6;"
    "--c0:#0072b2;--c1:#c95500;--c2:#00805d;--c3:#a8478a;--c4:#7d6b00;--c5:#505a66;"
    "--on-low:#111;--on-high:#fff;",
    {{{237, 243, 248}, {74, 133, 183}, {8, 43, 94}}, {{250, 241, 230}, {222, 129, 44}, {112, 40, 0}}}};
const Theme dark = {
    "--paper:#12161b;--card:#1a2027;--ink:#e4e9ef;--soft:#a3afbd;--rule:#38424e;--warn:#43360f;"
    "--c0:#56b4e9;--c1:#f0903c;--c2:#2fc49a;--c3:#e38fc4;--c4:#e5d64a;--c5:#b4bdc8;"
    "--on-low:#fff;--on-high:#111;",
    {{{32, 42, 53}, {47, 111, 165}, {206, 231, 255}}, {{48, 39, 30}, {176, 92, 22}, {255, 224, 190}}}};

std::string properties(const Theme& theme) {
    std::string out = theme.names;
    for (int hue = 0; hue < 2; hue++) {
        for (int l = 0; l < heat_levels; l++) {
            const double at = 2.0 * l / (heat_levels - 1);  // 0 = lowest, 1 = middle, 2 = highest
            const int below = at < 1 ? 0 : 1;
            int rgb[3];
            for (int c = 0; c < 3; c++) {
                const int a = theme.level[hue][below][c], b = theme.level[hue][below + 1][c];
                rgb[c] = (int)std::lround(a + (b - a) * (at - below));
            }
            out += formatted("--%c%d:#%02x%02x%02x;", "ho"[hue], l, rgb[0], rgb[1], rgb[2]);
        }
    }
    return out;
}

// The classes that svg.h and svg_map.h use.
const char* drawing_rules = R"(
svg text{font-size:12px;fill:var(--ink)}
.grid{stroke:var(--rule);stroke-width:1;fill:none}.mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:5 4;fill:none}
svg text.mark-text{fill:var(--soft);font-size:11px;paint-order:stroke;stroke:var(--card);stroke-width:3px;stroke-linejoin:round}
.line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round}.faint{stroke-width:1.2;opacity:.55}
.band{fill:currentColor;opacity:.16}.marker{fill:currentColor;stroke:var(--card);stroke-width:.7}.hollow{fill:var(--card);stroke:currentColor;stroke-width:1.4}
.cell{fill:currentColor}.dense path{stroke:currentColor;fill:none}.arrow{fill:var(--ink)}.ring{fill:none;stroke:var(--ink);stroke-width:1.2}
svg text.on-low{fill:var(--on-low)}svg text.on-high{fill:var(--on-high)}
)";

std::string chart_rules() {
    std::string out = drawing_rules;
    for (int c = 0; c < series_colours; c++) {
        out += ".s" + std::to_string(c) + "{color:var(--c" + std::to_string(c) + ")}";
    }
    return out;
}

}  // namespace

int heat_level(double share) {
    return share > 0 ? std::clamp(1 + (int)(share * (heat_levels - 1)), 1, heat_levels - 1) : 0;
}

std::string drawing_style() {
    std::string out = ":root{color-scheme:light dark;" + properties(light) +
                      "}\n@media(prefers-color-scheme:dark){:root{" + properties(dark) + "}}" + chart_rules();
    for (int l = 0; l < heat_levels; l++) {
        for (const char* hue : {"h", "o"}) {
            const std::string name = hue + std::to_string(l);
            out += "." + name + "{color:var(--" + name + ")}";
        }
    }
    return out;
}

// Replaces each var(--name) by its value, for SVG viewers that do not know custom properties.
static std::string resolved(std::string style, const Theme& theme) {
    const std::string names = theme.names;
    for (size_t at; (at = style.find("var(")) != std::string::npos;) {
        const size_t end = style.find(')', at), value = names.find(style.substr(at + 4, end - at - 4) + ":");
        const size_t from = names.find(':', value) + 1;
        style.replace(at, end + 1 - at, names.substr(from, names.find(';', from) - from));
    }
    return style;
}

std::string chart_style() {
    const std::string style = ".paper{fill:var(--card)}text{font-family:sans-serif}" + chart_rules();
    return resolved(style, light) + "\n@media(prefers-color-scheme:dark){" + resolved(style, dark) + "}";
}

}  // namespace moba

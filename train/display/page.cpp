#include "train/display/page.h"
#include "train/display/svg.h"
#include <cmath>
#include <cstdio>

namespace moba {

std::string html_escape(const std::string& text) {
    std::string out;
    for (char c : text) {
        switch (c) {
        case '&':
            out += "&amp;";
            break;
        case '<':
            out += "&lt;";
            break;
        case '>':
            out += "&gt;";
            break;
        case '"':
            out += "&quot;";
            break;
        case '\'':
            out += "&#39;";
            break;
        default:
            out += (unsigned char)c < ' ' && c != '\n' && c != '\t' ? '?' : c;
        }
    }
    return out;
}

namespace {

// Series: after Okabe and Ito, told apart by the colour-blind; darker on white and lighter on black than theirs, so that each has
// a contrast of 3:1. Levels of heat maps: two hues, blue and orange, each of which still orders itself in grey.
struct Theme {
    const char* names;   // custom properties
    int level[2][3][3];  // of each hue: red, green, blue of the lowest, the middle and the highest level
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
            const double at = 2.0 * l / (heat_levels - 1);  // 0 to 1 to 2
            const int below = at < 1 ? 0 : 1;
            char text[32];
            int rgb[3];
            for (int c = 0; c < 3; c++) {
                const int a = theme.level[hue][below][c], b = theme.level[hue][below + 1][c];
                rgb[c] = (int)std::lround(a + (b - a) * (at - below));
            }
            std::snprintf(text, sizeof text, "--%c%d:#%02x%02x%02x;", "ho"[hue], l, rgb[0], rgb[1], rgb[2]);
            out += text;
        }
    }
    return out;
}

const char* rules = R"(
*{box-sizing:border-box}
body{margin:0 auto;max-width:1180px;padding:16px 20px 48px;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;overflow-wrap:anywhere}
h1{font-size:1.6rem;line-height:1.25;margin:.4em 0}h2{font-size:1.25rem;margin:2em 0 .4em;border-top:1px solid var(--rule);padding-top:.8em}
h3{font-size:1rem;margin:1.4em 0 .4em}p{margin:.5em 0;max-width:78ch}
.note{color:var(--soft);font-size:.9rem}.warning{background:var(--warn);border-radius:4px;padding:.4em .7em}
.cards{display:grid;gap:12px;margin-bottom:12px;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));align-items:start}
figure{margin:0;padding:8px;background:var(--card);border-radius:6px;break-inside:avoid;min-width:0}
figcaption{font-weight:600;font-size:.95rem;padding:0 2px 4px}
figure>svg{display:block;width:100%;max-width:520px;height:auto}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 14px;margin:4px 2px 0;padding:0;font-size:.85rem}
.legend svg{width:30px;height:10px;margin-right:5px;vertical-align:middle}
.wide{overflow-x:auto;margin:.6em 0}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:4px 10px 4px 0;text-align:right;border-bottom:1px solid var(--rule);vertical-align:top;overflow-wrap:normal}
th:first-child,td:first-child{text-align:left}td{white-space:nowrap}th:first-child{position:sticky;left:0;background:var(--paper)}thead th{color:var(--soft);font-weight:600;vertical-align:bottom;min-width:5em;max-width:14em}tbody th{font-weight:400;min-width:8em}
td small{display:block;color:var(--soft)}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);border-radius:4px;padding:8px;font-size:.85rem;margin:.3em 0 .8em}
summary{cursor:pointer}
@media(max-width:480px){body{padding:8px 10px 32px}figure{padding:8px 2px}}
@media print{body{max-width:none;padding:0;font-size:12px}.wide{overflow:visible}}
)";
// What svg.h draws with.
const char* drawing_rules = R"(
svg text{font-size:12px;fill:var(--ink)}
.grid{stroke:var(--rule);stroke-width:1;fill:none}.mark{stroke:var(--soft);stroke-width:1;stroke-dasharray:5 4;fill:none}
svg text.mark-text{fill:var(--soft);stroke:none;font-size:11px}
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

// A style with what its var() stand for: what is not a browser does not know them.
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

std::string html_page(const std::string& title, const std::string& body, const std::string& script,
                      const std::string& style_rules) {
    return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
           html_escape(title) + "</title>\n<style>" + drawing_style() + rules + style_rules +
           "</style>\n</head>\n<body>\n" + body +
           (script.empty() ? "" : "\n<script>\n" + script + "\n</script>") + "\n</body>\n</html>\n";
}

std::string html_section(const std::string& title, const std::string& body) {
    return body.empty() ? "" : "<section>\n<h2>" + html_escape(title) + "</h2>\n" + body + "</section>\n";
}

std::string html_cards(const std::vector<std::string>& figures) {
    std::string out;
    for (const std::string& f : figures) { out += f; }
    return out.empty() ? "" : "<div class=\"cards\">\n" + out + "</div>\n";
}

std::string html_table(const HtmlTable& table) {
    std::string out = "<div class=\"wide\"><table>\n<thead><tr>";
    for (const std::string& c : table.columns) { out += "<th scope=\"col\">" + c + "</th>"; }
    out += "</tr></thead>\n<tbody>\n";
    for (const std::vector<std::string>& row : table.rows) {
        for (size_t i = 0; i < row.size(); i++) {
            out += i ? "<td>" + row[i] + "</td>" : "<tr><th scope=\"row\">" + row[i] + "</th>";
        }
        out += "</tr>\n";
    }
    return out + "</tbody></table></div>\n";
}

}  // namespace moba

#include "train/display/svg_parts.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include <algorithm>
#include <cmath>

namespace moba {
namespace svg {

std::string number(double x) {
    std::string text = printed("%.1f", x);
    if (text.size() > 2 && text.ends_with(".0")) { text.resize(text.size() - 2); }
    return text == "-0" ? "0" : text;
}

std::string attribute(const char* name, double x) {
    return std::string(" ") + name + "=\"" + number(x) + "\"";
}

std::string line(const char* style, double x1, double y1, double x2, double y2) {
    return std::string("<line class=\"") + style + "\"" + attribute("x1", x1) + attribute("y1", y1) +
           attribute("x2", x2) + attribute("y2", y2) + "/>";
}

std::string text(double x, double y, const char* anchor, const std::string& content, const char* style) {
    return "<text" + (*style ? " class=\"" + std::string(style) + "\"" : "") + attribute("x", x) +
           attribute("y", y) + " text-anchor=\"" + anchor + "\">" + html_escape(content) + "</text>";
}

std::string figure(const std::string& title, const std::string& label, double h, const std::string& inside,
                   const std::string& below, const std::string& id) {
    return "<figure>" + (title.empty() ? "" : "<figcaption>" + html_escape(title) + "</figcaption>") +
           "<svg" + (id.empty() ? "" : " id=\"" + html_escape(id) + "\"") + " viewBox=\"0 0 " +
           number(width) + " " + number(h) + "\" role=\"img\" aria-label=\"" + html_escape(label) + "\">" +
           inside + "</svg>" + below + "</figure>\n";
}

std::vector<Tick> linear_ticks(double low, double high, int count, Labels labels) {
    const bool percent = labels == Labels::percent;
    const double rough = (high - low) / count, power = std::pow(10, std::floor(std::log10(rough)));
    const double step = power * (rough <= power ? 1 : rough <= 2 * power ? 2 : rough <= 5 * power ? 5 : 10);
    const double most = std::max(std::fabs(low), std::fabs(high));
    double unit = percent ? 0.01 : 1;
    std::string name = percent ? "%" : "";
    if (!percent && most >= 9999.5) {
        static const char* names[] = {"K", "M", "G", "T", "P"};
        const int u = std::min(5, (int)(std::log10(most) / 3));
        unit = std::pow(1000, u);
        name = names[u - 1];
    }
    const int decimals = std::clamp((int)std::ceil(-std::log10(step / unit) - 1e-9), 0, 9);
    std::vector<Tick> out;
    for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
        const double shown = i == 0 ? 0 : i * step / unit;        // not -0
        const std::string suffix = shown || percent ? name : "";  // "0", but "0%"
        out.push_back({i * step, formatted("%.*f", decimals, shown) + suffix});
    }
    return out;
}

}  // namespace svg
}  // namespace moba

#include "train/display/svg.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/display/svg_parts.h"
#include "train/display/svg_style.h"
#include <algorithm>

namespace moba {

using namespace svg;

namespace {

std::vector<Tick> log2_ticks(double low, double high) {
    const int first = (int)std::ceil(std::log2(low) - 1e-9), last = (int)std::floor(std::log2(high) + 1e-9);
    std::vector<Tick> out;
    for (int e = first; e <= last; e += 1 + (last - first) / 8) {
        out.push_back({std::exp2(e), readable_length(std::exp2(e))});
    }
    return out;
}

std::vector<Tick> log10_ticks(double low, double high) {
    const int first = (int)std::floor(std::log10(low)), last = (int)std::floor(std::log10(high) + 1e-9);
    const bool decades = std::log10(high / low) > 2.5;
    std::vector<Tick> out;
    for (int e = first; e <= last; e += decades ? 1 + (last - first) / 6 : 1) {
        for (int digit : {1, 2, 5}) {
            const double x = digit * std::pow(10, e);
            if (x >= low * (1 - 1e-9) && x <= high * (1 + 1e-9) && (digit == 1 || !decades)) {
                out.push_back({x, readable_number(x)});
            }
        }
    }
    return out;
}

/* One axis: maps values to SVG units. */
class AxisScale {
  public:
    // `from` and `to`: where the ends are drawn; `values`: everything that the axis must show
    AxisScale(const Axis& axis, const std::vector<double>& values, double from, double to)
        : axis_(axis), from_(from), to_(to) {
        double low = INFINITY, high = -INFINITY;
        for (double v : values) {
            if (shows(v)) { low = std::min(low, v), high = std::max(high, v); }
        }
        if (low > high) { low = high = 1; }  // no values
        low = place(low), high = place(high);
        // 4% of free space at both ends; more where all values are equal
        const double margin = high - low > 1e-9 * std::max(1.0, std::fabs(high)) ? 0.04 * (high - low)
                              : log()                                            ? 1
                                      : std::max(0.1 * std::fabs(high), 1e-6);
        low_ = std::isnan(axis.low) ? low - margin : place(axis.low);
        high_ = std::isnan(axis.high) ? high + margin : place(axis.high);
        if (!(high_ > low_)) { high_ = low_ + 1; }
    }
    bool shows(double v) const { return std::isfinite(v) && (!log() || v > 0); }
    // Values beyond an end are drawn at that end.
    double operator()(double v) const {
        return from_ + (to_ - from_) * std::clamp((place(v) - low_) / (high_ - low_), 0.0, 1.0);
    }
    bool inside(double v) const { return shows(v) && place(v) >= low_ - 1e-9 && place(v) <= high_ + 1e-9; }
    double low() const { return value(low_); }
    double high() const { return value(high_); }
    std::vector<Tick> ticks() const {
        std::vector<Tick> out;
        if (axis_.scale == Scale::log2) { out = log2_ticks(low(), high()); }
        if (axis_.scale == Scale::log10) { out = log10_ticks(low(), high()); }
        return out.size() >= 2
                   ? out
                   : linear_ticks(low(), high(), 5, axis_.percent ? Labels::percent : Labels::numbers);
    }
    std::string name(double v) const {
        return axis_.percent                ? percent(v)
               : axis_.scale == Scale::log2 ? readable_length(v)
                                            : readable_number(v);
    }

  private:
    bool log() const { return axis_.scale != Scale::linear; }
    double place(double v) const { return log() ? std::log2(v) : v; }
    double value(double p) const { return log() ? std::exp2(p) : p; }
    Axis axis_;
    double from_, to_, low_, high_;
};

std::string dash(const Series& s) {
    static const char* dashes[] = {"", "7 3", "2 3", "9 3 2 3", "5 2"};
    const std::string d = s.faint ? "" : dashes[s.style % 5];
    return d.empty() ? "" : " stroke-dasharray=\"" + d + "\"";
}

std::string colour(int style) { return "s" + std::to_string(style % series_colours); }

// Hollow for styles 6 to 11, whose colours and shapes are those of 0 to 5.
std::string marker(int style, double x, double y, const std::string& note) {
    const std::string kind = style / series_colours % 2 ? "marker hollow" : "marker";
    const std::string title = note.empty() ? "" : "<title>" + html_escape(note) + "</title>";
    const auto shape = [&](std::initializer_list<double> offsets) {
        std::string d = "M";
        const double* o = offsets.begin();
        for (size_t i = 0; i < offsets.size(); i += 2) {
            d += (i ? "L" : "") + number(x + o[i]) + " " + number(y + o[i + 1]);
        }
        return "<path class=\"" + kind + "\" d=\"" + d + "Z\">" + title + "</path>";
    };
    switch (style % series_colours) {
    case 1:
        return shape({-3, -3, 3, -3, 3, 3, -3, 3});
    case 2:
        return shape({0, -4, 4, 3, -4, 3});
    case 3:
        return shape({0, -4.2, 4.2, 0, 0, 4.2, -4.2, 0});
    case 4:
        return shape({0, 4, 4, -3, -4, -3});
    case 5:
        return shape({-3.5, -3.5, 3.5, -3.5, -3.5, 3.5, 3.5, 3.5});
    default:
        return "<circle class=\"" + kind + "\"" + attribute("cx", x) + attribute("cy", y) + " r=\"3.2\">" +
               title + "</circle>";
    }
}

bool is_named(const Series& s) { return !s.name.empty() && !s.points.empty(); }

// A short line with the marker of the series, 30 wide and 10 high.
std::string legend_key(const Series& s) {
    const std::string path =
        "<path class=\"line" + std::string(s.faint ? " faint" : "") + "\" d=\"M0 5H30\"" + dash(s) + "/>";
    return (s.joined ? path : "") + (s.faint ? "" : marker(s.style, 15, 5, ""));
}

std::string legend(const std::vector<Series>& series) {
    std::string out;
    for (const Series& s : series) {
        if (!is_named(s)) { continue; }
        out += "<li><svg class=\"" + colour(s.style) + "\" viewBox=\"0 0 30 10\" aria-hidden=\"true\">" +
               legend_key(s) + "</svg>" + html_escape(s.name) + "</li>";
    }
    return out.empty() ? "" : "<ul class=\"legend\">" + out + "</ul>";
}

// An outline runs along the upper ends and back along the lower ends; a point without ends closes it.
std::string band(const Series& s, const AxisScale& x, const AxisScale& y) {
    std::string d, upper, lower;
    int length = 0;
    const auto close = [&] {
        if (length >= 2) { d += "M" + upper + lower + "Z"; }
        upper.clear(), lower.clear(), length = 0;
    };
    for (const Point& p : s.points) {
        if (!x.shows(p.x) || !y.shows(p.low) || !y.shows(p.high)) {
            close();
            continue;
        }
        upper += (length++ ? "L" : "") + number(x(p.x)) + " " + number(y(p.high));
        lower = "L" + number(x(p.x)) + " " + number(y(p.low)) + lower;
    }
    close();
    return d.empty() ? "" : "<path class=\"band\" d=\"" + d + "\"/>";
}

std::string draw_series(const Series& s, const AxisScale& x, const AxisScale& y) {
    std::string out = "<g class=\"" + colour(s.style) + "\">" + band(s, x, y), d;
    bool drawing = false;
    for (const Point& p : s.points) {
        const bool shown = x.shows(p.x) && y.shows(p.y);
        if (shown) { d += (drawing ? "L" : "M") + number(x(p.x)) + " " + number(y(p.y)); }
        drawing = shown;
    }
    if (s.joined && !d.empty()) {
        out += "<path class=\"line" + std::string(s.faint ? " faint" : "") + "\" d=\"" + d + "\"" + dash(s) +
               "/>";
    }
    if (!s.joined || (!s.faint && s.points.size() <= 24)) {
        for (const Point& p : s.points) {
            if (!x.shows(p.x) || !y.shows(p.y)) { continue; }
            std::string note = p.note;
            if (note.empty()) {
                note = s.name + (s.name.empty() ? "" : ": ") + x.name(p.x) + ", " + y.name(p.y);
                if (std::isfinite(p.low)) { note += " (" + y.name(p.low) + " to " + y.name(p.high) + ")"; }
            }
            out += marker(s.style, x(p.x), y(p.y), note);
        }
    }
    return out + "</g>";
}

// Axes, series and marks.
std::string plot(const Chart& c) {
    std::vector<double> xs, ys;
    for (const Series& s : c.series) {
        for (const Point& p : s.points) {
            xs.push_back(p.x);
            for (double v : {p.y, p.low, p.high}) { ys.push_back(v); }
        }
    }
    for (const Mark& m : c.x_marks) { xs.push_back(m.at); }
    for (const Mark& m : c.y_marks) { ys.push_back(m.at); }
    const AxisScale x(c.x, xs, left, right), y(c.y, ys, bottom, top);
    std::string out;
    for (const Tick& t : y.ticks()) {
        out += line("grid", left, y(t.at), right, y(t.at)) + text(left - 5, y(t.at) + 4, "end", t.label);
    }
    for (const Tick& t : x.ticks()) {
        out += line("grid", x(t.at), bottom, x(t.at), bottom + 4) +
               text(std::min(x(t.at), right - 6), bottom + 17, "middle", t.label);
    }
    out += line("grid", left, bottom, right, bottom);
    out += text(2, 10, "start", c.y.label) + text((left + right) / 2, height - 7, "middle", c.x.label);
    if (c.diagonal) {
        const double low = std::max(x.low(), y.low()), high = std::min(x.high(), y.high());
        if (low < high) { out += line("mark", x(low), y(low), x(high), y(high)); }
    }
    std::string labels;  // of the marks; above the data, with a rim of the card's colour
    double free = 0;     // where no label of a mark stands yet; about the width of a letter: 7
    for (const Mark& m : c.x_marks) {
        if (!x.inside(m.at)) { continue; }
        const bool late = x(m.at) > (left + right) / 2;
        const double width = 7 * (double)m.label.size(), begin = x(m.at) - (late ? width : 0);
        out += line("mark", x(m.at), top, x(m.at), bottom);
        if (begin < free) { continue; }
        labels += text(x(m.at) + (late ? -4 : 4), top - 6, late ? "end" : "start", m.label, "mark-text");
        free = begin + width;
    }
    for (const Mark& m : c.y_marks) {
        if (!y.inside(m.at)) { continue; }
        out += line("mark", left, y(m.at), right, y(m.at));
        labels += text(right, y(m.at) - 4, "end", m.label, "mark-text");
    }
    for (const Series& s : c.series) { out += draw_series(s, x, y); }
    const auto shown = [&](const Point& p) { return x.shows(p.x) && y.shows(p.y); };
    if (std::none_of(c.series.begin(), c.series.end(),
                     [&](const Series& s) { return std::any_of(s.points.begin(), s.points.end(), shown); })) {
        out += text((left + right) / 2, (top + bottom) / 2, "middle", "nothing measured");
    }
    return out + labels;
}

std::string label(const Chart& c) { return c.title + ": " + c.y.label + " against " + c.x.label; }

}  // namespace

Scale wide_scale(const std::vector<Series>& series) {
    double low = INFINITY, high = 0;
    for (const Series& s : series) {
        for (const Point& p : s.points) {
            if (p.y > 0) { low = std::min(low, p.y), high = std::max(high, p.y); }
        }
    }
    return high > 30 * low ? Scale::log10 : Scale::linear;
}

std::string draw_chart(const Chart& c) {
    return figure(c.title, label(c), height, plot(c), legend(c.series));
}

std::string draw_chart_file(const Chart& c) {
    // heights of the title and of a row of the legend; about the width of a letter
    constexpr double title = 22, row = 17, letter = 6.3;
    std::string keys;
    double x = 8, y = title + height + 8;
    for (const Series& s : c.series) {
        if (!is_named(s)) { continue; }
        const double wide = 52 + letter * (double)s.name.size();
        if (x > 8 && x + wide > width) { x = 8, y += row; }
        keys += "<g class=\"" + colour(s.style) + "\" transform=\"translate(" + number(x) + " " + number(y) +
                ")\">" + legend_key(s) + text(35, 9, "start", s.name) + "</g>";
        x += wide;
    }
    const std::string size =
        "font-weight:bold;font-size:" + number(std::min(12.0, 600.0 / (double)c.title.size()));
    return "<svg xmlns=\"http://www.w3.org/2000/svg\"" + attribute("width", 1.5 * width) + " viewBox=\"0 0 " +
           number(width) + " " + number(y + row) + "\" role=\"img\" aria-label=\"" + html_escape(label(c)) +
           "\">\n<style>" + chart_style() +
           "</style>\n<rect class=\"paper\" width=\"100%\" height=\"100%\"/><text style=\"" + size +
           "px\" x=\"8\" y=\"16\">" + html_escape(c.title) + "</text><g transform=\"translate(0 " +
           number(title) + ")\">" + plot(c) + "</g>" + keys + "</svg>\n";
}

}  // namespace moba

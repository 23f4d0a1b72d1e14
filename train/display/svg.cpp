#include "train/display/svg.h"
#include "train/display/numbers.h"
#include "train/display/page.h"
#include <algorithm>

namespace moba {

namespace {

// The drawing, in its own units.
constexpr double width = 360, height = 240, left = 48, right = 350, top = 26, bottom = 200;

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

// anchor: start, middle or end
std::string text(double x, double y, const char* anchor, const std::string& what, const char* style = "") {
    return "<text" + (*style ? " class=\"" + std::string(style) + "\"" : "") + attribute("x", x) +
           attribute("y", y) + " text-anchor=\"" + anchor + "\">" + html_escape(what) + "</text>";
}

std::string figure(const std::string& title, const std::string& label, double h, const std::string& inside,
                   const std::string& below = "", const std::string& id = "") {
    return "<figure>" + (title.empty() ? "" : "<figcaption>" + html_escape(title) + "</figcaption>") +
           "<svg" + (id.empty() ? "" : " id=\"" + html_escape(id) + "\"") + " viewBox=\"0 0 " +
           number(width) + " " + number(h) + "\" role=\"img\" aria-label=\"" + html_escape(label) + "\">" +
           inside + "</svg>" + below + "</figure>\n";
}

struct Tick {
    double at;
    std::string label;
};

// Steps of 1, 2 or 5 times a power of ten.
std::vector<Tick> linear_ticks(double low, double high, int about, bool percent) {
    const double rough = (high - low) / about, power = std::pow(10, std::floor(std::log10(rough)));
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
        const double shown = i == 0 ? 0 : i * step / unit;  // not -0
        out.push_back(
            {i * step, printed(("%." + std::to_string(decimals) + "f").c_str(), shown) + (shown     ? name
                                                                                          : percent ? "%"
                                                                                                    : "")});
    }
    return out;
}

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

/* One axis: from values to the drawing's units. */
class Ruler {
  public:
    // from, to: where its ends are drawn; values: all that is to be on it
    Ruler(const Axis& axis, const std::vector<double>& values, double from, double to)
        : axis_(axis), from_(from), to_(to) {
        double low = INFINITY, high = -INFINITY;
        for (double v : values) {
            if (shows(v)) { low = std::min(low, v), high = std::max(high, v); }
        }
        if (low > high) { low = high = 1; }  // nothing
        low = place(low), high = place(high);
        const double room = high - low > 1e-9 * std::max(1.0, std::fabs(high)) ? 0.04 * (high - low)
                            : log()                                            ? 1
                                    : std::max(0.1 * std::fabs(high), 1e-6);
        low_ = std::isnan(axis.low) ? low - room : place(axis.low);
        high_ = std::isnan(axis.high) ? high + room : place(axis.high);
        if (!(high_ > low_)) { high_ = low_ + 1; }
    }
    bool shows(double v) const { return std::isfinite(v) && (!log() || v > 0); }
    double operator()(double v) const {  // what lies beyond is drawn at the end
        return from_ + (to_ - from_) * std::clamp((place(v) - low_) / (high_ - low_), 0.0, 1.0);
    }
    bool inside(double v) const { return shows(v) && place(v) >= low_ - 1e-9 && place(v) <= high_ + 1e-9; }
    double low() const { return value(low_); }
    double high() const { return value(high_); }
    std::vector<Tick> ticks() const {
        std::vector<Tick> out;
        if (axis_.scale == Scale::log2) { out = log2_ticks(low(), high()); }
        if (axis_.scale == Scale::log10) { out = log10_ticks(low(), high()); }
        return out.size() >= 2 ? out : linear_ticks(low(), high(), 5, axis_.percent);
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

// Filled, then hollow where colours and shapes come round again.
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

// A piece of its line and its marker, 30 wide and 10 high.
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

// The band: there along the highs, back along the lows, anew wherever one is missing.
std::string band(const Series& s, const Ruler& x, const Ruler& y) {
    std::string d, there, back;
    int length = 0;
    const auto close = [&] {
        if (length >= 2) { d += "M" + there + back + "Z"; }
        there.clear(), back.clear(), length = 0;
    };
    for (const Point& p : s.points) {
        if (!x.shows(p.x) || !y.shows(p.low) || !y.shows(p.high)) {
            close();
            continue;
        }
        there += (length++ ? "L" : "") + number(x(p.x)) + " " + number(y(p.high));
        back = "L" + number(x(p.x)) + " " + number(y(p.low)) + back;
    }
    close();
    return d.empty() ? "" : "<path class=\"band\" d=\"" + d + "\"/>";
}

std::string draw_series(const Series& s, const Ruler& x, const Ruler& y) {
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

// Axes, lines and marks.
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
    const Ruler x(c.x, xs, left, right), y(c.y, ys, bottom, top);
    std::string out;
    for (const Tick& t : y.ticks()) {
        out += line("grid", left, y(t.at), right, y(t.at)) + text(left - 5, y(t.at) + 4, "end", t.label);
    }
    for (const Tick& t : x.ticks()) {
        out += line("grid", x(t.at), bottom, x(t.at), bottom + 4) +
               text(std::min(x(t.at), right - 6), bottom + 17, "middle", t.label);
    }
    out += line("grid", left, bottom, right, bottom);
    out += text(2, 12, "start", c.y.label) + text((left + right) / 2, height - 7, "middle", c.x.label);
    if (c.diagonal) {
        const double low = std::max(x.low(), y.low()), high = std::min(x.high(), y.high());
        if (low < high) { out += line("mark", x(low), y(low), x(high), y(high)); }
    }
    for (const Mark& m : c.x_marks) {
        if (!x.inside(m.at)) { continue; }
        const bool late = x(m.at) > (left + right) / 2;
        out += line("mark", x(m.at), top, x(m.at), bottom) +
               text(x(m.at), top - 3, late ? "end" : "start", m.label, "mark-text");
    }
    for (const Mark& m : c.y_marks) {
        if (!y.inside(m.at)) { continue; }
        out += line("mark", left, y(m.at), right, y(m.at)) +
               text(right, y(m.at) - 4, "end", m.label, "mark-text");
    }
    for (const Series& s : c.series) { out += draw_series(s, x, y); }
    const auto shown = [&](const Point& p) { return x.shows(p.x) && y.shows(p.y); };
    if (std::none_of(c.series.begin(), c.series.end(),
                     [&](const Series& s) { return std::any_of(s.points.begin(), s.points.end(), shown); })) {
        out += text((left + right) / 2, (top + bottom) / 2, "middle", "nothing measured");
    }
    return out;
}

std::string label(const Chart& c) { return c.title + ": " + c.y.label + " against " + c.x.label; }

}  // namespace

std::string draw_chart(const Chart& c) {
    return figure(c.title, label(c), height, plot(c), legend(c.series));
}

std::string draw_chart_file(const Chart& c) {
    constexpr double title = 22, row = 17, letter = 6.3;  // heights; width of a letter, about
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

int heat_level(double share) {
    return share > 0 ? std::clamp(1 + (int)(share * (heat_levels - 1)), 1, heat_levels - 1) : 0;
}

std::string draw_heat_map(const std::string& title, const HeatMap& m) {
    if (m.rows.empty() || m.columns.empty()) { return ""; }
    const double cell_w = (right - left) / (double)m.columns.size(),
                 cell_h = std::clamp(240.0 / (double)m.rows.size(), 4.0, 20.0);
    const double end = top + cell_h * (double)m.rows.size();
    size_t longest = 0;
    for (const std::string& c : m.columns) { longest = std::max(longest, c.size()); }
    const size_t every_row = (size_t)std::ceil(13 / cell_h),
                 every_column = (size_t)std::ceil((7.0 * (double)longest + 8) / cell_w);
    std::string out = text(2, 12, "start", m.corner);
    for (size_t c = 0; c < m.columns.size(); c += every_column) {
        out += text(left + cell_w * ((double)c + 0.5), end + 14, "middle", m.columns[c]);
    }
    for (size_t r = 0; r < m.rows.size(); r++) {
        const double y = top + cell_h * (double)r;
        if (r % every_row == 0) { out += text(left - 5, y + cell_h / 2 + 4, "end", m.rows[r]); }
        for (size_t c = 0; c < m.share[r].size(); c++) {
            const double share = m.share[r][c], x = left + cell_w * (double)c;
            if (std::isnan(share)) { continue; }
            const int level = heat_level(share);
            out += "<g class=\"h" + std::to_string(level) + "\"><title>" +
                   html_escape(m.rows[r] + ", " + m.columns[c] + ": " + percent(share)) +
                   "</title><rect class=\"cell\"" + attribute("x", x) + attribute("y", y) +
                   attribute("width", cell_w - 1) + attribute("height", cell_h - 1) + "/>";
            if (cell_h >= 14 && cell_w >= 26) {
                out += text(x + cell_w / 2 - 0.5, y + cell_h / 2 + 3.5, "middle",
                            printed(cell_w >= 36 ? "%.1f" : "%.0f", 100 * share),
                            level > heat_levels / 2 ? "on-high" : "on-low");
            }
            out += "</g>";
        }
    }
    return figure(title, title + ": percentages by " + m.corner, end + 22, out);
}

// The cells, in units of cells: one path for each level of both hues.
static std::string dense_cells(const DenseMap& m) {
    std::string path[2 * heat_levels];
    int at[2 * heat_levels][2] = {};  // where the pen of each is
    for (int r = 0; r < m.rows; r++) {
        const auto style = [&](int c) {
            const size_t cell = (size_t)r * m.columns + c;
            if (std::isnan(m.value[cell])) { return -1; }
            const bool other = !m.other_hue.empty() && m.other_hue[cell];
            return heat_level(m.value[cell] / m.high) + other * heat_levels;
        };
        for (int c = 0, next; c < m.columns; c = next) {
            const int s = style(c);
            for (next = c + 1; next < m.columns && style(next) == s;) { next++; }
            if (s < 0) { continue; }
            // a stroke one cell high; moves are relative, which is shorter
            path[s] += "m" + std::to_string(c - at[s][0]) + " " + std::to_string(r - at[s][1]) + "h" +
                       std::to_string(next - c);
            at[s][0] = next, at[s][1] = r;
        }
    }
    std::string out;
    for (int s = 0; s < 2 * heat_levels; s++) {
        if (path[s].empty()) { continue; }
        out += "<path class=\"" + std::string(s < heat_levels ? "h" : "o") + std::to_string(s % heat_levels) +
               "\" transform=\"translate(0 .5)\" d=\"M0 0" + path[s] + "\"/>";
    }
    return out;
}

static std::string arrow(double x1, double y1, double x2, double y2, double x3, double y3,
                         const std::string& label) {
    return "<path class=\"arrow\" d=\"M" + number(x1) + " " + number(y1) + "L" + number(x2) + " " +
           number(y2) + "L" + number(x3) + " " + number(y3) + "Z\"><title>" + html_escape(label) +
           "</title></path>";
}

std::string draw_dense_map(const DenseMap& m) {
    if (m.rows < 1 || m.columns < 1) { return ""; }
    const double end = top + std::min(240.0, 24.0 * m.rows);
    const double cell_w = (right - left) / m.columns, cell_h = (end - top) / m.rows;
    std::string out =
        text(2, 12, "start", m.row_label) + text((left + right) / 2, end + 31, "middle", m.column_label);
    for (const Tick& t : linear_ticks(0, m.rows * m.row_unit, std::min(6, m.rows), false)) {
        const double y = top + (end - top) * t.at / (m.rows * m.row_unit);
        out += line("grid", left - 4, y, left, y) + text(left - 6, y + 4, "end", t.label);
    }
    for (const Tick& t : linear_ticks(0, m.columns * m.column_unit, std::min(6, m.columns), false)) {
        const double x = left + (right - left) * t.at / (m.columns * m.column_unit);
        out += line("grid", x, end, x, end + 4) + text(std::min(x, right - 6), end + 16, "middle", t.label);
    }
    char transform[120];
    std::snprintf(transform, sizeof transform, "translate(%g %g) scale(%.6g %.6g)", left, top, cell_w,
                  cell_h);
    out += "<g class=\"dense\" shape-rendering=\"crispEdges\" transform=\"" + std::string(transform) + "\">" +
           dense_cells(m) + "</g>";
    for (const Mark& row : m.row_marks) {
        const double y = top + cell_h * (row.at + 0.5);
        out += arrow(right + 1, y, right + 9, y - 4, right + 9, y + 4, row.label);
    }
    for (const Mark& column : m.column_marks) {
        const double x = left + cell_w * (column.at + 0.5);
        out += arrow(x, top - 1, x - 4, top - 9, x + 4, top - 9, column.label);
        for (const Mark& row : m.row_marks) {
            out += "<rect class=\"ring\"" + attribute("x", x - cell_w / 2 - 2) +
                   attribute("y", top + cell_h * row.at - 2) + attribute("width", cell_w + 4) +
                   attribute("height", cell_h + 4) + " rx=\"2\"/>";
        }
    }
    return figure(m.title, m.title + ": " + m.row_label + " by " + m.column_label, end + 38, out, "", m.id);
}

}  // namespace moba

#include "train/inspect/paths_figure.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/display/svg_parts.h"
#include "train/display/svg_style.h"
#include <set>

namespace moba {

namespace {

constexpr double layer_height = 54, head_height = 34, foot_height = 12;

std::string token_text(int t, const std::vector<std::string>& names) {
    return std::to_string(t) + " \"" + names[t] + "\"";
}

std::string hop_text(const Hop& hop) {
    return formatted("layer %d head %d, %s", hop.layer, hop.head, percent(hop.weight).c_str());
}

// A column for each token on a path, in their order; a row of dots for the input and after each layer.
class Drawing {
  public:
    Drawing(const std::vector<Path>& paths, int num_layers, const std::vector<std::string>& names)
        : num_layers_(num_layers), names_(names) {
        for (const Path& p : paths) {
            for (const Hop& hop : p.hops) { tokens_.insert({hop.from, hop.to}); }
        }
    }
    double height() const { return y(0) + foot_height; }

    std::string axes() const {
        std::string out;
        for (int level = 0; level <= num_layers_; level++) {
            const std::string name = level ? "layer " + std::to_string(level - 1) : "input";
            out += svg::text(svg::left - 6, y(level) + 4, "end", name, "mark-text");
            out += svg::line("grid", svg::left, y(level), svg::right, y(level));
        }
        for (int t : tokens_) {
            const std::string& name = names_[t];
            out += svg::text(x(t), 12, "middle", name.size() > 8 ? "..." : name);
            out += svg::text(x(t), 26, "middle", std::to_string(t), "mark-text");
        }
        return out;
    }

    // Line and arrow: the larger the weight of the whole path, the thicker.
    std::string path(const Path& p, int index) const {
        std::string route;
        int token = p.hops[0].from, level = 0;
        const auto go = [&](int to, int to_level) {
            const double middle = (y(level) + y(to_level)) / 2;
            route +=
                "C" + place(x(token), middle) + " " + place(x(to), middle) + " " + place(x(to), y(to_level));
            token = to, level = to_level;
        };
        const std::string start = "M" + place(x(token), y(0));
        for (const Hop& hop : p.hops) {
            if (hop.layer > level) { go(token, hop.layer); }
            go(hop.to, hop.layer + 1);
        }
        if (level < num_layers_) { go(token, num_layers_); }
        std::string dots;
        for (const Hop& hop : p.hops) { dots += dot(hop.from, hop.layer) + dot(hop.to, hop.layer + 1); }
        return "<g class=\"s" + std::to_string(index % series_colours) + "\"><path class=\"line\" " +
               "style=\"stroke-width:" + svg::number(1 + 5 * std::sqrt(p.weight)) + "\" d=\"" + start +
               route + "\"><title>" + html_escape(path_text(p, names_)) + "</title></path>" + dots + "</g>";
    }

  private:
    double x(int t) const {
        const double at = (double)std::distance(tokens_.begin(), tokens_.find(t));
        return svg::left + (svg::right - svg::left) * (at + 0.5) / (double)tokens_.size();
    }
    double y(int level) const { return head_height + layer_height * (num_layers_ - level) + 6; }
    static std::string place(double a, double b) { return svg::number(a) + "," + svg::number(b); }
    std::string dot(int t, int level) const {
        return "<circle class=\"marker\"" + svg::attribute("cx", x(t)) + svg::attribute("cy", y(level)) +
               " r=\"4\"/>";
    }
    int num_layers_;
    const std::vector<std::string>& names_;
    std::set<int> tokens_;
};

}  // namespace

std::string path_text(const Path& p, const std::vector<std::string>& names) {
    std::string out = percent(p.weight) + ": " + token_text(p.hops[0].from, names);
    for (const Hop& hop : p.hops) { out += " -> " + token_text(hop.to, names) + " (" + hop_text(hop) + ")"; }
    return out;
}

std::string totals_text(const std::vector<double>& totals) {
    std::string out;
    for (size_t i = 0; i < totals.size(); i++) {
        if (totals[i] < AnswerPaths::least_weight) { continue; }
        out += (out.empty() ? "" : ", ") + percent(totals[i]) +
               (i == 0   ? " directly"
                : i == 1 ? " through one other token"
                         : " through " + std::to_string(i) + " other tokens");
    }
    return out;
}

std::string draw_paths(const std::vector<Path>& paths, int num_layers,
                       const std::vector<std::string>& names) {
    const Drawing drawing(paths, num_layers, names);
    std::string inside = drawing.axes();
    for (size_t i = paths.size(); i-- > 0;) { inside += drawing.path(paths[i], (int)i); }
    return svg::figure("From the answer (below) to the question (above)",
                       "paths of the answer through the layers", drawing.height(), inside);
}

std::string paths_list(const std::vector<Path>& paths, const std::vector<std::string>& names) {
    std::string out;
    for (size_t i = 0; i < paths.size(); i++) {
        const std::string colour = "var(--c" + std::to_string(i % series_colours) + ")";
        out += "<li><b style=\"color:" + colour + "\">" + percent(paths[i].weight) + "</b> " +
               html_escape(token_text(paths[i].hops[0].from, names));
        for (const Hop& hop : paths[i].hops) {
            out += " &rarr; <b>" + html_escape(token_text(hop.to, names)) + "</b> (" + hop_text(hop) + ")";
        }
        out += "</li>\n";
    }
    return "<ul>\n" + out + "</ul>\n";
}

}  // namespace moba

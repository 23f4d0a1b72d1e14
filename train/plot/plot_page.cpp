#include "train/plot/plot_page.h"
#include "train/display/html.h"
#include "train/display/numbers.h"
#include "train/display/svg.h"
#include "train/options/options.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace moba {

namespace {

using Runs = std::vector<RunCurves>;

constexpr size_t thin_points = 500, thick_points = 200;

Axis steps_axis() { return {.label = "step"}; }

std::vector<Point> points(const std::vector<LogPoint>& curve) {
    std::vector<Point> out;
    for (const LogPoint& p : curve) { out.push_back({p.step, p.mean}); }
    return out;
}

// For each run a thin line, the values, and a thick one, their running mean.
std::vector<Series> thin_and_thick(const Runs& runs, double StepLine::*value) {
    std::vector<Series> out;
    for (size_t i = 0; i < runs.size(); i++) {
        out.push_back({.name = "",
                       .points = points(thinned(runs[i].steps, value, thin_points)),
                       .style = (int)i,
                       .faint = true});
    }
    for (size_t i = 0; i < runs.size(); i++) {
        out.push_back({.name = runs[i].name,
                       .points = points(smoothed(thinned(runs[i].steps, value, thick_points))),
                       .style = (int)i});
    }
    return out;
}

void add_validations(std::vector<Series>& out, const Runs& runs, double ValidationLine::*value) {
    for (size_t i = 0; i < runs.size(); i++) {
        const bool one = runs.size() == 1;
        Series s{.name = one ? "validation" : runs[i].name, .points = {}, .style = one ? 1 : (int)i};
        for (const ValidationLine& v : runs[i].validations) {
            s.points.push_back({(double)v.step, v.*value});
        }
        if (!s.points.empty()) { out.push_back(s); }
    }
}

// The steps at which a curriculum goes on to longer samples, in a page about one run.
std::vector<Mark> stages(const Runs& runs) {
    std::vector<Mark> out;
    if (runs.size() > 1) { return out; }
    const std::vector<StepLine>& steps = runs[0].steps;
    for (size_t i = 1; i < steps.size(); i++) {
        if (steps[i].seq_len != steps[i - 1].seq_len) {
            out.push_back({(double)steps[i].step, "T=" + readable_length(steps[i].seq_len)});
        }
    }
    return out;
}

enum class Unit { none, percent };

// One run: training and validation in one chart. Several: a chart for each.
std::vector<std::string> pair_of_charts(const Runs& runs, const std::string& what, Unit unit,
                                        double StepLine::*training, double ValidationLine::*validation) {
    const auto chart = [&](const std::string& title, std::vector<Series> series) {
        const Scale scale = unit == Unit::percent ? Scale::linear : wide_scale(series);
        Axis y{.label = what, .scale = scale, .percent = unit == Unit::percent};
        if (y.percent) { y.low = 0, y.high = 1; }
        return draw_chart({.title = title,
                           .x = steps_axis(),
                           .y = y,
                           .series = std::move(series),
                           .x_marks = stages(runs)});
    };
    std::vector<Series> first = thin_and_thick(runs, training), second;
    add_validations(second, runs, validation);
    if (runs.size() == 1) {
        first.back().name = "training";
        first.insert(first.end(), second.begin(), second.end());
        return {chart(runs[0].name + ": " + what, first)};
    }
    std::vector<std::string> out{chart("Training " + what, first)};
    if (!second.empty()) { out.push_back(chart("Validation " + what, second)); }
    return out;
}

std::string curves(const Runs& runs) {
    std::vector<std::string> cards =
        pair_of_charts(runs, "loss", Unit::none, &StepLine::loss, &ValidationLine::loss);
    const auto add = [&](const std::vector<std::string>& more) {
        cards.insert(cards.end(), more.begin(), more.end());
    };
    // in a training on text, no step has an accuracy
    const auto has_accuracy = [](const RunCurves& r) {
        return std::any_of(r.steps.begin(), r.steps.end(), [](const StepLine& s) { return s.accuracy > 0; });
    };
    if (std::any_of(runs.begin(), runs.end(), has_accuracy)) {
        add(pair_of_charts(runs, "accuracy", Unit::percent, &StepLine::accuracy, &ValidationLine::accuracy));
    }
    std::vector<Series> rate, norm = thin_and_thick(runs, &StepLine::grad_norm), speed;
    for (size_t i = 0; i < runs.size(); i++) {
        rate.push_back({.name = runs[i].name,
                        .points = points(thinned(runs[i].steps, &StepLine::lr, thin_points)),
                        .style = (int)i});
        Series s{.name = runs[i].name, .points = {}, .style = (int)i};
        for (const LogPoint& p : thinned(runs[i].steps, &StepLine::tokens_per_s, thick_points / 4)) {
            s.points.push_back({p.step, p.mean, p.low, p.high});
        }
        speed.push_back(s);
    }
    const auto chart = [&](const std::string& title, const std::string& unit, std::vector<Series> series,
                           Scale scale) {
        if (runs.size() == 1) { series.back().name.clear(); }
        return draw_chart({.title = title,
                           .x = steps_axis(),
                           .y = {.label = unit, .scale = scale, .low = scale == Scale::linear ? 0 : NAN},
                           .series = std::move(series),
                           .x_marks = stages(runs)});
    };
    add({chart("Learning rate", "learning rate", rate, Scale::linear),
         chart("Gradient norm, before clipping", "norm", norm, wide_scale(norm)),
         chart("Speed", "tokens/s", speed, Scale::linear)});
    return html_cards(cards) +
           "<p class=\"note\">Thin lines: the values of single steps, or means over a few. Thick lines: "
           "running "
           "means. The band of the speed reaches from the slowest to the fastest step.</p>\n";
}

double median_speed(const RunCurves& r) {
    std::vector<double> speed;
    for (const StepLine& s : r.steps) {
        if (s.seq_len == r.steps.back().seq_len) { speed.push_back(s.tokens_per_s); }
    }
    std::nth_element(speed.begin(), speed.begin() + (long)speed.size() / 2, speed.end());
    return speed[speed.size() / 2];
}

std::string summary(const Runs& runs) {
    HtmlTable table{
        {"run", "steps", "tokens", "time", "tokens/s", "last loss", "last validation", "best validation"},
        {}};
    for (const RunCurves& r : runs) {
        const StepLine& last = r.steps.back();
        std::string validation = "-", best = "-";
        if (!r.validations.empty()) {
            const auto at = [](const ValidationLine& v) {
                return printed("%.4f", v.loss) + " at step " + std::to_string(v.step);
            };
            validation = at(r.validations.back());
            best = at(*std::min_element(r.validations.begin(), r.validations.end(),
                                        [](const auto& a, const auto& b) { return a.loss < b.loss; }));
        }
        table.rows.push_back(
            {html_escape(r.name), std::to_string(last.step), readable_number(last.tokens),
             formatted("%.0f s", last.seconds), readable_number(median_speed(r)),
             printed("%.4f", smoothed(thinned(r.steps, &StepLine::loss, thick_points)).back().mean),
             validation, best});
    }
    return html_table(table);
}

std::string text_of(const nlohmann::json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
}

// Options with different values in different runs; of one run, those that differ from the defaults.
std::string options(const Runs& runs) {
    std::set<std::string> names;
    for (const RunCurves& r : runs) {
        for (const auto& [name, value] : r.options) { names.insert(name); }
    }
    names.erase("out");
    const nlohmann::json defaults = default_train_options();
    HtmlTable table{{"option"}, {}};
    for (const RunCurves& r : runs) { table.columns.push_back(html_escape(r.name)); }
    for (const std::string& name : names) {
        std::vector<std::string> row{html_escape(name)};
        std::set<std::string> values;
        for (const RunCurves& r : runs) {
            const auto at = r.options.find(name);
            const std::string value = at == r.options.end() ? "-" : at->second;
            values.insert(value);
            row.push_back(html_escape(value));
        }
        if (runs.size() == 1 && defaults.contains(name)) { values.insert(text_of(defaults[name])); }
        if (values.size() > 1) { table.rows.push_back(row); }
    }
    return table.rows.empty() ? "" : html_table(table);
}

std::string samples(const Runs& runs) {
    std::string out;
    for (const RunCurves& r : runs) {
        for (auto v = r.validations.rbegin(); v != r.validations.rend(); v++) {
            if (v->sample.empty()) { continue; }
            out += "<h3>" + html_escape(runs.size() == 1 ? "" : r.name + ", ") + "step " +
                   std::to_string(v->step) + formatted(", validation loss %.4f", v->loss) +
                   "</h3>\n<pre><i>" + html_escape(v->prompt) + "</i>" + html_escape(v->sample) + "</pre>\n";
        }
    }
    return out;
}

}  // namespace

std::string plot_page(const Runs& runs, int reload) {
    const std::string title = runs.size() == 1 ? runs[0].name : std::to_string(runs.size()) + " runs";
    const std::string body =
        "<h1>" + html_escape(title) + "</h1>\n" + summary(runs) + html_section("Curves", curves(runs)) +
        html_section(runs.size() == 1 ? "Options that differ from the defaults" : "Options that differ",
                     options(runs)) +
        html_section("Samples of text", samples(runs));
    const std::string again = "setTimeout(() => location.reload(), " + std::to_string(1000LL * reload) + ");";
    return html_page("moba plot: " + title, body, reload ? again : "",
                     "pre{white-space:pre-wrap}pre i{color:var(--soft)}");
}

}  // namespace moba

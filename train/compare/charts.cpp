#include "train/compare/charts.h"
#include "train/display/numbers.h"
#include <algorithm>

namespace moba {

namespace {

// Losses that fall to a thousandth would lie on the axis.
Scale loss_scale(const std::vector<Series>& series) {
    double low = INFINITY, high = 0;
    for (const Series& s : series) {
        for (const Point& p : s.points) {
            if (p.y > 0) { low = std::min(low, p.y), high = std::max(high, p.y); }
        }
    }
    return high > 30 * low ? Scale::log10 : Scale::linear;
}

/* One series for each variant that `points` finds any for. Its style is its place among the variants, the same in every chart. */
template <class Points>
std::vector<Series> by_variant(const TaskFigures& t, Points points) {
    std::vector<Series> out;
    for (size_t i = 0; i < t.variants.size(); i++) {
        Series s{t.variants[i].name, points(t.variants[i]), (int)i};
        if (!s.points.empty()) { out.push_back(s); }
    }
    return out;
}

// Bins equally wide on the logarithm, at most 64 for a curve.
std::vector<Point> by_position(const LengthFigures& l) {
    struct Bin {
        double loss = 0, position = 0, count = 0;
    };
    std::map<int, Bin> bins;
    const double each = 63 / std::log2(std::max(2, l.seq_len));
    for (const auto& [position, p] : l.positions) {
        Bin& b = bins[(int)(each * std::log2(position + 1.0))];
        b.loss += p.loss * p.count, b.position += (position + 1) * p.count, b.count += p.count;
    }
    std::vector<Point> out;
    for (const auto& [i, b] : bins) { out.push_back({b.position / b.count, b.loss / b.count}); }
    return out;
}

std::vector<Chart> with_something(std::vector<Chart> charts) {
    for (Chart& c : charts) {
        const auto drawn = [](const Point& p) { return std::isfinite(p.x) && std::isfinite(p.y); };
        std::erase_if(c.series,
                      [&](const Series& s) { return std::none_of(s.points.begin(), s.points.end(), drawn); });
    }
    std::erase_if(charts, [](const Chart& c) { return c.series.empty(); });
    return charts;
}

// What led there, thin, and what counts; one name in the legend for both.
std::vector<Series> faint_behind(std::vector<Series> faint, const std::vector<Series>& counts) {
    for (Series& s : faint) {
        s.faint = true;
        const auto same = [&](const Series& c) { return c.style == s.style; };
        if (std::any_of(counts.begin(), counts.end(), same)) { s.name.clear(); }
    }
    faint.insert(faint.end(), counts.begin(), counts.end());
    return faint;
}

// Shares against shares, equal ones on the diagonal.
Chart scatter(const std::string& title, const char* x, const char* y, std::vector<Series> series) {
    for (Series& s : series) { s.joined = false; }
    return {title, {x, Scale::linear, true, 0, 1}, {y, Scale::linear, true, 0, 1}, std::move(series), {}, {},
            true};
}

Chart loss_chart(const TaskFigures& t, const char* unit) {
    const auto points = [&](const char* list, bool band) {
        return [=](const VariantFigures& v) {
            std::vector<Point> out;
            for (const CurvePoint& p : mean_curve(v, list, unit, "loss")) {
                const bool several = band && v.runs.size() > 1;
                out.push_back({p.x, p.mean, several ? p.low : NAN, several ? p.high : NAN});
            }
            return out;
        };
    };
    Chart c{t.name + ": loss against " + unit, {unit}, {"loss, nats"}, {}, {}, {}};
    c.series = faint_behind(by_variant(t, points("curve", false)), by_variant(t, points("validation", true)));
    c.y.scale = loss_scale(c.series);
    return c;
}

}  // namespace

std::vector<Chart> loss_charts(const TaskFigures& t) {
    return with_something({loss_chart(t, "tokens"), loss_chart(t, "seconds")});
}

std::vector<Chart> position_charts(const TaskFigures& t) {
    std::vector<Chart> out;
    if (!t.text) { return out; }
    for (int T : t.lengths()) {
        Chart c{t.name + ": loss by position, T = " + std::to_string(T),
                {"position, from 1", Scale::log2},
                {"loss, nats"},
                {},
                {},
                {}};
        c.series = by_variant(t, [&](const VariantFigures& v) {
            return v.at(T) ? by_position(*v.at(T)) : std::vector<Point>();
        });
        out.push_back(c);
    }
    return with_something(out);
}

std::vector<Chart> length_charts(const TaskFigures& t) {
    if (t.lengths().size() < 2) { return {}; }
    Chart c{t.name + (t.text ? ": loss" : ": accuracy") + " against length",
            {"tokens in a test", Scale::log2},
            t.text ? Axis{"loss, nats"} : Axis{"accuracy", Scale::linear, true, 0, 1},
            {},
            {},
            {}};
    c.series = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const LengthFigures& l : v.lengths) {
            out.push_back({(double)l.seq_len, l.score.mean, l.score.interval.low, l.score.interval.high});
        }
        return out;
    });
    c.x_marks = {{(double)t.seq_len, "trained"}};
    if (!std::isnan(t.chance)) { c.y_marks = {{t.chance, "chance"}}; }
    return with_something({c});
}

std::vector<Chart> cost_charts(const TaskFigures& t) {
    const auto points = [&](auto value) {
        return by_variant(t, [=](const VariantFigures& v) {
            std::vector<Point> out;
            for (const LengthCost& c : v.costs) {
                const double y = value(v, c);
                if (!std::isnan(y)) { out.push_back({(double)c.seq_len, y}); }
            }
            return out;
        });
    };
    const auto chart = [&](const char* title, const char* y, auto value) {
        return Chart{t.name + title, {"tokens", Scale::log2}, {y, Scale::log10}, points(value), {}, {}};
    };
    const auto time = [](const VariantFigures&, const LengthCost& c) { return c.attention_ms; };
    const auto speed = [&](const VariantFigures& v, const LengthCost& c) {
        return speed_factor(t, v, c.seq_len);
    };
    const auto memory = [](const VariantFigures&, const LengthCost& c) { return c.memory_bytes / (1 << 20); };
    Chart factor = chart(": speed of attention", "times as fast as full", speed);
    factor.y_marks = {{1, "full attention"}};
    return with_something({chart(": attention of all layers", "ms, forward and backward", time), factor,
                           chart(": memory to train", "MiB", memory)});
}

std::vector<Chart> router_charts(const TaskFigures& t) {
    const auto recall = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const LengthFigures& l : v.lengths) {
            for (const HeadRecall& h : l.router) {
                const std::string note = v.name + ", layer " + std::to_string(h.layer) + ", head " +
                                         std::to_string(h.head) + ", T = " + std::to_string(l.seq_len) +
                                         ": measured " + percent(h.recall) + ", predicted " +
                                         percent(h.predicted) + ", signal to noise " + printed("%.2f", h.snr);
                out.push_back({h.predicted, h.recall, NAN, NAN, note});
            }
        }
        return out;
    });
    const auto reach = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const LengthFigures& l : v.lengths) {
            if (l.router.empty()) { continue; }  // without a router everything is reached
            out.push_back({l.reach, l.score.mean, NAN, NAN,
                           v.name + ", T = " + std::to_string(l.seq_len) + ": reach " + percent(l.reach) +
                               ", accuracy " + percent(l.score.mean)});
        }
        return out;
    });
    return with_something(
        {scatter(t.name + ": recall, measured against predicted", "predicted", "measured", recall),
         scatter(t.name + ": accuracy against reach", "reach", "accuracy", reach)});
}

std::vector<Chart> flop_charts(const TaskFigures& t) {
    Chart c{t.name + ": validation loss against compute",
            {"flop of the training", Scale::log10},
            {"loss, nats"},
            {},
            {},
            {}};
    std::vector<Series> ends = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        if (v.flop > 0 && !std::isnan(v.final_loss)) {
            out.push_back({v.flop, v.final_loss, NAN, NAN,
                           v.name + ": " + readable_number(v.parameters) + " parameters, " +
                               readable_number(v.flop) + " flop, loss " + printed("%.4f", v.final_loss)});
        }
        return out;
    });
    c.series = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const CurvePoint& p : mean_curve(v, "validation", "flop", "loss")) {
            out.push_back({p.x, p.mean});
        }
        return out;
    });
    for (Series& s : ends) { s.joined = false; }
    c.series = faint_behind(c.series, ends);
    c.y.scale = loss_scale(c.series);
    return with_something({c});
}

std::vector<Chart> all_charts(const TaskFigures& t) {
    std::vector<Chart> out;
    for (const auto& charts : {loss_charts(t), position_charts(t), length_charts(t), cost_charts(t),
                               router_charts(t), flop_charts(t)}) {
        out.insert(out.end(), charts.begin(), charts.end());
    }
    return out;
}

}  // namespace moba

#include "train/compare/charts.h"
#include "train/display/numbers.h"
#include <algorithm>

namespace moba {

namespace {

/* One series for each variant for which `points` returns any. The style is the variant's index, so a variant
   looks the same in every chart. */
template <class Points>
std::vector<Series> by_variant(const TaskFigures& t, Points points) {
    std::vector<Series> out;
    for (size_t i = 0; i < t.variants.size(); i++) {
        Series s{.name = t.variants[i].name, .points = points(t.variants[i]), .style = (int)i};
        if (!s.points.empty()) { out.push_back(s); }
    }
    return out;
}

// Mean loss in bins of equal width in log2(position), at most 64 for a curve.
std::vector<Point> by_position(const LengthFigures& l) {
    struct Bin {
        double loss = 0, position = 0, count = 0;
    };
    std::map<int, Bin> bins;
    const double bins_per_octave = 63 / std::log2(std::max(2, l.seq_len));
    for (const auto& [position, p] : l.positions) {
        Bin& b = bins[(int)(bins_per_octave * std::log2(position + 1.0))];
        b.loss += p.loss * p.count, b.position += (position + 1) * p.count, b.count += p.count;
    }
    std::vector<Point> out;
    for (const auto& [i, b] : bins) { out.push_back({b.position / b.count, b.loss / b.count}); }
    return out;
}

Charts without_empty(Charts charts) {
    for (Chart& c : charts) {
        const auto drawn = [](const Point& p) { return std::isfinite(p.x) && std::isfinite(p.y); };
        std::erase_if(c.series,
                      [&](const Series& s) { return std::none_of(s.points.begin(), s.points.end(), drawn); });
    }
    std::erase_if(charts, [](const Chart& c) { return c.series.empty(); });
    return charts;
}

// `series` drawn over `background`, which becomes thin lines. A variant in both has one name in the legend.
std::vector<Series> over_thin_lines(std::vector<Series> background, const std::vector<Series>& series) {
    for (Series& b : background) {
        b.faint = true;
        const auto same = [&](const Series& s) { return s.style == b.style; };
        if (std::any_of(series.begin(), series.end(), same)) { b.name.clear(); }
    }
    background.insert(background.end(), series.begin(), series.end());
    return background;
}

// Two shares against each other; they are equal on the diagonal.
Chart scatter(const std::string& title, const char* x, const char* y, std::vector<Series> series) {
    for (Series& s : series) { s.joined = false; }
    const auto share = [](const char* label) {
        return Axis{.label = label, .percent = true, .low = 0, .high = 1};
    };
    return {.title = title, .x = share(x), .y = share(y), .series = std::move(series), .diagonal = true};
}

Chart loss_chart(const TaskFigures& t, const char* unit, double TrainPoint::*x) {
    const auto training = [=](const VariantFigures& v) {
        std::vector<Point> out;
        for (const CurvePoint& p : mean_curve(v, &RunResult::curve, x)) {
            out.push_back({.x = p.x, .y = p.mean});
        }
        return out;
    };
    const auto validation = [=](const VariantFigures& v) {
        std::vector<Point> out;
        for (const CurvePoint& p : mean_curve(v, &RunResult::validation, x)) {
            const bool band = v.runs.size() > 1;
            out.push_back({.x = p.x, .y = p.mean, .low = band ? p.low : NAN, .high = band ? p.high : NAN});
        }
        return out;
    };
    Chart c{.title = t.name + ": loss against " + unit, .x = {.label = unit}, .y = {.label = "loss, nats"}};
    c.series = over_thin_lines(by_variant(t, training), by_variant(t, validation));
    c.y.scale = wide_scale(c.series);
    return c;
}

}  // namespace

Charts loss_charts(const TaskFigures& t) {
    return without_empty(
        {loss_chart(t, "tokens", &TrainPoint::tokens), loss_chart(t, "seconds", &TrainPoint::seconds)});
}

Charts position_charts(const TaskFigures& t) {
    Charts out;
    if (!t.text) { return out; }
    for (int T : t.lengths()) {
        Chart c{.title = t.name + ": loss by position, T = " + std::to_string(T),
                .x = {.label = "position, from 1", .scale = Scale::log2},
                .y = {.label = "loss, nats"}};
        c.series = by_variant(t, [&](const VariantFigures& v) {
            return v.at(T) ? by_position(*v.at(T)) : std::vector<Point>();
        });
        out.push_back(c);
    }
    return without_empty(out);
}

Charts length_charts(const TaskFigures& t) {
    if (t.lengths().size() < 2) { return {}; }
    Chart c{.title = t.name + (t.text ? ": loss" : ": accuracy") + " against length",
            .x = {.label = "tokens in a test", .scale = Scale::log2},
            .y = t.text ? Axis{.label = "loss, nats"}
                        : Axis{.label = "accuracy", .percent = true, .low = 0, .high = 1}};
    c.series = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const LengthFigures& l : v.lengths) {
            out.push_back({.x = (double)l.seq_len,
                           .y = l.score.mean,
                           .low = l.score.interval.low,
                           .high = l.score.interval.high});
        }
        return out;
    });
    c.x_marks = {{(double)t.seq_len, "trained length"}};
    if (!std::isnan(t.chance)) { c.y_marks = {{t.chance, "chance"}}; }
    return without_empty({c});
}

Charts cost_charts(const TaskFigures& t) {
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
        return Chart{.title = t.name + title,
                     .x = {.label = "tokens", .scale = Scale::log2},
                     .y = {.label = y, .scale = Scale::log10},
                     .series = points(value)};
    };
    const auto time = [](const VariantFigures&, const LengthCost& c) { return c.attention_ms; };
    const auto speed = [&](const VariantFigures& v, const LengthCost& c) {
        return speed_factor(t, v, c.seq_len);
    };
    const auto memory = [](const VariantFigures&, const LengthCost& c) { return c.memory_bytes / (1 << 20); };
    Chart factor = chart(": speed of attention", "times as fast as full", speed);
    factor.y_marks = {{1, "full attention"}};
    return without_empty({chart(": attention of all layers", "ms, forward and backward", time), factor,
                          chart(": memory to train", "MiB", memory)});
}

Charts router_charts(const TaskFigures& t) {
    const auto recall = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const LengthFigures& l : v.lengths) {
            for (const HeadRecall& h : l.router) {
                const std::string note = v.name + ", layer " + std::to_string(h.layer) + ", head " +
                                         std::to_string(h.head) + ", T = " + std::to_string(l.seq_len) +
                                         ": measured " + percent(h.recall) + ", predicted " +
                                         percent(h.predicted) + ", signal to noise " + printed("%.2f", h.snr);
                out.push_back({.x = h.predicted, .y = h.recall, .note = note});
            }
        }
        return out;
    });
    const auto reach = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const LengthFigures& l : v.lengths) {
            if (l.router.empty()) { continue; }  // without a router the reach is 100%
            out.push_back({.x = l.reach,
                           .y = l.score.mean,
                           .note = v.name + ", T = " + std::to_string(l.seq_len) + ": reach " +
                                   percent(l.reach) + ", accuracy " + percent(l.score.mean)});
        }
        return out;
    });
    return without_empty(
        {scatter(t.name + ": recall, measured against predicted", "predicted", "measured", recall),
         scatter(t.name + ": accuracy against reach", "reach", "accuracy", reach)});
}

Charts flop_charts(const TaskFigures& t) {
    Chart c{.title = t.name + ": validation loss against compute",
            .x = {.label = "flop of the training", .scale = Scale::log10},
            .y = {.label = "loss, nats"}};
    std::vector<Series> ends = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        if (v.flop > 0 && !std::isnan(v.final_loss)) {
            out.push_back({.x = v.flop,
                           .y = v.final_loss,
                           .note = v.name + ": " + readable_number(v.parameters) + " parameters, " +
                                   readable_number(v.flop) + " flop, loss " + printed("%.4f", v.final_loss)});
        }
        return out;
    });
    c.series = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const CurvePoint& p : mean_curve(v, &RunResult::validation, &TrainPoint::flop)) {
            out.push_back({.x = p.x, .y = p.mean});
        }
        return out;
    });
    for (Series& s : ends) { s.joined = false; }
    c.series = over_thin_lines(c.series, ends);
    c.y.scale = wide_scale(c.series);
    return without_empty({c});
}

Charts all_charts(const TaskFigures& t) {
    Charts out;
    for (const auto& charts : {loss_charts(t), position_charts(t), length_charts(t), cost_charts(t),
                               router_charts(t), flop_charts(t)}) {
        out.insert(out.end(), charts.begin(), charts.end());
    }
    return out;
}

}  // namespace moba

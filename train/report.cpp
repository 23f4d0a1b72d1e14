#include "train/report.h"
#include "train/findings.h"
#include "train/numbers.h"
#include "train/page.h"
#include "train/svg.h"
#include <algorithm>
#include <set>

using nlohmann::json;

namespace {

using Tasks = std::vector<TaskFigures>;

std::string paragraph(const std::string& text, const char* style = "") {
    return "<p" + (*style ? " class=\"" + std::string(style) + "\"" : "") + ">" + html_escape(text) +
           "</p>\n";
}

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

// "" where there is nothing to draw.
std::string chart(Chart c) {
    std::erase_if(c.series, [](const Series& s) { return s.points.empty(); });
    return c.series.empty() ? "" : draw_chart(c);
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

std::string head(const Tasks& tasks) {
    std::string out;
    std::set<std::string> devices;
    for (const TaskFigures& t : tasks) {
        for (const std::string& sentence : findings(t)) { out += paragraph(sentence); }
        for (const VariantFigures& v : t.variants) {
            for (const json& run : v.runs) { devices.insert(text_at(run, "device")); }
        }
    }
    for (const TaskFigures& t : tasks) {
        for (const std::string& w : warnings(t)) { out += paragraph(w, "warning"); }
    }
    devices.erase("");
    std::string names;
    for (const std::string& d : devices) { names += (names.empty() ? "" : "; ") + d; }
    return out + (names.empty() ? "" : paragraph("Trained and measured on: " + names + ".", "note"));
}

std::string tables(const Tasks& tasks) {
    std::string out;
    for (const TaskFigures& t : tasks) {
        for (const FigureTable& figures : figure_tables(t)) {
            HtmlTable table{{"variant"}, {}};
            for (const std::string& c : figures.columns) { table.columns.push_back(html_escape(c)); }
            for (size_t i = 0; i < figures.rows.size(); i++) {
                table.rows.push_back({html_escape(t.variants[i].name)});
                for (const FigureCell& cell : figures.rows[i]) {
                    const std::string text = html_escape(cell.text);
                    table.rows.back().push_back(
                        (cell.best ? "<strong>" + text + "</strong>" : text) +
                        (cell.note.empty() ? "" : "<small>" + html_escape(cell.note) + "</small>"));
                }
            }
            out += "<h3>" + html_escape(t.name + ": " + figures.name) + "</h3>\n" + html_table(table);
        }
        std::string rates;
        for (const VariantFigures& v : t.variants) {
            const std::string note = learning_rate_note(v);
            if (!note.empty()) { rates += (rates.empty() ? "" : "; ") + v.name + ": " + note; }
        }
        if (!rates.empty()) {
            out += paragraph(
                "Counted is the learning rate with the lowest last validation loss of the first seed. " +
                    rates + ".",
                "note");
        }
    }
    if (out.empty()) { return ""; }
    return out +
           paragraph(
               "Means over the seeds; bold: the best mean of a column. 95% intervals: with one seed Wilson's "
               "over its answers, which does not tell how another seed would do; with more Student's t over "
               "the seeds, never narrower than one seed's own. Late loss: of the last quarter of the "
               "positions. Within some tokens or seconds: the last validation by the time that one variant "
               "was through; a learning rate that has not come down by then handicaps the others. Reach: "
               "see below.",
               "note");
}

std::string loss_chart(const TaskFigures& t, const char* unit) {
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
    const std::vector<Series> validation = by_variant(t, points("validation", true));
    c.series = by_variant(t, points("curve", false));
    for (Series& s : c.series) {
        s.faint = true;
        // one name in the legend for both
        if (std::any_of(validation.begin(), validation.end(),
                        [&](const Series& v) { return v.style == s.style; })) {
            s.name.clear();
        }
    }
    c.series.insert(c.series.end(), validation.begin(), validation.end());
    c.y.scale = loss_scale(c.series);
    return chart(c);
}

std::string loss_curves(const Tasks& tasks) {
    std::string out, note = "Thin: training; with points: validation.";
    for (const TaskFigures& t : tasks) {
        out += html_cards({loss_chart(t, "tokens"), loss_chart(t, "seconds")});
    }
    if (std::any_of(tasks.begin(), tasks.end(), [](const TaskFigures& t) { return t.seeds.size() > 1; })) {
        note += " Means over the seeds, as far as every seed went; the bands reach from the lowest to the "
                "highest seed.";
    }
    return out.empty() ? "" : out + paragraph(note, "note");
}

std::string heat_maps(const Tasks& tasks) {
    std::string out;
    for (const TaskFigures& t : tasks) {
        std::vector<std::string> cards;
        for (const VariantFigures& v : t.variants) {
            cards.push_back(draw_heat_map(t.name + ": " + v.name, depth_map(v)));
        }
        out += html_cards(cards);
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

std::string loss_by_position(const Tasks& tasks) {
    std::vector<std::string> cards;
    for (const TaskFigures& t : tasks) {
        if (!t.text) { continue; }
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
            cards.push_back(chart(c));
        }
    }
    return html_cards(cards);
}

std::string by_length(const Tasks& tasks) {
    std::vector<std::string> cards;
    for (const TaskFigures& t : tasks) {
        const std::vector<int> lengths = t.lengths();
        if (lengths.size() < 2) { continue; }
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
        cards.push_back(chart(c));
    }
    const std::string out = html_cards(cards);
    return out.empty() ? "" : out + paragraph("Bands: 95% intervals.", "note");
}

std::string cost_by_length(const Tasks& tasks) {
    std::string out;
    for (const TaskFigures& t : tasks) {
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
        const Axis tokens = {"tokens", Scale::log2};
        Chart time{t.name + ": attention of all layers",
                   tokens,
                   {"ms, forward and backward", Scale::log10},
                   {},
                   {},
                   {}};
        time.series = points([](const VariantFigures&, const LengthCost& c) { return c.attention_ms; });
        Chart memory{t.name + ": memory to train", tokens, {"MiB", Scale::log10}, {}, {}, {}};
        memory.series =
            points([](const VariantFigures&, const LengthCost& c) { return c.memory_bytes / (1 << 20); });
        Chart factor{
            t.name + ": speed of attention", tokens, {"times as fast as full", Scale::log10}, {}, {}, {}};
        factor.series = points(
            [&](const VariantFigures& v, const LengthCost& c) { return speed_factor(t, v, c.seq_len); });
        factor.y_marks = {{1, "full attention"}};
        out += html_cards({chart(time), chart(factor), chart(memory)});
    }
    return out.empty()
               ? ""
               : out + paragraph("One sequence (B = 1). Attention alone, without the rest of the model.",
                                 "note");
}

std::string recall_table(const TaskFigures& t) {
    HtmlTable table{{"layer, head"}, {}};
    std::map<std::pair<int, int>, std::map<size_t, std::string>> cells;
    std::vector<size_t> routers;
    for (size_t i = 0; i < t.variants.size(); i++) {
        const LengthFigures* l = t.variants[i].at(t.seq_len);
        if (!l || l->router.empty()) { continue; }
        routers.push_back(i);
        table.columns.push_back(html_escape(t.variants[i].name));
        for (const HeadRecall& h : l->router) {
            cells[{h.layer, h.head}][i] =
                percent(h.recall) + "<small>predicted " + percent(h.predicted) + "</small>";
        }
    }
    if (routers.empty()) { return ""; }
    for (const auto& [at, of] : cells) {
        table.rows.push_back({std::to_string(at.first) + ", " + std::to_string(at.second)});
        for (size_t i : routers) { table.rows.back().push_back(of.count(i) ? of.at(i) : "-"); }
    }
    return "<details" + std::string(cells.size() <= 16 ? " open" : "") + "><summary>" +
           html_escape(t.name + ": recall by layer and head at T = " + std::to_string(t.seq_len)) +
           "</summary>\n" + html_table(table) + "</details>\n";
}

Chart reach_chart(const TaskFigures& t) {
    Chart c{t.name + ": accuracy against reach",
            {"reach", Scale::linear, true, 0, 1},
            {"accuracy", Scale::linear, true, 0, 1},
            {},
            {},
            {},
            true};
    c.series = by_variant(t, [](const VariantFigures& v) {
        std::vector<Point> out;
        for (const LengthFigures& l : v.lengths) {
            if (l.router.empty()) { continue; }  // without a router everything is reached
            out.push_back({l.reach, l.score.mean, NAN, NAN,
                           v.name + ", T = " + std::to_string(l.seq_len) + ": reach " + percent(l.reach) +
                               ", accuracy " + percent(l.score.mean)});
        }
        return out;
    });
    for (Series& s : c.series) { s.joined = false; }
    return c;
}

std::string recall(const Tasks& tasks) {
    std::vector<std::string> cards;
    std::string lists;
    for (const TaskFigures& t : tasks) {
        Chart c{t.name + ": measured against predicted",
                {"predicted", Scale::linear, true, 0, 1},
                {"measured", Scale::linear, true, 0, 1},
                {},
                {},
                {},
                true};
        c.series = by_variant(t, [](const VariantFigures& v) {
            std::vector<Point> out;
            for (const LengthFigures& l : v.lengths) {
                for (const HeadRecall& h : l.router) {
                    const std::string note =
                        v.name + ", layer " + std::to_string(h.layer) + ", head " + std::to_string(h.head) +
                        ", T = " + std::to_string(l.seq_len) + ": measured " + percent(h.recall) +
                        ", predicted " + percent(h.predicted) + ", signal to noise " + printed("%.2f", h.snr);
                    out.push_back({h.predicted, h.recall, NAN, NAN, note});
                }
            }
            return out;
        });
        for (Series& s : c.series) { s.joined = false; }
        cards.push_back(chart(c));
        cards.push_back(chart(reach_chart(t)));
        lists += recall_table(t);
    }
    const std::string out = html_cards(cards);
    if (out.empty()) { return ""; }
    return paragraph("How often the block with the answer is among the K that a head chooses; predicted from "
                     "the signal-to-noise ratio of "
                     "its scores. A point for each layer, head and length, mean over the seeds. Reach: how "
                     "often the "
                     "answer can come to the question at all, through other tokens that chose its block in a "
                     "layer before, too; a point for each length.",
                     "note") +
           out + lists;
}

std::string loss_by_flop(const Tasks& tasks) {
    std::vector<std::string> cards;
    for (const TaskFigures& t : tasks) {
        Chart c{t.name + ": last validation loss",
                {"flop of the training", Scale::log10},
                {"loss, nats"},
                {},
                {},
                {}};
        c.series = by_variant(t, [](const VariantFigures& v) {
            std::vector<Point> out;
            if (v.flop > 0 && !std::isnan(v.final_loss)) {
                out.push_back({v.flop, v.final_loss, NAN, NAN,
                               v.name + ": " + readable_number(v.parameters) + " parameters, " +
                                   readable_number(v.flop) + " flop, loss " + printed("%.4f", v.final_loss)});
            }
            return out;
        });
        for (Series& s : c.series) { s.joined = false; }
        c.y.scale = loss_scale(c.series);
        cards.push_back(chart(c));
    }
    return html_cards(cards);
}

std::string commands(const Tasks& tasks) {
    std::string out;
    for (const TaskFigures& t : tasks) {
        std::string list;
        int runs = 0;
        for (const VariantFigures& v : t.variants) {
            for (const json& run : v.all_runs) {
                const bool failed = text_at(run, "status") != "done";
                std::string name = run_name(t, v, run);
                const double loss = last_validation_loss(run);
                if (!std::isnan(loss)) { name += ": last validation loss " + printed("%.4f", loss); }
                list += paragraph(failed ? name + ": failed: " + text_at(run, "error") : name,
                                  failed ? "warning" : "");
                std::string lines = text_at(run, "command");
                const std::string eval = text_at(run, "eval_command");
                if (!eval.empty()) { lines += "\n" + eval; }
                list += "<pre>" + html_escape(lines) + "</pre>\n";
                runs++;
            }
        }
        if (runs) {
            out += "<details><summary>" +
                   html_escape(t.name + ": " + std::to_string(runs) + (runs == 1 ? " run" : " runs")) +
                   "</summary>\n" + list + "</details>\n";
        }
    }
    return out;
}

}  // namespace

std::string report_page(const std::vector<json>& lines, const std::string& title) {
    const Tasks tasks = summarize(lines);
    return html_page(title, "<h1>" + html_escape(title) + "</h1>\n" + head(tasks) +
                                html_section("Summary", tables(tasks)) +
                                html_section("Loss curves", loss_curves(tasks)) +
                                html_section("Accuracy by length and depth, percent", heat_maps(tasks)) +
                                html_section("Loss by position", loss_by_position(tasks)) +
                                html_section("Past the trained length", by_length(tasks)) +
                                html_section("Cost by length", cost_by_length(tasks)) +
                                html_section("What the router finds", recall(tasks)) +
                                html_section("Loss against training flop", loss_by_flop(tasks)) +
                                html_section("Commands", commands(tasks)));
}

#include "train/compare/findings.h"
#include "moba/core/device_ops.h"
#include "train/core/joined.h"
#include "train/core/progress.h"
#include "train/display/numbers.h"
#include <algorithm>

namespace moba {

namespace {

bool has_interval(const Estimate& e) { return !std::isnan(e.interval.low) && !std::isnan(e.interval.high); }

std::string score_text(const TaskFigures& t, double score) {
    return t.text ? printed("%.3f", score) : percent(score);
}

// "99.5 to 100.0"; "" without an interval
std::string interval_text(const TaskFigures& t, const Estimate& e) {
    if (!has_interval(e)) { return ""; }
    const char* form = t.text ? "%.3f" : "%.1f";
    const double unit = t.text ? 1 : 100;
    return printed(form, unit * e.interval.low) + " to " + printed(form, unit * e.interval.high);
}

std::string seeds_text(size_t n) { return std::to_string(n) + (n == 1 ? " seed" : " seeds"); }

// The figures at this length; nullptr without a score.
const LengthFigures* scored(const VariantFigures& v, int T) {
    const LengthFigures* l = v.at(T);
    return l && !std::isnan(l->score.mean) ? l : nullptr;
}

// A text is scored by its loss: lower is better.
bool better(const TaskFigures& t, double a, double b) { return t.text ? a < b : a > b; }

std::string verdict(const TaskFigures& t, int T, const std::vector<const VariantFigures*>& measured) {
    if (measured.size() < 2) { return ""; }
    const VariantFigures* best = measured[0];
    bool all_known = true;
    for (const VariantFigures* v : measured) {
        if (better(t, scored(*v, T)->score.mean, scored(*best, T)->score.mean)) { best = v; }
        all_known = all_known && has_interval(scored(*v, T)->score);
    }
    if (!all_known) { return ": one seed gives no interval, so nothing can be concluded"; }
    const Interval top = scored(*best, T)->score.interval;
    std::vector<std::string> beaten;
    for (const VariantFigures* v : measured) {
        const Interval i = scored(*v, T)->score.interval;
        if (i.high < top.low || i.low > top.high) { beaten.push_back(v->name); }
    }
    if (beaten.empty()) { return ": the intervals overlap, so no variant is clearly better"; }
    return ": " + best->name + (t.text ? " is lower than " : " is higher than ") + joined(beaten, " and ") +
           ", and the intervals do not overlap";
}

std::string quality(const TaskFigures& t, int T) {
    std::vector<const VariantFigures*> measured;
    std::vector<std::string> scores;
    for (const VariantFigures& v : t.variants) {
        const LengthFigures* l = scored(v, T);
        if (!l) { continue; }
        measured.push_back(&v);
        std::vector<std::string> notes;
        if (has_interval(l->score)) { notes.push_back(interval_text(t, l->score)); }
        if (v.runs.size() != t.seeds.size()) {
            notes.push_back(std::to_string(v.runs.size()) + " of " + seeds_text(t.seeds.size()));
        }
        scores.push_back(v.name + " " + score_text(t, l->score.mean) +
                         (notes.empty() ? "" : " (" + joined(notes, "; ") + ")"));
    }
    if (measured.empty()) { return ""; }
    return t.name + ", T = " + std::to_string(T) + ", " + seeds_text(t.seeds.size()) + ": " +
           (t.text ? "loss " : "") + joined(scores, ", ") + verdict(t, T, measured) + ".";
}

// The trained length, the longest one at which all variants were tested, and the longest one.
std::vector<int> lengths_to_tell(const TaskFigures& t) {
    int common = t.seq_len, longest = t.seq_len;
    for (int T : t.lengths()) {
        const bool all = std::all_of(t.variants.begin(), t.variants.end(),
                                     [&](const VariantFigures& v) { return scored(v, T) != nullptr; });
        longest = std::max(longest, T);
        if (all) { common = std::max(common, T); }
    }
    std::vector<int> out{t.seq_len, common, longest};
    out.erase(std::unique(out.begin(), out.end()), out.end());
    return out;
}

std::string factor(double x) { return printed(x < 10 ? "%.2gx" : "%.0fx", x); }

std::string cost(const TaskFigures& t, const VariantFigures& v) {
    const VariantFigures* full = t.full_beside(v);
    if (!full) { return ""; }
    std::vector<int> lengths;
    for (const LengthCost& c : v.costs) {
        if (!std::isnan(speed_factor(t, v, c.seq_len))) { lengths.push_back(c.seq_len); }
    }
    std::vector<std::string> parts;
    if (!lengths.empty()) {
        const auto [low, high] = std::minmax_element(lengths.begin(), lengths.end());
        std::string part = v.name + "'s attention is " + factor(speed_factor(t, v, *low)) + " as fast as " +
                           full->name + "'s at " + std::to_string(*low);
        if (*high > *low) {
            part += ", " + factor(speed_factor(t, v, *high)) + " at " + std::to_string(*high);
        }
        parts.push_back(part);
    }
    const double step = v.ms_per_step / full->ms_per_step;
    if (!std::isnan(step)) {
        const std::string time = " takes " + printed("%.2fx", step) + " the time";
        parts.push_back(parts.empty() ? v.name + "'s training step" + time + " of " + full->name + "'s"
                                      : "a training step" + time);
    }
    return parts.empty() ? "" : joined(parts, "; ") + ".";
}

/* Builds a table column by column. direction: +1 more is better, -1 less is better, 0 neither. */
class TableBuilder {
  public:
    TableBuilder(const std::string& name, size_t variants)
        : table_{.name = name, .rows = std::vector<std::vector<FigureCell>>(variants)} {}

    void add(const std::string& heading, int direction, const std::vector<double>& values,
             const std::vector<FigureCell>& cells) {
        const auto measured = [](double v) { return !std::isnan(v); };
        if (std::none_of(values.begin(), values.end(), measured)) { return; }
        table_.columns.push_back(heading);
        double low = NAN, high = NAN;
        for (double v : values) { low = std::fmin(low, v), high = std::fmax(high, v); }
        const double best = direction > 0 ? high : low;
        for (size_t i = 0; i < values.size(); i++) {
            FigureCell cell = measured(values[i]) ? cells[i] : FigureCell{.text = "-"};
            cell.best = direction && low < high && values[i] == best;
            table_.rows[i].push_back(cell);
        }
    }
    FigureTable table() const { return table_; }

  private:
    FigureTable table_;
};

// Adds a column; `value` and `cell` are functions of a variant.
template <class Value, class Cell>
void add_column(TableBuilder& table, const TaskFigures& t, const std::string& heading, int direction,
                Value value, Cell cell) {
    std::vector<double> values;
    std::vector<FigureCell> cells;
    for (const VariantFigures& v : t.variants) {
        values.push_back(value(v));
        cells.push_back(std::isnan(values.back()) ? FigureCell{} : cell(v));
    }
    table.add(heading, direction, values, cells);
}

FigureTable quality_table(const TaskFigures& t) {
    TableBuilder table("quality", t.variants.size());
    for (int T : t.lengths()) {
        const std::string at = " at " + std::to_string(T) + (T == t.seq_len ? " (trained)" : "");
        const auto score = [&](const VariantFigures& v) { return v.at(T) ? v.at(T)->score.mean : NAN; };
        add_column(table, t, (t.text ? "loss" : "accuracy") + at, t.text ? -1 : 1, score,
                   [&](const VariantFigures& v) {
                       return FigureCell{score_text(t, score(v)), interval_text(t, v.at(T)->score)};
                   });
        const auto late = [&](const VariantFigures& v) { return v.at(T) ? v.at(T)->late_loss : NAN; };
        add_column(table, t, "late loss" + at, -1, late,
                   [&](const VariantFigures& v) { return FigureCell{.text = score_text(t, late(v))}; });
    }
    const auto budget = [&](const std::string& within, Validation VariantFigures::*which, auto readable) {
        const auto column = [&](const char* heading, int direction, double Validation::*figure,
                                const char* form, double unit) {
            add_column(
                table, t, heading + within, direction,
                [&](const VariantFigures& v) { return v.*which.*figure; },
                [&](const VariantFigures& v) {
                    return FigureCell{printed(form, unit * (v.*which.*figure)),
                                      "at " + readable((v.*which).at)};
                });
        };
        if (!t.text) { column("accuracy", 1, &Validation::accuracy, "%.1f%%", 100); }
        column("loss", -1, &Validation::loss, "%.4f", 1);
    };
    const auto seconds = [](double s) { return readable_seconds(s); };
    budget(" within " + readable_number(t.equal_tokens) + " tokens", &VariantFigures::at_equal_tokens,
           readable_number);
    budget(" within " + seconds(std::isnan(t.equal_seconds) ? 0 : t.equal_seconds),
           &VariantFigures::at_equal_seconds, seconds);
    const auto at = [&](const VariantFigures& v) { return v.at(t.seq_len); };
    add_column(
        table, t, "best head's recall", 0,
        [&](const VariantFigures& v) { return at(v) ? at(v)->best_recall : NAN; },
        [&](const VariantFigures& v) {
            return FigureCell{percent(at(v)->best_recall), "predicted " + percent(at(v)->best_predicted)};
        });
    const auto reach = [&](const VariantFigures& v) {
        return v.at(t.seq_len) ? v.at(t.seq_len)->reach : NAN;
    };
    add_column(table, t, "reach", 0, reach,
               [&](const VariantFigures& v) { return FigureCell{.text = percent(reach(v))}; });
    return table.table();
}

// The measured length nearest to the trained one, by their ratio; 0 if none was measured.
int cost_length(const TaskFigures& t) {
    int nearest = 0;
    const auto away = [&](int T) { return std::fabs(std::log((double)T / t.seq_len)); };
    for (const VariantFigures& v : t.variants) {
        for (const LengthCost& c : v.costs) {
            if (!nearest || away(c.seq_len) < away(nearest)) { nearest = c.seq_len; }
        }
    }
    return nearest;
}

FigureTable cost_table(const TaskFigures& t) {
    TableBuilder table("cost", t.variants.size());
    const auto column = [&](const std::string& heading, int direction, auto value, auto text) {
        add_column(table, t, heading, direction, value,
                   [&](const VariantFigures& v) { return FigureCell{.text = text(value(v))}; });
    };
    // a median over the seeds, and the lowest and the highest seed
    const auto timed = [&](const std::string& heading, int direction, double VariantFigures::*value,
                           double RunResult::*of_run, auto text) {
        add_column(
            table, t, heading, direction, [&](const VariantFigures& v) { return v.*value; },
            [&](const VariantFigures& v) {
                double low = NAN, high = NAN;
                for (const RunResult& r : v.runs) {
                    low = std::fmin(low, r.*of_run), high = std::fmax(high, r.*of_run);
                }
                const std::string spread = text(low) + " to " + text(high);
                return FigureCell{.text = text(v.*value), .note = v.runs.size() > 1 ? spread : ""};
            });
    };
    const auto bytes = [](double b) { return readable_bytes((size_t)b); };
    const auto seconds = [](double s) { return readable_seconds(s); };
    const auto ms = [](double x) { return printed("%.3g", x); };
    const int T = cost_length(t);
    const std::string at = " at " + std::to_string(T);
    column(
        "parameters", 0, [](const VariantFigures& v) { return v.parameters; }, readable_number);
    column(
        "pairs left out", 0,
        [&](const VariantFigures& v) { return v.at(t.seq_len) ? v.at(t.seq_len)->sparsity : NAN; }, percent);
    timed("ms per step", -1, &VariantFigures::ms_per_step, &RunResult::ms_per_step, ms);
    timed("tokens/s", 1, &VariantFigures::tokens_per_s, &RunResult::tokens_per_s, readable_number);
    column(
        "same blocks as the query before", 0,
        [&](const VariantFigures& v) { return v.at(t.seq_len) ? v.at(t.seq_len)->same : NAN; }, percent);
    column(
        "pairs in the union of 64 queries", 0,
        [&](const VariantFigures& v) { return v.at(t.seq_len) ? v.at(t.seq_len)->extra : NAN; }, factor);
    column(
        "ms of attention alone" + at, -1, [&](const VariantFigures& v) { return v.attention_ms(T); }, ms);
    column(
        "times as fast as full" + at, 0, [&](const VariantFigures& v) { return speed_factor(t, v, T); },
        factor);
    column(
        "peak memory", -1, [](const VariantFigures& v) { return v.peak_bytes; }, bytes);
    timed("training", -1, &VariantFigures::seconds, &RunResult::seconds, seconds);
    column(
        "tokens", 0, [](const VariantFigures& v) { return v.tokens; }, readable_number);
    column(
        "flop", 0, [](const VariantFigures& v) { return v.flop; }, readable_number);
    return table.table();
}

}  // namespace

std::string run_name(const TaskFigures& t, const VariantFigures& v, const RunResult& run) {
    const std::string name = t.name + ", " + v.name + ", seed " + std::to_string(run.seed);
    return name + (v.rates.size() > 1 ? ", lr " + printed("%g", run.lr) : "");
}

std::vector<std::string> findings(const TaskFigures& t) {
    std::vector<std::string> out;
    for (int T : lengths_to_tell(t)) { out.push_back(quality(t, T)); }
    for (const VariantFigures& v : t.variants) { out.push_back(cost(t, v)); }
    std::erase(out, "");
    return out;
}

std::vector<std::string> warnings(const TaskFigures& t) {
    std::vector<std::string> out;
    for (const VariantFigures& v : t.variants) {
        const std::string name = t.name + ", " + v.name + ": ";
        std::vector<std::string> lengths, missing;
        for (const LengthFigures& l : v.lengths) {
            if (v.has_moba() && (long)v.top_k * v.block_size >= l.seq_len) {
                lengths.push_back(std::to_string(l.seq_len));
            }
        }
        if (!lengths.empty()) {
            out.push_back(name + "top-k * block-size is " + std::to_string((long)v.top_k * v.block_size) +
                          ": MoBA is full attention at T = " + joined(lengths, ", "));
        }
        const LengthFigures* l = scored(v, t.seq_len);
        if (!t.text && l && l->answers < 1000) {
            out.push_back(name + "fewer than 1000 answers (" + std::to_string(l->answers) +
                          " in a run): too few for a reliable accuracy");
        }
        for (const RunResult& run : v.all_runs) {
            if (!run.done) { out.push_back(run_name(t, v, run) + ": failed: " + run.error); }
        }
        for (int seed : v.missing_seeds) { missing.push_back(std::to_string(seed)); }
        if (!missing.empty()) { out.push_back(name + "not yet run with seed " + joined(missing, ", ")); }
    }
    return out;
}

std::vector<FigureTable> figure_tables(const TaskFigures& t) {
    std::vector<FigureTable> tables = {quality_table(t), cost_table(t)};
    std::erase_if(tables, [](const FigureTable& table) { return table.columns.empty(); });
    return tables;
}

HeatMap depth_map(const VariantFigures& v) {
    HeatMap map{.corner = "depth \\ T"};
    std::vector<double> depths;
    for (const LengthFigures& l : v.lengths) {
        for (const auto& [depth, accuracy] : l.depths) { depths.push_back(depth); }
    }
    std::sort(depths.begin(), depths.end());
    depths.erase(std::unique(depths.begin(), depths.end()), depths.end());
    if (depths.size() < 2) { return map; }
    for (const LengthFigures& l : v.lengths) { map.columns.push_back(std::to_string(l.seq_len)); }
    for (double d : depths) {
        map.rows.push_back(printed("%.0f%%", 100 * d));
        map.share.emplace_back();
        for (const LengthFigures& l : v.lengths) {
            const auto at = l.depths.find(d);
            map.share.back().push_back(at == l.depths.end() ? NAN : at->second);
        }
    }
    return map;
}

std::string learning_rate_note(const VariantFigures& v) {
    if (v.rates.size() < 2) { return ""; }
    std::vector<std::string> tried;
    for (const TriedRate& r : v.rates) {
        tried.push_back(printed("%g", r.lr) + " (" + printed("%.4f", r.loss) + ")");
    }
    return "lr " + printed("%g", v.lr) + " was chosen from " + joined(tried, ", ");
}

}  // namespace moba

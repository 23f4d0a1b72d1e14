#include "train/compare/summary.h"
#include <algorithm>
#include <set>

namespace moba {

using nlohmann::json;

double number_at(const json& j, const char* key) {
    const auto it = j.is_object() ? j.find(key) : j.end();
    return it != j.end() && it->is_number() ? it->get<double>() : NAN;
}

static const json nothing;

static const json& child(const json& j, const char* key) {
    return j.is_object() && j.contains(key) ? j[key] : nothing;
}

std::string text_at(const json& j, const char* key) {
    const json& c = child(j, key);
    return c.is_string() ? c.get<std::string>() : "";
}

double last_validation_loss(const json& run) {
    const json& v = child(child(run, "train"), "validation");
    return v.empty() ? NAN : number_at(v.back(), "loss");
}

namespace {

// 0 where there is none.
int whole_at(const json& j, const char* key) {
    const double x = number_at(j, key);
    return std::isnan(x) ? 0 : (int)x;
}

bool done(const json& run) { return text_at(run, "status") == "done"; }

// Of what is there; NaN where nothing is.
class Mean {
  public:
    void add(double x, double weight = 1) {
        if (!std::isnan(x)) { sum_ += weight * x, weight_ += weight; }
    }
    double value() const { return sum_ / weight_; }
    double weight() const { return weight_; }

  private:
    double sum_ = 0, weight_ = 0;
};

double mean_of(const std::vector<json>& runs, const char* key) {
    Mean m;
    for (const json& r : runs) { m.add(number_at(child(r, "train"), key)); }
    return m.value();
}

// Both NaN (a run without --lr) count as equal.
bool same_rate(const json& run, double lr) {
    const double x = number_at(run, "lr");
    return x == lr || (std::isnan(x) && std::isnan(lr));
}

void choose_rate(VariantFigures& v) {
    if (v.all_runs.empty()) { return; }
    const json first_seed = child(v.all_runs[0], "seed");
    double lowest = INFINITY;
    v.lr = number_at(v.all_runs[0], "lr");
    for (const json& r : v.all_runs) {
        const double lr = number_at(r, "lr");
        auto tried = std::find_if(v.rates.begin(), v.rates.end(),
                                  [&](const TriedRate& t) { return same_rate(r, t.lr); });
        if (tried == v.rates.end()) { tried = v.rates.insert(tried, {lr, NAN}); }
        if (child(r, "seed") != first_seed || !done(r)) { continue; }
        tried->loss = last_validation_loss(r);
        if (tried->loss < lowest) { lowest = tried->loss, v.lr = lr; }
    }
    for (const json& r : v.all_runs) {
        if (done(r) && same_rate(r, v.lr)) { v.runs.push_back(r); }
    }
}

void describe_model(VariantFigures& v) {
    if (v.all_runs.empty()) { return; }
    const json& run = v.runs.empty() ? v.all_runs[0] : v.runs[0];
    for (const json& l : child(run, "layers")) {
        v.layers.push_back(l.is_string() ? l.get<std::string>() : "");
    }
    v.block_size = whole_at(run, "block_size"), v.top_k = whole_at(run, "top_k");
    v.seq_len = whole_at(run, "seq_len");
    v.parameters = number_at(run, "parameters");
}

void add_costs(VariantFigures& v, const json& rows) {
    v.costs.clear();
    for (const json& r : rows) {
        v.costs.push_back(
            {whole_at(r, "seq_len"), number_at(r, "attention_ms"), number_at(r, "memory_bytes")});
    }
}

const json* length_of(const json& run, int T) {
    for (const json& l : child(child(run, "eval"), "lengths")) {
        if (number_at(l, "seq_len") == T) { return &l; }
    }
    return nullptr;
}

double late_loss(const json& length, int T) {
    Mean m;
    for (const json& p : child(length, "loss_by_position")) {
        if (4 * number_at(p, "position") >= 3.0 * T) { m.add(number_at(p, "loss"), number_at(p, "count")); }
    }
    return m.value();
}

LengthFigures length_figures(const std::vector<json>& runs, int T, bool text) {
    LengthFigures out;
    out.seq_len = T;
    std::vector<double> scores, late;
    Interval alone{NAN, NAN};
    std::map<double, Mean> depths;
    std::map<int, Mean> positions;
    struct Head {
        Mean recall, predicted, snr;
    };
    std::map<std::pair<int, int>, Head> heads;
    Mean reach, best_recall, best_prediction;
    for (const json& run : runs) {
        const json* l = length_of(run, T);
        if (!l) { continue; }
        out.sparsity = number_at(*l, "sparsity");
        const json& all = child(*l, "all");
        scores.push_back(text ? number_at(*l, "loss") : number_at(all, "accuracy"));
        alone = {number_at(all, "low"), number_at(all, "high")};
        if (!text) {
            const double answers = number_at(all, "answers");
            if (!std::isnan(answers)) {
                out.answers = scores.size() == 1 ? (long)answers : std::min(out.answers, (long)answers);
            }
        }
        late.push_back(late_loss(*l, T));
        for (const json& d : child(*l, "depths")) {
            depths[number_at(d, "depth")].add(number_at(d, "accuracy"));
        }
        for (const json& p : child(*l, "loss_by_position")) {
            positions[whole_at(p, "position")].add(number_at(p, "loss"), number_at(p, "count"));
        }
        reach.add(number_at(*l, "reach"));
        double best = NAN, best_predicted = NAN;
        for (const json& r : child(*l, "router")) {
            const double recall = number_at(r, "recall");
            if (!(best >= recall) && !std::isnan(recall)) {
                best = recall, best_predicted = number_at(r, "predicted");
            }
            Head& h = heads[{whole_at(r, "layer"), whole_at(r, "head")}];
            h.recall.add(number_at(r, "recall"));
            h.predicted.add(number_at(r, "predicted"));
            h.snr.add(number_at(r, "snr"));
        }
        best_recall.add(best);
        best_prediction.add(best_predicted);
    }
    out.score = estimate(scores, alone);
    // Seeds see the same tests, and near 0 or 100% they agree by chance: never narrower than one run's own interval.
    if (!text && scores.size() > 1) {
        Interval& i = out.score.interval;
        const double half = (alone.high - alone.low) / 2;
        i = {std::fmin(i.low, out.score.mean - half), std::fmax(i.high, out.score.mean + half)};
    }
    Interval& i = out.score.interval;
    if (!text) { i = {std::max(i.low, 0.0), std::min(i.high, 1.0)}; }  // in this order NaN stays NaN
    out.late_loss = text ? mean(late) : NAN;
    for (const auto& [depth, m] : depths) { out.depths[depth] = m.value(); }
    for (const auto& [position, m] : positions) { out.positions[position] = {m.value(), m.weight()}; }
    out.reach = reach.value();
    out.best_recall = best_recall.value();
    out.best_predicted = best_prediction.value();
    for (const auto& [at, h] : heads) {
        out.router.push_back({at.first, at.second, h.recall.value(), h.predicted.value(), h.snr.value()});
    }
    return out;
}

void measure(VariantFigures& v, bool text) {
    std::set<int> lengths;
    Mean final_loss;
    for (const json& run : v.runs) {
        for (const json& l : child(child(run, "eval"), "lengths")) { lengths.insert(whole_at(l, "seq_len")); }
        final_loss.add(last_validation_loss(run));
    }
    for (int T : lengths) { v.lengths.push_back(length_figures(v.runs, T, text)); }
    v.final_loss = final_loss.value();
    v.ms_per_step = mean_of(v.runs, "ms_per_step"), v.tokens_per_s = mean_of(v.runs, "tokens_per_s");
    v.seconds = mean_of(v.runs, "seconds"), v.tokens = mean_of(v.runs, "tokens"),
    v.flop = mean_of(v.runs, "flop");
    v.peak_bytes = mean_of(v.runs, "peak_bytes");
}

Validation validation_within(const VariantFigures& v, const char* unit, double budget) {
    Mean loss, accuracy, at;
    for (const json& run : v.runs) {
        const json* last = nullptr;
        for (const json& p : child(child(run, "train"), "validation")) {
            if (number_at(p, unit) <= budget) { last = &p; }
        }
        if (!last) { continue; }
        loss.add(number_at(*last, "loss"));
        accuracy.add(number_at(*last, "accuracy"));
        at.add(number_at(*last, unit));
    }
    return {loss.value(), accuracy.value(), at.value()};
}

// What every variant has had: the smallest run's tokens; the seconds in which all seeds of the quickest variant were through.
void compare_at_equal_cost(TaskFigures& t) {
    double tokens = INFINITY, seconds = INFINITY;
    for (const VariantFigures& v : t.variants) {
        double slowest = NAN;
        for (const json& run : v.runs) {
            tokens = std::fmin(tokens, number_at(child(run, "train"), "tokens"));
            slowest = std::fmax(slowest, number_at(child(run, "train"), "seconds"));
        }
        seconds = std::fmin(seconds, slowest);
    }
    if (std::isfinite(tokens)) { t.equal_tokens = tokens; }
    if (std::isfinite(seconds)) { t.equal_seconds = seconds; }
    for (VariantFigures& v : t.variants) {
        v.at_equal_tokens = validation_within(v, "tokens", t.equal_tokens);
        v.at_equal_seconds = validation_within(v, "seconds", t.equal_seconds);
    }
}

void find_seeds(TaskFigures& t) {
    std::set<int> seeds;
    for (const VariantFigures& v : t.variants) {
        for (const json& r : v.all_runs) { seeds.insert(whole_at(r, "seed")); }
    }
    t.seeds.assign(seeds.begin(), seeds.end());
    for (VariantFigures& v : t.variants) {
        for (int seed : t.seeds) {
            if (std::none_of(v.all_runs.begin(), v.all_runs.end(), [&](const json& r) {
                    return whole_at(r, "seed") == seed && same_rate(r, v.lr);
                })) {
                v.missing_seeds.push_back(seed);
            }
        }
    }
}

bool is_text(const TaskFigures& t) {
    for (const VariantFigures& v : t.variants) {
        for (const json& run : v.all_runs) {
            for (const json& l : child(child(run, "eval"), "lengths")) { return !l.contains("all"); }
        }
    }
    return false;
}

template <class Named>
Named& find_or_add(std::vector<Named>& list, const std::string& name) {
    const auto it = std::find_if(list.begin(), list.end(), [&](const Named& n) { return n.name == name; });
    if (it != list.end()) { return *it; }
    list.emplace_back().name = name;
    return list.back();
}

}  // namespace

Estimate estimate(const std::vector<double>& seeds, Interval alone) {
    return {mean(seeds), seeds.size() == 1 ? alone : student(seeds)};
}

bool VariantFigures::is_full() const {
    return !layers.empty() && std::all_of(layers.begin(), layers.end(),
                                          [](const std::string& l) { return l.starts_with("full"); });
}
bool VariantFigures::has_moba() const {
    return std::any_of(layers.begin(), layers.end(),
                       [](const std::string& l) { return l.starts_with("moba"); });
}
const LengthFigures* VariantFigures::at(int T) const {
    const auto it =
        std::find_if(lengths.begin(), lengths.end(), [&](const LengthFigures& l) { return l.seq_len == T; });
    return it == lengths.end() ? nullptr : &*it;
}
double VariantFigures::attention_ms(int T) const {
    const auto it =
        std::find_if(costs.begin(), costs.end(), [&](const LengthCost& c) { return c.seq_len == T; });
    return it == costs.end() ? NAN : it->attention_ms;
}

std::vector<int> TaskFigures::lengths() const {
    std::set<int> all;
    for (const VariantFigures& v : variants) {
        for (const LengthFigures& l : v.lengths) { all.insert(l.seq_len); }
    }
    return {all.begin(), all.end()};
}

const VariantFigures* TaskFigures::full_beside(const VariantFigures& v) const {
    const VariantFigures* nearest = nullptr;
    const auto away = [&](const VariantFigures& f) { return std::fabs(f.parameters - v.parameters); };
    for (const VariantFigures& f : variants) {
        if (f.is_full() && !f.runs.empty() && (!nearest || away(f) < away(*nearest))) { nearest = &f; }
    }
    return nearest == &v || v.is_full() ? nullptr : nearest;
}

double speed_factor(const TaskFigures& t, const VariantFigures& v, int T) {
    const VariantFigures* full = t.full_beside(v);
    return full ? full->attention_ms(T) / v.attention_ms(T) : NAN;
}

std::vector<TaskFigures> summarize(const std::vector<json>& lines) {
    std::vector<TaskFigures> tasks;
    for (const json& line : lines) {
        const std::string kind = text_at(line, "kind");
        if (kind != "run" && kind != "lengths") { continue; }
        TaskFigures& task = find_or_add(tasks, text_at(line, "task"));
        VariantFigures& v = find_or_add(task.variants, text_at(line, "variant"));
        if (kind == "lengths") {
            add_costs(v, child(line, "rows"));
            continue;
        }
        const auto again = std::find_if(v.all_runs.begin(), v.all_runs.end(), [&](const json& r) {
            return child(r, "seed") == child(line, "seed") && same_rate(r, number_at(line, "lr"));
        });
        if (again == v.all_runs.end()) {
            v.all_runs.push_back(line);
        } else {
            *again = line;
        }
    }
    for (TaskFigures& t : tasks) {
        t.text = is_text(t);
        for (VariantFigures& v : t.variants) {
            choose_rate(v);
            describe_model(v);
            measure(v, t.text);
            t.seq_len = std::max(t.seq_len, v.seq_len);
            for (const json& run : v.runs) {
                t.chance = std::fmax(t.chance, number_at(child(run, "eval"), "chance"));
            }
        }
        find_seeds(t);
        compare_at_equal_cost(t);
    }
    return tasks;
}

// Straight lines between the points; NaN beyond them.
static double read_off(const std::vector<std::pair<double, double>>& curve, double x) {
    for (size_t i = 0; i < curve.size(); i++) {
        if (curve[i].first == x) { return curve[i].second; }
        if (i && curve[i - 1].first < x && x < curve[i].first) {
            const double share = (x - curve[i - 1].first) / (curve[i].first - curve[i - 1].first);
            return curve[i - 1].second + share * (curve[i].second - curve[i - 1].second);
        }
    }
    return NAN;
}

std::vector<CurvePoint> mean_curve(const VariantFigures& v, const char* list, const char* x, const char* y) {
    std::vector<std::vector<std::pair<double, double>>> curves;
    for (const json& run : v.runs) {
        curves.emplace_back();
        for (const json& p : child(child(run, "train"), list)) {
            curves.back().push_back({number_at(p, x), number_at(p, y)});
        }
    }
    std::vector<CurvePoint> out;
    if (curves.empty()) { return out; }
    for (const auto& [at, first] : curves[0]) {
        std::vector<double> values;
        for (const auto& curve : curves) { values.push_back(read_off(curve, at)); }
        const double m = mean(values);
        if (std::isnan(m)) { continue; }
        out.push_back({at, m, *std::min_element(values.begin(), values.end()),
                       *std::max_element(values.begin(), values.end())});
    }
    return out;
}

}  // namespace moba

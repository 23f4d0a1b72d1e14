#include "train/compare/summary.h"
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

namespace moba {

using nlohmann::json;

namespace {

// These four never throw: a missing value is NaN, 0, "" or null.
double number_at(const json& j, const char* key) {
    const auto it = j.is_object() ? j.find(key) : j.end();
    return it != j.end() && it->is_number() ? it->get<double>() : NAN;
}

int whole_at(const json& j, const char* key) {
    const double x = number_at(j, key);
    return std::isnan(x) ? 0 : (int)x;
}

const json& child(const json& j, const char* key) {
    static const json nothing;
    return j.is_object() && j.contains(key) ? j[key] : nothing;
}

std::string text_at(const json& j, const char* key) {
    const json& c = child(j, key);
    return c.is_string() ? c.get<std::string>() : "";
}

std::vector<TrainPoint> read_points(const json& list) {
    std::vector<TrainPoint> out;
    for (const json& p : list) {
        out.push_back({.tokens = number_at(p, "tokens"),
                       .seconds = number_at(p, "seconds"),
                       .flop = number_at(p, "flop"),
                       .loss = number_at(p, "loss"),
                       .accuracy = number_at(p, "accuracy")});
    }
    return out;
}

LengthResult read_length(const json& j) {
    const json& all = child(j, "all");
    LengthResult out{.seq_len = whole_at(j, "seq_len"),
                     .is_task = j.contains("all"),
                     .accuracy = number_at(all, "accuracy"),
                     .accuracy_low = number_at(all, "low"),
                     .accuracy_high = number_at(all, "high"),
                     .answers = number_at(all, "answers"),
                     .loss = number_at(j, "loss"),
                     .sparsity = number_at(j, "sparsity"),
                     .reach = number_at(j, "reach"),
                     .same = number_at(j, "same"),
                     .extra = number_at(j, "extra")};
    for (const json& d : child(j, "depths")) {
        out.depths.push_back({number_at(d, "depth"), number_at(d, "accuracy")});
    }
    for (const json& p : child(j, "loss_by_position")) {
        out.positions.push_back({whole_at(p, "position"), number_at(p, "loss"), number_at(p, "count")});
    }
    for (const json& r : child(j, "router")) {
        out.router.push_back({.layer = whole_at(r, "layer"),
                              .head = whole_at(r, "head"),
                              .recall = number_at(r, "recall"),
                              .predicted = number_at(r, "predicted"),
                              .snr = number_at(r, "snr")});
    }
    return out;
}

RunResult read_run(const json& j) {
    const json &train = child(j, "train"), &eval = child(j, "eval");
    RunResult out{.seed = whole_at(j, "seed"),
                  .lr = number_at(j, "lr"),
                  .done = text_at(j, "status") == "done",
                  .error = text_at(j, "error"),
                  .device = text_at(j, "device"),
                  .command = text_at(j, "command"),
                  .eval_command = text_at(j, "eval_command"),
                  .block_size = whole_at(j, "block_size"),
                  .top_k = whole_at(j, "top_k"),
                  .seq_len = whole_at(j, "seq_len"),
                  .parameters = number_at(j, "parameters"),
                  .ms_per_step = number_at(train, "ms_per_step"),
                  .tokens_per_s = number_at(train, "tokens_per_s"),
                  .seconds = number_at(train, "seconds"),
                  .tokens = number_at(train, "tokens"),
                  .flop = number_at(train, "flop"),
                  .peak_bytes = number_at(train, "peak_bytes"),
                  .curve = read_points(child(train, "curve")),
                  .validation = read_points(child(train, "validation")),
                  .chance = number_at(eval, "chance")};
    for (const json& l : child(j, "layers")) {
        out.layers.push_back(l.is_string() ? l.get<std::string>() : "");
    }
    for (const json& l : child(eval, "lengths")) { out.lengths.push_back(read_length(l)); }
    return out;
}

std::vector<LengthCost> read_costs(const json& rows) {
    std::vector<LengthCost> out;
    for (const json& r : rows) {
        out.push_back({.seq_len = whole_at(r, "seq_len"),
                       .attention_ms = number_at(r, "attention_ms"),
                       .memory_bytes = number_at(r, "memory_bytes")});
    }
    return out;
}

// The weighted mean of all values but NaN; NaN without any.
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

double mean_of(const std::vector<RunResult>& runs, double RunResult::*figure) {
    Mean m;
    for (const RunResult& r : runs) { m.add(r.*figure); }
    return m.value();
}

// Of times: a seed that was trained while the machine was busy does not decide.
double median_of(const std::vector<RunResult>& runs, double RunResult::*figure) {
    std::vector<double> values;
    for (const RunResult& r : runs) {
        if (!std::isnan(r.*figure)) { values.push_back(r.*figure); }
    }
    if (values.empty()) { return NAN; }
    std::sort(values.begin(), values.end());
    return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

// Two NaN (runs without --lr) are equal.
bool same_rate(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

void choose_rate(VariantFigures& v) {
    if (v.all_runs.empty()) { return; }
    double lowest = INFINITY;
    v.lr = v.all_runs[0].lr;
    for (const RunResult& r : v.all_runs) {
        auto tried = std::find_if(v.rates.begin(), v.rates.end(),
                                  [&](const TriedRate& t) { return same_rate(r.lr, t.lr); });
        if (tried == v.rates.end()) { tried = v.rates.insert(tried, {r.lr, NAN}); }
        if (r.seed != v.all_runs[0].seed || !r.done) { continue; }
        tried->loss = r.last_validation_loss();
        if (tried->loss < lowest) { lowest = tried->loss, v.lr = r.lr; }
    }
    for (const RunResult& r : v.all_runs) {
        if (r.done && same_rate(r.lr, v.lr)) { v.runs.push_back(r); }
    }
}

void describe_model(VariantFigures& v) {
    if (v.all_runs.empty()) { return; }
    const RunResult& run = v.runs.empty() ? v.all_runs[0] : v.runs[0];
    v.layers = run.layers;
    v.block_size = run.block_size, v.top_k = run.top_k;
    v.seq_len = run.seq_len;
    v.parameters = run.parameters;
}

double late_loss(const LengthResult& l) {
    Mean m;
    for (const LengthResult::Position& p : l.positions) {
        if (4.0 * p.position >= 3.0 * l.seq_len) { m.add(p.loss, p.count); }
    }
    return m.value();
}

LengthFigures length_figures(const std::vector<RunResult>& runs, int T, bool text) {
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
    Mean reach, same, extra, best_recall, best_prediction;
    for (const RunResult& run : runs) {
        const LengthResult* l = run.at(T);
        if (!l) { continue; }
        out.sparsity = l->sparsity;
        scores.push_back(text ? l->loss : l->accuracy);
        alone = {l->accuracy_low, l->accuracy_high};
        if (!text && !std::isnan(l->answers)) {
            out.answers = scores.size() == 1 ? (long)l->answers : std::min(out.answers, (long)l->answers);
        }
        late.push_back(late_loss(*l));
        for (const LengthResult::Depth& d : l->depths) { depths[d.depth].add(d.accuracy); }
        for (const LengthResult::Position& p : l->positions) { positions[p.position].add(p.loss, p.count); }
        reach.add(l->reach);
        same.add(l->same);
        extra.add(l->extra);
        double best = NAN, best_predicted = NAN;
        for (const HeadRecall& r : l->router) {
            if (!(best >= r.recall) && !std::isnan(r.recall)) {
                best = r.recall, best_predicted = r.predicted;
            }
            Head& h = heads[{r.layer, r.head}];
            h.recall.add(r.recall);
            h.predicted.add(r.predicted);
            h.snr.add(r.snr);
        }
        best_recall.add(best);
        best_prediction.add(best_predicted);
    }
    out.score = estimate(scores, alone);
    // All seeds answer the same tests, and near 0% or 100% they agree by chance: the interval over the seeds
    // is never narrower than that of one run.
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
    out.same = same.value(), out.extra = extra.value();
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
    for (const RunResult& run : v.runs) {
        for (const LengthResult& l : run.lengths) { lengths.insert(l.seq_len); }
        final_loss.add(run.last_validation_loss());
    }
    for (int T : lengths) { v.lengths.push_back(length_figures(v.runs, T, text)); }
    v.final_loss = final_loss.value();
    v.ms_per_step = median_of(v.runs, &RunResult::ms_per_step);
    v.tokens_per_s = median_of(v.runs, &RunResult::tokens_per_s);
    v.seconds = median_of(v.runs, &RunResult::seconds);
    v.tokens = mean_of(v.runs, &RunResult::tokens);
    v.flop = mean_of(v.runs, &RunResult::flop);
    v.peak_bytes = mean_of(v.runs, &RunResult::peak_bytes);
}

// The last validation of each seed within a budget of tokens or seconds; mean over the seeds.
Validation validation_within(const VariantFigures& v, double TrainPoint::*unit, double budget) {
    Mean loss, accuracy, at;
    for (const RunResult& run : v.runs) {
        const TrainPoint* last = nullptr;
        for (const TrainPoint& p : run.validation) {
            if (p.*unit <= budget) { last = &p; }
        }
        if (!last) { continue; }
        loss.add(last->loss);
        accuracy.add(last->accuracy);
        at.add(last->*unit);
    }
    return {loss.value(), accuracy.value(), at.value()};
}

// The budgets that every variant has spent: the tokens of the smallest run, and the seconds that all seeds of
// the fastest variant needed.
void compare_at_equal_cost(TaskFigures& t) {
    double tokens = INFINITY, seconds = INFINITY;
    for (const VariantFigures& v : t.variants) {
        double slowest = NAN;
        for (const RunResult& run : v.runs) {
            tokens = std::fmin(tokens, run.tokens);
            slowest = std::fmax(slowest, run.seconds);
        }
        seconds = std::fmin(seconds, slowest);
    }
    if (std::isfinite(tokens)) { t.equal_tokens = tokens; }
    if (std::isfinite(seconds)) { t.equal_seconds = seconds; }
    for (VariantFigures& v : t.variants) {
        v.at_equal_tokens = validation_within(v, &TrainPoint::tokens, t.equal_tokens);
        v.at_equal_seconds = validation_within(v, &TrainPoint::seconds, t.equal_seconds);
    }
}

void find_seeds(TaskFigures& t) {
    std::set<int> seeds;
    for (const VariantFigures& v : t.variants) {
        for (const RunResult& r : v.all_runs) { seeds.insert(r.seed); }
    }
    t.seeds.assign(seeds.begin(), seeds.end());
    for (VariantFigures& v : t.variants) {
        for (int seed : t.seeds) {
            const auto is_run = [&](const RunResult& r) { return r.seed == seed && same_rate(r.lr, v.lr); };
            if (std::none_of(v.all_runs.begin(), v.all_runs.end(), is_run)) {
                v.missing_seeds.push_back(seed);
            }
        }
    }
}

bool is_text(const TaskFigures& t) {
    for (const VariantFigures& v : t.variants) {
        for (const RunResult& run : v.all_runs) {
            if (!run.lengths.empty()) { return !run.lengths[0].is_task; }
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

const LengthResult* RunResult::at(int T) const {
    const auto it =
        std::find_if(lengths.begin(), lengths.end(), [&](const LengthResult& l) { return l.seq_len == T; });
    return it == lengths.end() ? nullptr : &*it;
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
            v.costs = read_costs(child(line, "rows"));
            continue;
        }
        const RunResult run = read_run(line);
        const auto again = std::find_if(v.all_runs.begin(), v.all_runs.end(), [&](const RunResult& r) {
            return r.seed == run.seed && same_rate(r.lr, run.lr);
        });
        if (again == v.all_runs.end()) {
            v.all_runs.push_back(run);
        } else {
            *again = run;
        }
    }
    for (TaskFigures& t : tasks) {
        t.text = is_text(t);
        for (VariantFigures& v : t.variants) {
            choose_rate(v);
            describe_model(v);
            measure(v, t.text);
            t.seq_len = std::max(t.seq_len, v.seq_len);
            for (const RunResult& run : v.runs) { t.chance = std::fmax(t.chance, run.chance); }
        }
        find_seeds(t);
        compare_at_equal_cost(t);
    }
    return tasks;
}

// Linear interpolation; NaN outside the range of the points.
static double interpolated(const std::vector<TrainPoint>& curve, double TrainPoint::*x, double at) {
    for (size_t i = 0; i < curve.size(); i++) {
        const double right = curve[i].*x;
        if (right == at) { return curve[i].loss; }
        const double left = i ? curve[i - 1].*x : NAN;
        if (left < at && at < right) {
            return curve[i - 1].loss + (at - left) / (right - left) * (curve[i].loss - curve[i - 1].loss);
        }
    }
    return NAN;
}

std::vector<CurvePoint> mean_curve(const VariantFigures& v, std::vector<TrainPoint> RunResult::*curve,
                                   double TrainPoint::*x) {
    std::vector<CurvePoint> out;
    if (v.runs.empty()) { return out; }
    for (const TrainPoint& p : v.runs[0].*curve) {
        std::vector<double> losses;
        for (const RunResult& run : v.runs) { losses.push_back(interpolated(run.*curve, x, p.*x)); }
        const double m = mean(losses);
        if (std::isnan(m)) { continue; }
        out.push_back({p.*x, m, *std::min_element(losses.begin(), losses.end()),
                       *std::max_element(losses.begin(), losses.end())});
    }
    return out;
}

}  // namespace moba

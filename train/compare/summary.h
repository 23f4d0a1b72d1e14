/* The figures of a comparison, computed from the lines of its results.jsonl. A value that is missing there is
   NaN or empty here, never an error.

   A line is one run ("kind": "run", "status": "done" or "failed") or the cost of a model by length
   ("kind": "lengths"). Tasks and variants keep the order of the lines. If a run (task, variant, seed, lr) has
   several lines, the last one counts. If a variant ran with several learning rates, only the runs of one rate
   count: the rate with the lowest last validation loss of the variant's first seed.

   Units: shares 0 to 1, loss in nats, seconds, ms where the name says so, bytes. */
#pragma once
#include "train/core/statistics.h"
#include <cmath>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

namespace moba {

/* A point of a training curve, or a validation: what had been spent by then, and the loss. */
struct TrainPoint {
    double tokens, seconds, flop, loss, accuracy;
};

struct HeadRecall {
    int layer, head;
    double recall, predicted, snr;
};

/* The evaluation of one run at one length. */
struct LengthResult {
    int seq_len;
    bool is_task;                                           // with counted answers; otherwise a text
    double accuracy, accuracy_low, accuracy_high, answers;  // tasks
    double loss;                                            // text
    double sparsity, reach;
    double same, extra;  // choice_overlap.h
    struct Depth {
        double depth, accuracy;
    };
    std::vector<Depth> depths = {};
    struct Position {
        int position;
        double loss, count;
    };
    std::vector<Position> positions = {};
    std::vector<HeadRecall> router = {};
};

/* A line of kind "run". */
struct RunResult {
    int seed;
    double lr;
    bool done;
    std::string error, device, command, eval_command;
    std::vector<std::string> layers = {};
    int block_size, top_k, seq_len;
    double parameters;
    double ms_per_step, tokens_per_s, seconds, tokens, flop, peak_bytes;
    std::vector<TrainPoint> curve, validation;
    double chance;
    std::vector<LengthResult> lengths = {};

    double last_validation_loss() const { return validation.empty() ? NAN : validation.back().loss; }
    const LengthResult* at(int seq_len) const;  // nullptr: not evaluated there
};

/* Mean over the seeds. The interval is Student's t for two or more seeds, and `alone` for one. */
struct Estimate {
    double mean = NAN;
    Interval interval{NAN, NAN};
};
Estimate estimate(const std::vector<double>& seeds, Interval alone = {NAN, NAN});

/* A variant at one length; means over the seeds. */
struct LengthFigures {
    int seq_len;
    double sparsity = NAN;
    Estimate score;                   // tasks: accuracy; text: loss
    double late_loss = NAN;           // text: loss of the last quarter of the positions
    long answers = 0;                 // tasks: of the run with the fewest
    std::map<double, double> depths;  // depth -> accuracy
    struct AtPosition {
        double loss, count;
    };
    std::map<int, AtPosition> positions;
    std::vector<HeadRecall> router;
    // Mean over the best head of each seed: the same head index means different things in different seeds.
    double best_recall = NAN, best_predicted = NAN;
    double reach = NAN;              // router_reach.h
    double same = NAN, extra = NAN;  // choice_overlap.h
};

/* The cost of a model at one length: attention of all layers, forward and backward; memory for training. */
struct LengthCost {
    int seq_len;
    double attention_ms, memory_bytes;
};

/* The last validation within a budget of tokens or seconds. */
struct Validation {
    double loss = NAN, accuracy = NAN;
    double at = NAN;  // how much of the budget had been used by then
};

struct TriedRate {
    double lr, loss;  // last validation loss of the first seed
};

struct VariantFigures {
    std::string name;
    std::vector<std::string> layers;
    int block_size = 0, top_k = 0, seq_len = 0;
    double parameters = NAN;
    double lr = NAN;                  // the learning rate that counts
    std::vector<TriedRate> rates;     // all learning rates
    std::vector<RunResult> runs;      // finished runs with `lr`, one for each seed
    std::vector<RunResult> all_runs;  // every learning rate, failed runs too
    std::vector<int> missing_seeds;   // seeds of the task that neither finished nor failed here
    std::vector<LengthFigures> lengths;
    std::vector<LengthCost> costs;
    double ms_per_step = NAN, tokens_per_s = NAN, seconds = NAN, tokens = NAN, flop = NAN, peak_bytes = NAN;
    double final_loss = NAN;  // last validation
    Validation at_equal_tokens, at_equal_seconds;

    bool is_full() const;                        // every layer is full attention
    bool has_moba() const;                       // some layer is MoBA
    const LengthFigures* at(int seq_len) const;  // nullptr: not evaluated there
    double attention_ms(int seq_len) const;      // NaN: not measured there
};

struct TaskFigures {
    std::string name;
    bool text = false;
    double chance = NAN;
    int seq_len = 0;         // of the training
    std::vector<int> seeds;  // of all variants
    double equal_tokens = NAN, equal_seconds = NAN;
    std::vector<VariantFigures> variants;

    std::vector<int> lengths() const;  // at which any variant was evaluated
    /* The variant to compare with: full attention, of several the one nearest in parameters.
       nullptr: there is none, or it is the variant itself. */
    const VariantFigures* full_beside(const VariantFigures&) const;
};

std::vector<TaskFigures> summarize(const std::vector<nlohmann::json>& lines);

/* How many times as fast as full attention the attention of `v` is; NaN if one of them was not measured. */
double speed_factor(const TaskFigures&, const VariantFigures& v, int seq_len);

/* The loss of all seeds as one curve over x (tokens, seconds or flop). Seeds may have different points: the
   curve has the points of the first seed, up to the end of the shortest; the other seeds are interpolated. */
struct CurvePoint {
    double x, mean, low, high;  // low and high over the seeds
};
std::vector<CurvePoint> mean_curve(const VariantFigures&, std::vector<TrainPoint> RunResult::*curve,
                                   double TrainPoint::*x);

}  // namespace moba

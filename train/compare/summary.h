/* The figures of a comparison, worked out from the lines of its results.jsonl. What is not there yet is NaN or empty, never an error.

   A line is one run ("kind": "run", "status": "done" or "failed") or the cost of a model by length ("kind": "lengths"). Tasks and
   variants keep the order of the lines. Of the same run (task, variant, seed, lr) the last line counts. Where a variant ran with several
   learning rates, only the runs with the one count whose last validation loss is lowest in the variant's first seed.

   Units: shares 0..1, loss in nats, seconds, ms where the name says so, bytes. */
#pragma once
#include "train/core/statistics.h"
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace moba {

double number_at(const nlohmann::json&, const char* key);     // NaN where there is none
std::string text_at(const nlohmann::json&, const char* key);  // "" where there is none

/* Over the seeds: two or more: Student's t; one: what `alone` says. */
struct Estimate {
    double mean = NAN;
    Interval interval{NAN, NAN};
};
Estimate estimate(const std::vector<double>& seeds, Interval alone = {NAN, NAN});

/* The mean of one head over the seeds. */
struct HeadRecall {
    int layer, head;
    double recall, predicted, snr;
};

struct LengthFigures {
    int seq_len;
    double sparsity = NAN;
    Estimate score;                   // tasks: accuracy; text: loss
    double late_loss = NAN;           // text: of the last quarter of the positions
    long answers = 0;                 // tasks: of the run that has fewest
    std::map<double, double> depths;  // depth, accuracy
    struct AtPosition {
        double loss, count;
    };
    std::map<int, AtPosition> positions;
    std::vector<HeadRecall> router;
    double best_recall = NAN,
           best_predicted = NAN;  // of each seed's best head: heads of different seeds are strangers
    double reach = NAN;           // router_reach.h
};

/* What the model costs at a length: attention of all its layers forward and backward, and the memory to train it. */
struct LengthCost {
    int seq_len;
    double attention_ms, memory_bytes;
};

/* The last validation that a budget (tokens, or seconds) had room for. */
struct Validation {
    double loss = NAN, accuracy = NAN;
    double at = NAN;  // how much of the budget had been used then
};

struct TriedRate {
    double lr, loss;  // last validation loss of the first seed
};

struct VariantFigures {
    std::string name;
    std::vector<std::string> layers;
    int block_size = 0, top_k = 0, seq_len = 0;
    double parameters = NAN;
    double lr = NAN;                   // the one that counts
    std::vector<TriedRate> rates;      // all
    std::vector<nlohmann::json> runs;  // done, with that lr, in order: one for each seed
    std::vector<nlohmann::json> all_runs;
    std::vector<int> missing_seeds;  // of the task's seeds: neither done nor failed
    std::vector<LengthFigures> lengths;
    std::vector<LengthCost> costs;
    double ms_per_step = NAN, tokens_per_s = NAN, seconds = NAN, tokens = NAN, flop = NAN, peak_bytes = NAN;
    double final_loss = NAN;  // the last validation
    Validation at_equal_tokens, at_equal_seconds;

    bool is_full() const;  // every layer
    bool has_moba() const;
    const LengthFigures* at(int seq_len) const;  // nullptr: not evaluated there
    double attention_ms(int seq_len) const;      // NaN: not measured there
};

struct TaskFigures {
    std::string name;
    bool text = false;
    double chance = NAN;
    int seq_len = 0;         // trained
    std::vector<int> seeds;  // of all variants
    double equal_tokens = NAN, equal_seconds = NAN;
    std::vector<VariantFigures> variants;

    std::vector<int> lengths() const;  // evaluated, of all variants
    /* What a variant is held against: full attention, of several the one nearest in parameters. nullptr: none, or itself. */
    const VariantFigures* full_beside(const VariantFigures&) const;
};

std::vector<TaskFigures> summarize(const std::vector<nlohmann::json>& lines);

double last_validation_loss(const nlohmann::json& run);  // NaN without one

/* How many times as fast `v`'s attention is as full attention; NaN where either was not measured. */
double speed_factor(const TaskFigures&, const VariantFigures& v, int seq_len);

/* One curve of all seeds. Seeds may differ in their points: those of the first one are taken, as far as every seed goes, and the others
   read off between their own. list: "curve" or "validation" of a run's "train". */
struct CurvePoint {
    double x, mean, low, high;  // low, high: of the seeds
};
std::vector<CurvePoint> mean_curve(const VariantFigures&, const char* list, const char* x, const char* y);

}  // namespace moba

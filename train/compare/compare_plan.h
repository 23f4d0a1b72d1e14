/* The plan of a comparison: a JSON file of variants x tasks x seeds, turned into the commands that do it.

   {
     "title": "...",
     "seeds": 3,                            runs of each variant, with seeds 1, 2, 3
     "lr": [0.001, 0.003, 0.006],           optional: each variant's rate is the one whose first seed validates best
     "base": {"config": "train/configs/needle.json", "stage-accuracy": 0},      options of `moba train` for all runs
     "tasks": [{"name": "needle", "pairs": 8}],                         options of this task; they override those of base. The name is
                                                                        a label: "task", "data" or "config" says what is learnt
     "variants": [{"name": "full", "attention": "full"}, ...],          options of this variant; they override those of the task
     "eval": {"lengths": [1, 2, 4, 8], "depths": 10, "samples": 100},   lengths in multiples of seq-len; also "windows" (text);
                                                                        a task may have an "eval" of its own
     "bench-lengths": [256, 512, 1024]      where attention alone is timed, and training memory told; [] = nowhere
   }
   All but "tasks" and "variants" may be left out. Files are named as seen from the current folder. Throws Error on whatever is not so, before anything runs. */
#pragma once
#include "train/compare/compare_options.h"
#include "train/options/options.h"
#include "train/run/trainer.h"
#include <nlohmann/json.hpp>

namespace moba {

struct ComparePlan {
    struct Task {
        std::string name;
        std::vector<int> lengths;  // tokens, from the plan's multiples
        int depths, samples, windows;
    };
    struct Run {
        size_t task, variant;
        int seed;
        double lr = 0;                   // searched; 0 = as the options say
        std::string name;                // of its folder
        std::vector<std::string> words;  // of `moba train`, without --out
        nlohmann::json settings;         // all options that decide what is learnt
        TrainOptions options;
        TrainPlan plan;
    };
    std::string title;
    std::vector<Task> tasks;
    std::vector<std::string> variants;
    std::vector<double> lr;
    std::vector<int> bench_lengths;
    std::vector<Run> runs;  // task by task, seed by seed, variant by variant; with lr: all rates of each seed
};

ComparePlan read_plan(const CompareOptions&);

}  // namespace moba

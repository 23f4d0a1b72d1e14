/* The plan of a comparison: a JSON file of variants x tasks x seeds, turned into the commands that run it.

   {
     "title": "...",
     "seeds": 3,                            runs of each variant, with seeds 1, 2, 3
     "lr": [0.001, 0.003, 0.006],           optional: each variant gets the learning rate whose run with
                                            seed 1 has the lowest last validation loss
     "base": {"config": "train/configs/needle.json", "stage-accuracy": 0},
                                            options of `moba train` for all runs
     "tasks": [{"name": "needle", "pairs": 8}],
                                            options for this task; they override those of base. The name is
                                            a label: "task", "data" or "config" decides what is learnt
     "variants": [{"name": "full", "attention": "full"}, ...],
                                            options for this variant; they override those of the task
     "eval": {"lengths": [1, 2, 4, 8], "depths": 10, "samples": 100},
                                            lengths are multiples of seq-len; samples: for each length and
                                            depth, or a list, one for each length; also "windows" (text).
                                            The "eval" of a task, then that of a variant, override these
     "bench-lengths": [256, 512, 1024]      lengths at which attention alone is timed and the memory for
                                            training is computed; [] = none
   }
   Only "tasks" and "variants" are required. Paths are relative to the current folder. Throws Error before
   anything runs if the plan is wrong. */
#pragma once
#include "train/compare/compare_options.h"
#include "train/options/options.h"
#include "train/run/trainer.h"
#include "train/tasks/task.h"
#include <nlohmann/json.hpp>

namespace moba {

struct ComparePlan {
    struct Task {
        std::string name;
    };
    struct Eval {
        std::vector<int> lengths;  // tokens, from the plan's multiples
        std::vector<int> samples;  // for all lengths, or for each
        int depths = 0, windows = 0;
    };
    struct Run {
        size_t task, variant;  // indices
        int seed;
        double lr = 0;                        // of the plan's "lr"; 0 = none there, the options decide
        std::string name = "";                // of the run's folder
        std::vector<std::string> words = {};  // of `moba train`, without --out
        nlohmann::json settings = {};         // all options that decide what is learnt
        TrainOptions options = {};
        TrainPlan plan = {};
        Eval eval = {};
    };
    std::string title;
    std::vector<Task> tasks;
    std::vector<std::string> variants;
    std::vector<double> lr;
    std::vector<int> bench_lengths;
    std::vector<Run> runs;  // for each task, for each seed, for each variant, for each learning rate
};

ComparePlan read_plan(const CompareOptions&);
std::unique_ptr<Task> task_of(const TrainOptions&);  // the task that is learnt without --data

}  // namespace moba

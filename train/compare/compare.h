/* moba compare: trains every variant of a plan, evaluates all on the same samples, and writes the results.

   DIR/runs/<task>.<variant>.s<seed>/   the folder of a run, as `moba train` writes it, and in it
       settings.json         of the training
       train.txt, eval.txt   what the two commands printed
       eval.json             what `moba eval --json` wrote
       result.json           the run's line of results.jsonl
   DIR/bench/            timings of attention alone at the plan's lengths
   DIR/results.jsonl     for each run the line
                         {"kind": "run", "task", "variant", "seed", "lr", "status": "done" | "failed",
                          "error", "command", "eval_command", "eval_settings", "layers", "block_size",
                          "top_k", "seq_len", "parameters", "device",
                          "train": the figures of train_figures.h, "plan_bytes", "peak_bytes",
                          "eval": what `moba eval --json` writes}
                         and for each task and variant, at B = 1,
                         {"kind": "lengths", "task", "variant",
                          "rows": [{"seq_len", "forward_ms", "memory_bytes" (of training),
                                    "attention_ms" (forward and backward, all layers)}, ...]}
   DIR/report.html       the results as a page: report.h
   DIR/charts/<task>/    the charts of the page, one file each
   Every run is a separate process, started by exactly the command that the report shows. After a stop or a
   kill the same command continues the comparison. It repeats failed runs, and evaluates runs again if the
   settings of the evaluation have changed. */
#pragma once
#include "train/compare/compare_options.h"

namespace moba {

int run_compare(const CompareOptions&);

}  // namespace moba

/* moba compare: trains every variant of a plan, evaluates all on the same samples, and writes what came out.

   DIR/runs/<task>.<variant>.s<seed>/   a run's folder as `moba train` makes it; with it
       settings.json     of the training; train.txt, eval.txt what was printed; eval.json, result.json
   DIR/bench/            attention alone at the plan's lengths
   DIR/results.jsonl     a line for each run: {"kind": "run", "task", "variant", "seed", "lr", "status": "done" | "failed", "error", "command",
                         "eval_command", "layers", "block_size", "top_k", "seq_len", "parameters", "device", "train": train_figures.h and
                         "plan_bytes", "peak_bytes", "eval": what `moba eval --json` writes}
                         and for each task and variant: {"kind": "lengths", "task", "variant", "rows": [{"seq_len", "forward_ms",
                         "attention_ms" (forward and backward, all layers), "memory_bytes" (of training)}, ...]} at B = 1
   DIR/report.html       the same to look at: report.h
   DIR/charts/<task>/    its charts, each a file of its own
   Every run is a process of its own, and the commands in the report are the very ones. Whenever it stops or is killed, the same command
   goes on; failed runs are tried again, and runs whose evaluation is to be another one are evaluated again. */
#pragma once
#include "train/compare/compare_options.h"

namespace moba {

int run_compare(const CompareOptions&);

}  // namespace moba

#include "train/compare/compare_options.h"
#include "train/options/option_builder.h"

namespace moba {

void add_compare_options(CLI::App& app, CompareOptions& o) {
    start_options(app);
    add(app, "--config", o.config, "FILE",
        "The plan: variants, tasks, seeds and lengths, as JSON. train/configs/compare_full.json is an "
        "example.");
    add(app, "--out", o.out, "DIR",
        "Folder of the runs, results.jsonl and report.html. What is finished there is not run again.");
    add(app, "--seeds", o.seeds, "SEEDS", "Runs of each variant, with seeds 1, 2, ... 0: as the plan says.")
        ->check(whole(0, 1000));
    add(app, "--switch", o.switch_to, "KIND@SHARE",
        "Add a copy of the first variant with MoBA layers. After this share of the tokens they become this "
        "kind, e.g. full@0.9.");
    add_flag(app, "--dry-run", o.dry_run, "Only check the plan, and print the commands.");
    add_device(app, o.device, o.precision);
}

}  // namespace moba

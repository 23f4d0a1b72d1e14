#include "train/plot/plot_options.h"
#include "train/options/option_builder.h"

namespace moba {

void add_plot_options(CLI::App& app, PlotOptions& o) {
    start_options(app);
    app.add_option("runs", o.folders, "Folders of training runs, or of comparisons: all their runs.")
        ->type_name("DIR...")
        ->required();
    add(app, "--out", o.out, "FILE", "The page: one HTML file that needs no network.");
    add(app, "--watch", o.watch, "SECONDS",
        "Seconds after which the page is written again, until Ctrl-C; an open page loads itself again. 0: "
        "write it once.")
        ->check(whole(0, 86400));
    add(app, "--csv", o.csv, "FILE", "Write the figures of every step as comma-separated values, too.");
    add(app, "--tensorboard", o.tensorboard, "DIR",
        "Write event files for TensorBoard into this folder, too: one folder in it for each run.");
}

}  // namespace moba

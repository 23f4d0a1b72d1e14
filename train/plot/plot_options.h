/* The options of `moba plot`. */
#pragma once
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace moba {

struct PlotOptions {
    std::vector<std::string> folders;
    std::string out = "plot.html", csv, tensorboard;
    int watch = 0;  // seconds; 0 = write once
};
void add_plot_options(CLI::App&, PlotOptions&);

}  // namespace moba

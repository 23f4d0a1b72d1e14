/* A comparison in sentences and tables, computed from its figures; page and terminal show the same. */
#pragma once
#include "train/compare/summary.h"
#include "train/display/heat_map.h"

namespace moba {

/* One sentence on quality with its intervals, then one on cost for each variant that can be compared with
   full attention. */
std::vector<std::string> findings(const TaskFigures&);

/* Reasons to doubt the figures: failed and missing runs, few answers, MoBA that chooses every block. */
std::vector<std::string> warnings(const TaskFigures&);

struct FigureCell {
    std::string text, note = "";  // "99.8%", "99.5 to 100.0"
    bool best = false;            // best mean of its column; none if all are equal
};
struct FigureTable {
    std::string name;
    std::vector<std::string> columns = {};           // headings, without that of the variants' names
    std::vector<std::vector<FigureCell>> rows = {};  // [variant][column]
};
/* Quality and cost; without columns in which no variant has a figure. */
std::vector<FigureTable> figure_tables(const TaskFigures&);

/* Accuracy by depth and length, mean over the seeds; no rows if fewer than two depths were tested. */
HeatMap depth_map(const VariantFigures&);

/* "lr 0.003 was chosen from 0.001 (0.52), 0.003 (0.41)", each with its loss; "" if only one was tried. */
std::string learning_rate_note(const VariantFigures&);

/* "needle, moba, seed 2", with the learning rate if several were tried. */
std::string run_name(const TaskFigures&, const VariantFigures&, const RunResult&);

}  // namespace moba

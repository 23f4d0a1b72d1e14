/* A comparison in words and tables: computed sentences without adjectives, and the tables that page and terminal share. */
#pragma once
#include "train/compare/summary.h"
#include "train/display/heat_map.h"

namespace moba {

/* Quality with its intervals, then cost beside full attention, one sentence for each variant that has something to compare. */
std::vector<std::string> findings(const TaskFigures&);

/* What a reader must know before believing them: failed and missing runs, few answers, MoBA that leaves nothing out. */
std::vector<std::string> warnings(const TaskFigures&);

struct FigureCell {
    std::string text, note;  // "99.8%", "99.5 to 100.0"
    bool best = false;       // of its column, by the mean; none where all are equal
};
struct FigureTable {
    std::string name;
    std::vector<std::string> columns;           // without the variants' names
    std::vector<std::vector<FigureCell>> rows;  // [variant][column]
};
/* Quality and cost; without the columns in which no variant has a figure. */
std::vector<FigureTable> figure_tables(const TaskFigures&);

/* Accuracy by depth and length, mean over the seeds; no rows where a variant was not asked at several depths. */
HeatMap depth_map(const VariantFigures&);

std::string learning_rate_note(
    const VariantFigures&);  // "lr 0.003 of 0.001 (0.52), 0.003 (0.41)"; "" where only one was tried

/* "needle, moba, seed 2", with the learning rate where several were tried. */
std::string run_name(const TaskFigures&, const VariantFigures&, const nlohmann::json& run);

}  // namespace moba

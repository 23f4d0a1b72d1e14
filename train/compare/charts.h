/* The charts of one task of a comparison. Each function returns only charts with data, possibly none. The
   colour, dashes and marker of a variant follow from its index and are the same in all charts. */
#pragma once
#include "train/compare/summary.h"
#include "train/display/svg.h"

namespace moba {

using Charts = std::vector<Chart>;

Charts loss_charts(const TaskFigures&);      // training and validation, against tokens and against seconds
Charts position_charts(const TaskFigures&);  // text: loss by position, one chart for each length
Charts length_charts(const TaskFigures&);    // accuracy or loss against length
Charts cost_charts(const TaskFigures&);      // time of attention, speed relative to full attention, memory
Charts router_charts(const TaskFigures&);    // measured against predicted recall; accuracy against reach
Charts flop_charts(const TaskFigures&);      // validation loss against the flop spent by then
Charts all_charts(const TaskFigures&);

}  // namespace moba

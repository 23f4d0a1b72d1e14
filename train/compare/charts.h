/* The charts of one task of a comparison. Each function gives those for which something was measured, so perhaps none; a variant has the
   same colour, dash and marker in all of them: its place among the variants. */
#pragma once
#include "train/compare/summary.h"
#include "train/display/svg.h"

namespace moba {

std::vector<Chart>
loss_charts(const TaskFigures&);  // training and validation, against tokens and against seconds
std::vector<Chart> position_charts(const TaskFigures&);  // text: loss by position, one for each length
std::vector<Chart> length_charts(const TaskFigures&);    // accuracy or loss against length
std::vector<Chart>
cost_charts(const TaskFigures&);  // attention's time, how many times as fast as full, memory
std::vector<Chart>
router_charts(const TaskFigures&);                   // recall against its prediction; accuracy against reach
std::vector<Chart> flop_charts(const TaskFigures&);  // validation loss against the flop spent by then
std::vector<Chart> all_charts(const TaskFigures&);

}  // namespace moba

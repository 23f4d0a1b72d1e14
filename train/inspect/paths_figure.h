/* The paths of an answer as a picture, as a list and as lines of text. */
#pragma once
#include "train/inspect/answer_paths.h"
#include <string>
#include <vector>

namespace moba {

/* names: of all tokens. */
std::string draw_paths(const std::vector<Path>&, int num_layers, const std::vector<std::string>& names);
std::string paths_list(const std::vector<Path>&, const std::vector<std::string>& names);
/* "8.0% directly, 94.0% through one other token, 12.0% through 2 other tokens". totals: by number of hops,
   from 1 on. */
std::string totals_text(const std::vector<double>& totals);
/* `27.3%: 137 "v14" -> 138 "k10" (layer 0 head 0, 38.0%) -> 255 "k10" (layer 1 head 0, 71.8%)` */
std::string path_text(const Path&, const std::vector<std::string>& names);

}  // namespace moba

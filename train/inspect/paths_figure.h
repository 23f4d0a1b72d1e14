/* The paths of an answer as a picture, as a table and as lines of text. */
#pragma once
#include "train/inspect/answer_paths.h"
#include <string>
#include <vector>

namespace moba {

/* names: of all tokens. */
std::string draw_paths(const std::vector<Path>&, int num_layers, const std::vector<std::string>& names);
std::string paths_table(const std::vector<Path>&, const std::vector<std::string>& names);
/* `27.3%: 137 "v14" -> 138 "k10" (layer 0 head 0, 38.0%) -> 255 "k10" (layer 1 head 0, 71.8%)` */
std::string path_text(const Path&, const std::vector<std::string>& names);

}  // namespace moba

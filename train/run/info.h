/* What a model folder holds: settings, sizes, origin. */
#pragma once
#include <string>

namespace CLI {
class App;
}

namespace moba {

struct InfoOptions {
    std::string model;
};
void add_info_options(CLI::App&, InfoOptions&);

int run_info(const InfoOptions&);

}  // namespace moba

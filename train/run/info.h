/* moba info: prints the settings, sizes and origin of a model folder. */
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

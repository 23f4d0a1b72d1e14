#include "train/core/device_choice.h"
#include "moba/op_table.h"

namespace moba {

Device parse_device(const std::string& name) {
    if (name == "gpu" && !find_device(Device::gpu)) {
        throw Error("--device gpu: " + gpu_problem() + "; use --device cpu");
    }
    return name != "cpu" && find_device(Device::gpu) ? Device::gpu : Device::cpu;
}

}  // namespace moba

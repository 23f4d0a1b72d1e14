#include "moba/op_table.h"

namespace moba {

namespace {

#define CPU_ROW(name, function, ...) .name = function##_cpu __VA_ARGS__,
template <class E>
const Ops<E> cpu = {EACH_OP(CPU_ROW)};
template <class E>
const WorkspaceBytes<E> cpu_workspaces = {EACH_WORKSPACE(CPU_ROW)};

#ifdef MOBA_CUDA
#define GPU_ROW(name, function, ...) .name = function##_gpu __VA_ARGS__,
template <class E>
const Ops<E> gpu = {EACH_OP(GPU_ROW)};
template <class E>
const WorkspaceBytes<E> gpu_workspaces = {EACH_WORKSPACE(GPU_ROW)};
#endif

bool usable(Device d) { return d == Device::cpu || gpu_problem().empty(); }

}  // namespace

#ifdef MOBA_CUDA
std::string gpu_problem() {
    static const std::string problem = find_gpu_problem();
    return problem;
}
void choose_gpu(int number) { choose_card(number); }
#else
std::string gpu_problem() { return "this program was built without CUDA"; }
void choose_gpu(int) {}
#endif

const DeviceOps* find_device(Device d) {
    if (!usable(d)) { return nullptr; }
#ifdef MOBA_CUDA
    if (d == Device::gpu) { return &gpu_device; }
#endif
    return &cpu_device;
}

template <class E>
const Ops<E>* find_ops(Device d) {
    if (!usable(d)) { return nullptr; }
    if (d == Device::cpu) { return &cpu<E>; }
#ifdef MOBA_CUDA
    if constexpr (!std::is_same_v<E, double>) { return &gpu<E>; }  // double is the CPU's
#endif
    return nullptr;
}

template <class E>
const WorkspaceBytes<E>* find_workspaces(Device d) {
    if (!usable(d)) { return nullptr; }
    if (d == Device::cpu) { return &cpu_workspaces<E>; }
#ifdef MOBA_CUDA
    if constexpr (!std::is_same_v<E, double>) { return &gpu_workspaces<E>; }
#endif
    return nullptr;
}

INSTANTIATE_AND_DOUBLE(find_ops)
INSTANTIATE_AND_DOUBLE(find_workspaces)

}  // namespace moba

#include "moba/op_table.h"

// clang-format off
template <class E> static const Ops<E> cpu = {
    .embedding_forward = embedding_forward_cpu<E>,
    .embedding_backward = embedding_backward_cpu<E>,
    .norm_forward = norm_forward_cpu<E>,
    .residual_norm_forward = residual_norm_forward_cpu<E>,
    .norm_backward = norm_backward_cpu<E>,
    .linear_forward = linear_forward_cpu<E, E>,
    .linear_forward_wide = linear_forward_cpu<E, acc_t<E>>,
    .linear_backward_input = linear_backward_input_cpu<E>,
    .linear_backward_weight = linear_backward_weight_cpu<E>,
    .qkv_split = qkv_split_cpu<E>,
    .qkv_join = qkv_join_cpu<E>,
    .rope_forward = rope_forward_cpu<E>,
    .rope_backward = rope_backward_cpu<E>,
    .key_conv_forward = key_conv_forward_cpu<E>,
    .key_conv_backward = key_conv_backward_cpu<E>,
    .gate_forward = gate_forward_cpu<E>,
    .gate_lists = gate_lists_cpu,
    .attention_forward = attention_forward_cpu<E>,
    .attention_backward = attention_backward_cpu<E>,
    .cache_rows = cache_rows_cpu<E>,
    .cache_means = cache_means_cpu<E>,
    .decode_attention = decode_attention_cpu<E>,
    .swiglu_forward = swiglu_forward_cpu<E>,
    .swiglu_backward = swiglu_backward_cpu<E>,
    .residual_forward = residual_forward_cpu<E>,
    .residual_backward = residual_backward_cpu<E>,
    .gather_rows = gather_rows_cpu<E>,
    .scatter_rows = scatter_rows_cpu<E>,
    .loss_forward_backward = loss_forward_backward_cpu<E>,
    .loss_sums = loss_sums_cpu<acc_t<E>>,
    .grad_norm = grad_norm_cpu<acc_t<E>>,
    .adamw = adamw_cpu<E>,
};

template <class E> static const WorkspaceBytes<E> cpu_workspaces = {
    .embedding = embedding_workspace_bytes,
    .norm = norm_workspace_bytes<E>,
    .linear = linear_workspace_bytes<E>,
    .key_conv = key_conv_workspace_bytes<E>,
    .gate = gate_workspace_bytes<E>,
    .gate_lists = gate_lists_workspace_bytes,
    .attention = attention_workspace_bytes<E>,
    .decode = decode_workspace_bytes<E>,
    .grad_norm = grad_norm_workspace_bytes<acc_t<E>>,
};

static const MemoryOps cpu_memory = {
    .allocate = allocate_cpu,
    .release = release_cpu,
    .available = available_cpu,
    .taken = taken_cpu,
    .reserve = reserve_cpu,
    .zero = zero_cpu,
    .to_device = copy_cpu,
    .to_host = copy_cpu,
    .copy = parallel_copy_cpu,
    .name = name_cpu,
    .synchronize = synchronize_cpu,
    .range_begin = range_begin_cpu,
    .range_end = range_end_cpu,
    .stream = stream_cpu,
    .graphs = nullptr,
    .counts = counts_cpu,
};

#ifdef MOBA_CUDA
template <class E> static const Ops<E> gpu = {
    .embedding_forward = embedding_forward_gpu<E>,
    .embedding_backward = embedding_backward_gpu<E>,
    .norm_forward = norm_forward_gpu<E>,
    .residual_norm_forward = residual_norm_forward_gpu<E>,
    .norm_backward = norm_backward_gpu<E>,
    .linear_forward = linear_forward_gpu<E, E>,
    .linear_forward_wide = linear_forward_gpu<E, acc_t<E>>,
    .linear_backward_input = linear_backward_input_gpu<E>,
    .linear_backward_weight = linear_backward_weight_gpu<E>,
    .qkv_split = qkv_split_gpu<E>,
    .qkv_join = qkv_join_gpu<E>,
    .rope_forward = rope_forward_gpu<E>,
    .rope_backward = rope_backward_gpu<E>,
    .key_conv_forward = key_conv_forward_gpu<E>,
    .key_conv_backward = key_conv_backward_gpu<E>,
    .gate_forward = gate_forward_gpu<E>,
    .gate_lists = gate_lists_gpu,
    .attention_forward = attention_forward_gpu<E>,
    .attention_backward = attention_backward_gpu<E>,
    .cache_rows = cache_rows_gpu<E>,
    .cache_means = cache_means_gpu<E>,
    .decode_attention = decode_attention_gpu<E>,
    .swiglu_forward = swiglu_forward_gpu<E>,
    .swiglu_backward = swiglu_backward_gpu<E>,
    .residual_forward = residual_forward_gpu<E>,
    .residual_backward = residual_backward_gpu<E>,
    .gather_rows = gather_rows_gpu<E>,
    .scatter_rows = scatter_rows_gpu<E>,
    .loss_forward_backward = loss_forward_backward_gpu<E>,
    .loss_sums = loss_sums_gpu<acc_t<E>>,
    .grad_norm = grad_norm_gpu<acc_t<E>>,
    .adamw = adamw_gpu<E>,
};

template <class E> static const WorkspaceBytes<E> gpu_workspaces = {
    .embedding = embedding_workspace_bytes_gpu,
    .norm = norm_workspace_bytes_gpu<E>,
    .linear = linear_workspace_bytes_gpu<E>,
    .key_conv = key_conv_workspace_bytes_gpu<E>,
    .gate = gate_workspace_bytes_gpu<E>,
    .gate_lists = gate_lists_workspace_bytes_gpu,
    .attention = attention_workspace_bytes_gpu<E>,
    .decode = decode_workspace_bytes_gpu<E>,
    .grad_norm = grad_norm_workspace_bytes_gpu<acc_t<E>>,
};

static const GraphOps gpu_graphs = {
    .begin = begin_graph_gpu,
    .end = end_graph_gpu,
    .replay = replay_graph_gpu,
    .release = release_graph_gpu,
};

static const MemoryOps gpu_memory = {
    .allocate = allocate_gpu,
    .release = release_gpu,
    .available = available_gpu,
    .taken = taken_gpu,
    .reserve = reserve_gpu,
    .zero = zero_gpu,
    .to_device = to_device_gpu,
    .to_host = to_host_gpu,
    .copy = copy_gpu,
    .name = name_gpu,
    .synchronize = synchronize_gpu,
    .range_begin = range_begin_gpu,
    .range_end = range_end_gpu,
    .stream = stream_gpu,
    .graphs = &gpu_graphs,
    .counts = counts_gpu,
};
// clang-format on

std::string gpu_problem() {
    static const std::string problem = gpu_problem_gpu();
    return problem;
}
static const MemoryOps* find_gpu_memory() { return &gpu_memory; }
template <class E>
static const Ops<E>* find_gpu() {
    if constexpr (std::is_same_v<E, double>) {
        return nullptr;
    } else {
        return &gpu<E>;
    }  // fp64 is the CPU's
}
template <class E>
static const WorkspaceBytes<E>* find_gpu_workspaces() {
    if constexpr (std::is_same_v<E, double>) {
        return nullptr;
    } else {
        return &gpu_workspaces<E>;
    }
}
#else
std::string gpu_problem() { return "this program was built without CUDA"; }
static const MemoryOps* find_gpu_memory() { return nullptr; }
template <class E>
static const Ops<E>* find_gpu() {
    return nullptr;
}
template <class E>
static const WorkspaceBytes<E>* find_gpu_workspaces() {
    return nullptr;
}
#endif

static bool usable(Device d) { return d == Device::cpu || gpu_problem().empty(); }

template <class E>
const Ops<E>* find_ops(Device d) {
    return !usable(d) ? nullptr : d == Device::cpu ? &cpu<E> : find_gpu<E>();
}
template <class E>
const WorkspaceBytes<E>* find_workspaces(Device d) {
    return !usable(d) ? nullptr : d == Device::cpu ? &cpu_workspaces<E> : find_gpu_workspaces<E>();
}
const MemoryOps* find_memory(Device d) {
    return !usable(d) ? nullptr : d == Device::cpu ? &cpu_memory : find_gpu_memory();
}

template const Ops<double>* find_ops(Device);
template const Ops<float>* find_ops(Device);
template const Ops<bf16>* find_ops(Device);
template const WorkspaceBytes<double>* find_workspaces(Device);
template const WorkspaceBytes<float>* find_workspaces(Device);
template const WorkspaceBytes<bf16>* find_workspaces(Device);

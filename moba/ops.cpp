#include "moba/ops.h"

// clang-format off
template <class E> static const Ops<E> cpu = {
    .embedding_forward = embedding_forward_cpu<E>,
    .embedding_backward = embedding_backward_cpu<E>,
    .norm_forward = norm_forward_cpu<E>,
    .norm_backward = norm_backward_cpu<E>,
    .linear_forward = linear_forward_cpu<E, E>,
    .linear_forward_wide = linear_forward_cpu<E, acc_t<E>>,
    .linear_backward_input = linear_backward_input_cpu<E>,
    .linear_backward_weight = linear_backward_weight_cpu<E>,
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
    .grad_norm = grad_norm_cpu<acc_t<E>>,
    .adamw = adamw_cpu<E>,
};
// clang-format on

static const MemoryOps cpu_memory = {
    .allocate = allocate_cpu,
    .release = release_cpu,
    .zero = zero_cpu,
    .to_device = copy_cpu,
    .to_host = copy_cpu,
    .name = name_cpu,
    .synchronize = synchronize_cpu,
    .range_begin = range_begin_cpu,
    .range_end = range_end_cpu,
};

template <class E>
const Ops<E>* find_ops(Device d) {
    return d == Device::cpu ? &cpu<E> : nullptr;
}
const MemoryOps* find_memory(Device d) { return d == Device::cpu ? &cpu_memory : nullptr; }

template const Ops<double>* find_ops(Device);
template const Ops<float>* find_ops(Device);
template const Ops<bf16>* find_ops(Device);

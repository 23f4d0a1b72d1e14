/* The list of operations. One row per op and direction; each has one room per device, <op>.cpp and <op>.cu. model.cpp
   calls through this table, so there is one forward and one backward pass for every device. decltype makes a signature
   that differs between rooms a compile error; a test finds rows left empty. */
#pragma once
#include "moba/ops/adamw.h"
#include "moba/attention/attention.h"
#include "moba/attention/decode.h"
#include "moba/ops/residual.h"
#include "moba/ops/embedding.h"
#include "moba/attention/gate.h"
#include "moba/ops/key_conv.h"
#include "moba/ops/linear.h"
#include "moba/ops/loss.h"
#include "moba/ops/loss_sums.h"
#include "moba/core/device_ops.h"
#include "moba/ops/swiglu.h"
#include "moba/ops/norm.h"
#include "moba/ops/qkv.h"
#include "moba/ops/rope.h"
#include "moba/ops/rows.h"

template <class E>
struct Ops {
    decltype(&embedding_forward_cpu<E>) embedding_forward;
    decltype(&embedding_backward_cpu<E>) embedding_backward;
    decltype(&norm_forward_cpu<E>) norm_forward;
    decltype(&residual_norm_forward_cpu<E>) residual_norm_forward;
    decltype(&norm_backward_cpu<E>) norm_backward;
    decltype(&linear_forward_cpu<E, E>) linear_forward;
    decltype(&linear_forward_cpu<E, acc_t<E>>) linear_forward_wide;  // logits
    decltype(&linear_backward_input_cpu<E>) linear_backward_input;
    decltype(&linear_backward_weight_cpu<E>) linear_backward_weight;
    decltype(&qkv_split_cpu<E>) qkv_split;
    decltype(&qkv_join_cpu<E>) qkv_join;
    decltype(&rope_forward_cpu<E>) rope_forward;
    decltype(&rope_backward_cpu<E>) rope_backward;
    decltype(&key_conv_forward_cpu<E>) key_conv_forward;
    decltype(&key_conv_backward_cpu<E>) key_conv_backward;
    decltype(&gate_forward_cpu<E>) gate_forward;
    decltype(&gate_lists_cpu) gate_lists;
    decltype(&attention_forward_cpu<E>) attention_forward;
    decltype(&attention_backward_cpu<E>) attention_backward;
    decltype(&cache_rows_cpu<E>) cache_rows;
    decltype(&cache_means_cpu<E>) cache_means;
    decltype(&decode_attention_cpu<E>) decode_attention;
    decltype(&swiglu_forward_cpu<E>) swiglu_forward;
    decltype(&swiglu_backward_cpu<E>) swiglu_backward;
    decltype(&residual_forward_cpu<E>) residual_forward;
    decltype(&residual_backward_cpu<E>) residual_backward;
    decltype(&gather_rows_cpu<E>) gather_rows;
    decltype(&scatter_rows_cpu<E>) scatter_rows;
    decltype(&loss_forward_backward_cpu<E>) loss_forward_backward;
    decltype(&loss_sums_cpu<acc_t<E>>) loss_sums;
    decltype(&grad_norm_cpu<acc_t<E>>) grad_norm;
    decltype(&adamw_cpu<E>) adamw;
};

/* What each needs of the workspace, in bytes. */
template <class E>
struct WorkspaceBytes {
    decltype(&embedding_workspace_bytes) embedding;
    decltype(&norm_workspace_bytes<E>) norm;
    decltype(&linear_workspace_bytes<E>) linear;
    decltype(&key_conv_workspace_bytes<E>) key_conv;
    decltype(&gate_workspace_bytes<E>) gate;
    decltype(&gate_lists_workspace_bytes) gate_lists;
    decltype(&attention_workspace_bytes<E>) attention;
    decltype(&decode_workspace_bytes<E>) decode;
    decltype(&grad_norm_workspace_bytes<acc_t<E>>) grad_norm;
};

/* nullptr where the device cannot be used: gpu_problem() says why. */
template <class E>
const Ops<E>* find_ops(Device);
template <class E>
const WorkspaceBytes<E>* find_workspaces(Device);
const MemoryOps* find_memory(Device);
std::string gpu_problem();  // "" when there is a GPU that this build can use

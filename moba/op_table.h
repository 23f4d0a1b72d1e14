/* The list of operations: EACH_OP, once. From it come the table that a model calls through, the rows of both
   devices, and the names and times of a profile. So there is one forward and one backward pass for every
   device; a signature that differs between <op>.cpp and <op>.cu does not compile.

   Entry    name in the table, function without _cpu or _gpu, template arguments (E: type of the tensors) */
#pragma once
#include "moba/attention/attention.h"
#include "moba/attention/decode.h"
#include "moba/attention/gate.h"
#include "moba/core/device_ops.h"
#include "moba/ops/adamw.h"
#include "moba/ops/embedding.h"
#include "moba/ops/key_conv.h"
#include "moba/ops/linear.h"
#include "moba/ops/loss.h"
#include "moba/ops/loss_sums.h"
#include "moba/ops/norm.h"
#include "moba/ops/qkv.h"
#include "moba/ops/residual.h"
#include "moba/ops/rope.h"
#include "moba/ops/rows.h"
#include "moba/ops/slots.h"
#include "moba/ops/swiglu.h"

namespace moba {

// clang-format off
#define EACH_OP(op)                                                    \
    op(embedding_forward,      embedding_forward,      <E>)            \
    op(embedding_backward,     embedding_backward,     <E>)            \
    op(norm_forward,           norm_forward,           <E>)            \
    op(residual_norm_forward,  residual_norm_forward,  <E>)            \
    op(norm_backward,          norm_backward,          <E>)            \
    op(linear_forward,         linear_forward,         <E, E>)         \
    op(linear_forward_wide,    linear_forward,         <E, acc_t<E>>)  \
    op(linear_backward_input,  linear_backward_input,  <E>)            \
    op(linear_backward_weight, linear_backward_weight, <E>)            \
    op(qkv_split,              qkv_split,              <E>)            \
    op(qkv_join,               qkv_join,               <E>)            \
    op(rope_forward,           rope_forward,           <E>)            \
    op(rope_backward,          rope_backward,          <E>)            \
    op(key_conv_forward,       key_conv_forward,       <E>)            \
    op(key_conv_backward,      key_conv_backward,      <E>)            \
    op(gate_forward,           gate_forward,           <E>)            \
    op(block_means,            block_means,            <E>)            \
    op(gate_lists,             gate_lists,             )               \
    op(attention_forward,      attention_forward,      <E>)            \
    op(attention_delta,        attention_delta,        <E>)            \
    op(attention_backward,     attention_backward,     <E>)            \
    op(cache_rows,             cache_rows,             <E>)            \
    op(cache_means,            cache_means,            <E>)            \
    op(decode_attention,       decode_attention,       <E>)            \
    op(swiglu_forward,         swiglu_forward,         <E>)            \
    op(swiglu_backward,        swiglu_backward,        <E>)            \
    op(residual_forward,       residual_forward,       <E>)            \
    op(residual_backward,      residual_backward,      <E>)            \
    op(gather_rows,            gather_rows,            <E>)            \
    op(scatter_rows,           scatter_rows,           <E>)            \
    op(put_rows,               put_rows,               <E>)            \
    op(add_rows,               add_rows,               <E>)            \
    op(merge_slots,            merge_slots,            <E>)            \
    op(sum_slots,              sum_slots,              <E>)            \
    op(loss_forward_backward,  loss_forward_backward,  <E>)            \
    op(loss_sums,              loss_sums,              <acc_t<E>>)     \
    op(square_sums,            square_sums,            <acc_t<E>>)     \
    op(grad_norm,              grad_norm,              <acc_t<E>>)     \
    op(adamw,                  adamw,                  <E>)

/* What each of them needs of the workspace, in bytes. */
#define EACH_WORKSPACE(op)                                  \
    op(embedding,  embedding_workspace_bytes,  )            \
    op(norm,       norm_workspace_bytes,       <E>)         \
    op(linear,     linear_workspace_bytes,     <E>)         \
    op(key_conv,   key_conv_workspace_bytes,   <E>)         \
    op(gate,       gate_workspace_bytes,       <E>)         \
    op(gate_lists, gate_lists_workspace_bytes, )            \
    op(attention,  attention_workspace_bytes,  <E>)         \
    op(decode,     decode_workspace_bytes,     <E>)
// clang-format on

template <class E>
struct Ops {
#define MEMBER(name, function, ...) decltype(&function##_cpu __VA_ARGS__) name;
    EACH_OP(MEMBER)
};

template <class E>
struct WorkspaceBytes {
    EACH_WORKSPACE(MEMBER)
#undef MEMBER
};

/* nullptr where the device cannot be used: gpu_problem() says why. */
template <class E>
const Ops<E>* find_ops(Device);
template <class E>
const WorkspaceBytes<E>* find_workspaces(Device);
const DeviceOps* find_device(Device);
std::string gpu_problem();    // "" when there is a GPU that this build can use
void choose_gpu(int number);  // choose_card(), where there are GPUs

}  // namespace moba

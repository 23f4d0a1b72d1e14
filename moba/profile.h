/* Where the time of a pass goes, by operation: a second table of operations, each entry of which marks a range for profilers
   (NVTX on the GPU), times the call where asked, and calls the device's own entry.

   Use      Profile profile;  model.set_profile(&profile);  a step;  profile.rows[(int)Op::norm_forward].ms
   Cost     without a profile: nothing on the CPU, one NVTX range for each call on the GPU. With one the device is waited for
            before and after each call, so nothing overlaps: the sum is what the operations take alone */
#pragma once
#include "moba/op_table.h"
#include <array>

/* The rows of Ops, in order. profile.cpp does not compile with one missing, twice or out of order. */
// clang-format off
#define EACH_OP(row) \
    row(embedding_forward) row(embedding_backward) row(norm_forward) row(residual_norm_forward) row(norm_backward) \
    row(linear_forward) row(linear_forward_wide) row(linear_backward_input) row(linear_backward_weight) \
    row(qkv_split) row(qkv_join) row(rope_forward) row(rope_backward) row(key_conv_forward) row(key_conv_backward) \
    row(gate_forward) row(gate_lists) row(attention_forward) row(attention_backward) \
    row(cache_rows) row(cache_means) row(decode_attention) \
    row(swiglu_forward) row(swiglu_backward) row(residual_forward) row(residual_backward) \
    row(gather_rows) row(scatter_rows) row(loss_forward_backward) row(loss_sums) row(grad_norm) row(adamw)
// clang-format on

#define NAME(op) op,
enum class Op { EACH_OP(NAME) count };
#undef NAME
const char* op_name(Op);

struct Profile {
    struct Row {
        double ms = 0;
        int calls = 0;
    };
    std::array<Row, (int)Op::count> rows;
};

/* The table that a model calls through: with a profile, or on the GPU, the one described above; else the device's own. */
template <class E>
const Ops<E>* find_ops(Device, const Profile*);

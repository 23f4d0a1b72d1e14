/* Where the time of a pass goes, by operation: a second table of operations, each entry of which marks a
   range for profilers (NVTX on the GPU), times the call where asked, and calls the device's own entry.

   Use      Profile profile;  model.set_profile(&profile);  a step;  profile.rows[(int)Op::norm_forward].ms
   Cost     without a profile: nothing on the CPU, one NVTX range for each call on the GPU. With a profile
            the host waits before and after each call. Nothing overlaps, and each time is that of one
            operation alone */
#pragma once
#include "moba/op_table.h"
#include <array>

namespace moba {

#define NAME(name, ...) name,
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

/* The table that a model calls through: with a profile, or on the GPU, the one described above; else the
   device's own. */
template <class E>
const Ops<E>* find_profiled_ops(Device, const Profile*);

}  // namespace moba

/* The GPUs that the lab knows, and how long a kernel must take at least on one of them. */
#pragma once
#include "train/lab/counts.h"

namespace moba {

struct LabCard {
    const char *id, *name;
    const char* arch;        // in test/kernels/resources.txt
    const char* capability;  // compute capability
    double dram, l2;         // bytes/s; l2: measured by others
    double clock;            // Hz, of the SMs
    double fp32, tensor;     // flop/s at that clock: 128 multiply-adds of an SM and clock; bf16, dense
    int sms;
    size_t memory, l2_bytes;  // memory: that a driver reports, rounded down; only the H200's was seen
    size_t l1_bytes, shared_bytes,
        block_shared;  // of an SM: L1 with shared memory, shared alone; of a thread block
    int warps = 64, blocks = 32, registers = 65536;  // of an SM
    size_t reserved_shared = 1 << 10;                // of each thread block
};
const LabCard& lab_card(std::string_view id);
std::vector<std::string> lab_card_ids();
std::string lab_card_names();  // "h100, h200 or a100"

/* Registers from test/kernels/resources.txt, and how many thread blocks of this kernel an SM can hold. */
KernelResources kernel_resources(const LabCard&, const KernelCounts&);

/* Sums of a kernel's counts, and times in seconds, both scaled to all blocks. */
struct KernelSums {
    MemoryCounts global, shared;
    uint64_t barriers = 0, warp_operations = 0;
    double waves;                                      // grid / (SMs * resident blocks)
    double dram, l2, sm, longest_block, fp32, tensor;  // sm: L1 and shared memory of the busy SMs
    double floor;                                      // the largest of these
    std::string bound;                                 // its name
};
/* flop: of all launches of the kernel in fp32; 0 if unknown. */
KernelSums sum_kernel(const LabCard&, const KernelCounts&, double flop);

}  // namespace moba

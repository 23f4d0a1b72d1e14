/* Kernels whose accesses are counted by hand (lab_cases.cu), and what must be counted. */
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace moba {

struct WantGlobal {
    uint64_t requests, sectors, ideal, lines;
};
struct WantShared {
    uint64_t requests, wavefronts, conflicts;
};
struct LabCase {
    const char* name;
    void (*run)();
    WantGlobal read, written;
    WantShared shared_read, shared_written;
};
const std::vector<LabCase>& lab_cases();
// Allocates and frees the memory that the cases use.
void prepare_lab_cases();
void finish_lab_cases();

}  // namespace moba

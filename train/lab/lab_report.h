/* What `moba lab` prints and writes. Figures are of the counted thread blocks; times are scaled to all. */
#pragma once
#include "train/lab/cards.h"
#include "train/lab/source_lines.h"
#include <nlohmann/json_fwd.hpp>

namespace moba {

struct LabKernel {
    KernelCounts counts;
    KernelSums sums;
    std::string name;
    int version;  // of the operation, that launched it
};
struct LabReport {
    const LabCard& card;
    std::string sizes;  // for the title
    std::vector<LabKernel> kernels;
    std::map<uint32_t, SourceChain> chains;

    // Of an instruction: of the call, not of the address at which the call returns.
    const SourceChain& chain(uint32_t pc) const;
};

/* Counts of all accesses that a place makes, itself or in functions that are inlined there. */
struct LabLine {
    MemoryCounts read, written, shared_read, shared_written;
    uint64_t cost() const {
        return read.lines + written.lines + shared_read.wavefronts + shared_written.wavefronts;
    }
    void add(const MemoryCounts&);
};
using LabLines = std::map<std::pair<std::string, int>, LabLine>;  // by file and line
LabLines lines_of(const LabReport&, const KernelCounts&);

double ratio(double a, double b);  // 0 if b is 0
std::string lab_text(const LabReport&, const LabKernel&, int lines);
/* One line for each kernel with the exact counts: operation, version, kernel, and the columns of
   lab_table_header. */
std::string lab_table_header();
std::string lab_table_row(const LabKernel&);
nlohmann::json lab_json(const LabReport&);
std::string lab_page(const LabReport&);

}  // namespace moba

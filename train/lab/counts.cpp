#include "train/lab/counts.h"
#include <link.h>

namespace moba {

Recorder* recorder = nullptr;

uintptr_t program_base() {
    uintptr_t base = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* program, size_t, void* to) { return *(uintptr_t*)to = program->dlpi_addr, 1; },
        &base);
    return base;
}

void MemoryCounts::add(const MemoryCounts& o) {
    shared = o.shared, write = o.write, size = std::max(size, o.size);
    requests += o.requests, lanes += o.lanes, bytes += o.bytes;
    sectors += o.sectors, ideal_sectors += o.ideal_sectors, lines += o.lines;
    l2_sectors += o.l2_sectors, dram_sectors += o.dram_sectors;
    wavefronts += o.wavefronts, ideal_wavefronts += o.ideal_wavefronts, conflicts += o.conflicts;
    if (o.worst.cost > worst.cost) { worst = o.worst; }
}

}  // namespace moba

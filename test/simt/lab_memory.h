/* How a GPU serves one request of a warp: sectors, lines, banks, and models of the caches. Used by lab.cpp. */
#pragma once
#include "train/lab/counts.h"
#include <array>

namespace simt {

struct Request {
    unsigned size = 0, lanes = 0;  // bytes of a lane; lanes that take part
    bool write = false, shared = false;
    uint32_t pc = 0;
    std::array<uintptr_t, 32> address;  // of the lanes that take part, in ascending order of lanes
    std::array<uint8_t, 32> lane;
};

/* Lines of four sectors in sets; the line that was used least recently makes room. */
class CacheModel {
  public:
    uint64_t written_back = 0;  // sectors

    void reset(size_t bytes, unsigned ways);
    // Returns which of the sectors `wanted` (4 bits) were there. A write makes its sectors valid and dirty; a
    // read loads those that were missing.
    unsigned access(uintptr_t line, unsigned wanted, bool write);
    void write_all_back();

  private:
    struct Line {
        uintptr_t line = 0;
        uint64_t used = 0;
        uint8_t valid = 0, dirty = 0;
    };
    size_t sets_ = 1;
    unsigned ways_ = 1;
    uint64_t now_ = 0;
    std::vector<Line> lines_;
};

/* Adds a request of shared memory; returns its wavefronts. */
unsigned count_shared(moba::MemoryCounts&, const Request&);

/* Device memory: allocations, their distinct sectors, and the caches. */
class DeviceMemoryModel {
  public:
    CacheModel l1, l2;

    void allocated(void*, size_t bytes);
    void freed(void*);
    bool holds(uintptr_t address) { return find(address); }
    void start_launch(size_t l2_bytes);  // no sector has been accessed, and L2 is empty
    // Adds a request; returns its lines. All addresses must be in device memory.
    unsigned count(moba::MemoryCounts&, moba::KernelCounts&, const Request&);
    void end_launch(moba::KernelCounts&);

  private:
    struct Allocation {
        size_t bytes;
        std::vector<uint8_t> sector;  // 1: read, 2: written
    };
    using Entry = std::pair<const uintptr_t, Allocation>;
    Entry* find(uintptr_t address);

    std::map<uintptr_t, Allocation> allocations_;
    Entry* last_ = nullptr;
};

}  // namespace simt

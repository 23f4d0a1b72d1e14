/* What a GPU's profiler counts, of kernels that ran on the simulated GPU. A program that can count sets
   `recorder` (test/simt/lab.cpp, in build/lab/moba); in all other programs it is null.

   Exact    requests, lanes, bytes, sectors, 128-byte lines, wavefronts and conflicts of shared memory,
            barriers, warp operations: of the accesses in the source, which nvcc makes too if it keeps their
            widths
   Models   what L1 and L2 hold, and so the traffic of L2 and DRAM: caches that start empty, thread blocks one
            after another
   Missing  spilled registers, instructions that access no memory, latency */
#pragma once
#include "moba/core/base.h"
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace moba {

/* A request: one access of one warp. Its addresses are what a picture of it shows. */
struct AccessPicture {
    unsigned size = 0;            // bytes of a lane
    uint32_t lanes = 0;           // bit l: lane l takes part
    std::vector<uint32_t> bytes;  // of each lane that takes part, its first byte, counted from `origin`
    uint64_t cost = 0;            // wavefronts, or sectors
};

/* Counts of the requests of one instruction, or sums of them. */
struct MemoryCounts {
    bool shared = false, write = false;
    unsigned size = 0;                            // bytes of a lane
    uint64_t requests = 0, lanes = 0, bytes = 0;  // lanes: that took part; bytes: lanes * size
    // device memory: sectors of 32 bytes, and the fewest that could hold the bytes; lines of 128 bytes
    uint64_t sectors = 0, ideal_sectors = 0, lines = 0;
    uint64_t l2_sectors = 0, dram_sectors = 0;  // models: not in L1 or written; read from DRAM
    // shared memory: wavefronts, the fewest that could hold the bytes, and those that bank conflicts add
    uint64_t wavefronts = 0, ideal_wavefronts = 0, conflicts = 0;
    AccessPicture worst;  // the first request of the highest cost

    void add(const MemoryCounts&);
};

/* A line of source with barriers or warp operations. */
struct MeetingCounts {
    uint64_t barriers = 0, warp_operations = 0;
};

/* A kernel's registers and occupancy: of resources.txt; registers 0 if it is not there. */
struct KernelResources {
    unsigned registers = 0, static_shared = 0;
    unsigned resident = 1;  // thread blocks on an SM
};

/* All launches of one kernel, with the same grid and block, within one operation. */
struct KernelCounts {
    std::string operation;
    const void* kernel = nullptr;
    unsigned grid[3] = {}, block[3] = {};
    size_t shared_bytes = 0;  // dynamic
    KernelResources resources;
    uint64_t launches = 0, blocks = 0, counted = 0;  // blocks of all grids, and those that were counted
    std::map<uint32_t, MemoryCounts>
        at;  // by the address of the instruction, from the beginning of the program
    std::map<std::pair<std::string, int>, MeetingCounts> meetings;  // by file and line
    double tensor_flop = 0;                                         // of all thread blocks
    uint64_t dram_read = 0, dram_written = 0;                       // bytes, model
    uint64_t sectors_read = 0, sectors_written = 0;                 // distinct ones
    uint64_t longest_block = 0;                                     // wavefronts of L1 and shared memory

    unsigned threads() const { return block[0] * block[1] * block[2]; }
    double scale() const { return counted ? (double)blocks / counted : 0; }  // from counted blocks to all
};

struct RecordPlan {
    unsigned blocks = 0;  // of each grid that are counted, from its middle; 0: all
    int sms = 132;
    size_t l2_bytes = 50 << 20, l1_bytes = 256 << 10,
           reserved_shared = 1 << 10;  // reserved: per thread block
    std::function<KernelResources(const KernelCounts&)> resources;
};

struct Recorder {
    virtual ~Recorder() = default;
    virtual void start(const std::string& operation, const RecordPlan&) = 0;
    virtual std::vector<KernelCounts> stop() = 0;  // in the order of the first launches
};
extern Recorder* recorder;

/* Where the program was loaded: addresses in its file are relative to it. */
uintptr_t program_base();

}  // namespace moba

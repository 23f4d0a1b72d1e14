#include "test/simt/lab_memory.h"
#include <algorithm>

namespace simt {

// ---- caches ----

void CacheModel::reset(size_t bytes, unsigned ways) {
    ways_ = ways;
    sets_ = std::max<size_t>(1, bytes / 128 / ways);
    lines_.assign(sets_ * ways, {});
    written_back = 0, now_ = 0;
}
unsigned CacheModel::access(uintptr_t line, unsigned wanted, bool write) {
    Line *set = &lines_[(line * 0x9E3779B97F4A7C15ull >> 20) % sets_ * ways_], *oldest = set;
    now_++;
    for (unsigned i = 0; i < ways_; i++) {
        if (set[i].valid && set[i].line == line) {
            const unsigned had = set[i].valid & wanted;
            set[i].valid |= wanted, set[i].dirty |= write ? wanted : 0, set[i].used = now_;
            return had;
        }
        if (set[i].used < oldest->used) { oldest = &set[i]; }
    }
    written_back += __builtin_popcount(oldest->dirty);
    *oldest = {line, now_, (uint8_t)wanted, (uint8_t)(write ? wanted : 0)};
    return 0;
}
void CacheModel::write_all_back() {
    for (Line& l : lines_) { written_back += __builtin_popcount(l.dirty), l.dirty = 0; }
}

// ---- one request ----

static uint64_t distinct_bytes(const Request& r) {
    std::array<uintptr_t, 32> a = r.address;
    std::sort(a.begin(), a.begin() + r.lanes);
    uint64_t sum = r.size;
    for (unsigned i = 1; i < r.lanes; i++) { sum += std::min<uint64_t>(r.size, a[i] - a[i - 1]); }
    return sum;
}
// Keeps the addresses of the most expensive request.
static void keep_worst(moba::MemoryCounts& c, const Request& r, uint64_t cost) {
    if (cost <= c.worst.cost) { return; }
    c.worst = {r.size, 0, {}, cost};
    const uintptr_t least = *std::min_element(r.address.begin(), r.address.begin() + r.lanes) & ~127ull;
    for (unsigned i = 0; i < r.lanes; i++) {
        c.worst.lanes |= 1u << r.lane[i];
        c.worst.bytes.push_back((uint32_t)(r.address[i] - least));
    }
}

/* Shared memory serves 32 banks of 4 bytes in a wavefront. Lanes are served together, 32, 16 or 8 at a time
   for 4, 8 or 16 bytes; of these, lanes that want different words of one bank take turns. For loads of 8 and
   16 bytes twice as many lanes are served together if every lane n wants the same as n ^ 1, or every lane the
   same as n ^ 2: NVIDIA for compute capability 7.x (forums.developer.nvidia.com/t/77228), ncu on an A100
   (zhuanlan.zhihu.com/p/690052715). For 9.0 this is assumed. */
static bool in_pairs(const Request& r, unsigned bit) {
    std::array<uintptr_t, 32> of{};
    for (unsigned i = 0; i < r.lanes; i++) { of[r.lane[i]] = r.address[i]; }
    for (unsigned l = 0; l < 32; l++) {
        if (of[l] && of[l ^ bit] && of[l] != of[l ^ bit]) { return false; }
    }
    return true;
}
unsigned count_shared(moba::MemoryCounts& c, const Request& r) {
    unsigned together = r.size <= 4 ? 32 : r.size == 8 ? 16 : 8, wavefronts = 0, phases = 0;
    if (together < 32 && !r.write && (in_pairs(r, 1) || in_pairs(r, 2))) { together *= 2; }
    for (unsigned i = 0; i < r.lanes; phases++) {
        const unsigned phase = r.lane[i] / together;
        uintptr_t words[32][32];  // distinct ones of each bank
        unsigned of_bank[32] = {}, turns = 0;
        for (; i < r.lanes && r.lane[i] / together == phase; i++) {
            const uintptr_t end = (r.address[i] + r.size - 1) / 4;
            for (uintptr_t w = r.address[i] / 4; w <= end; w++) {
                uintptr_t* asked = words[w % 32];
                unsigned& n = of_bank[w % 32];
                if (std::find(asked, asked + n, w) == asked + n) {
                    asked[n++] = w;
                    turns = std::max(turns, n);
                }
            }
        }
        wavefronts += turns;
    }
    c.wavefronts += wavefronts, c.conflicts += wavefronts - phases;
    c.ideal_wavefronts += (distinct_bytes(r) + 127) / 128;
    keep_worst(c, r, wavefronts);
    return wavefronts;
}

// ---- device memory ----

void DeviceMemoryModel::allocated(void* p, size_t bytes) {
    allocations_[(uintptr_t)p] = {bytes, std::vector<uint8_t>(bytes / 32 + 2)};
}
void DeviceMemoryModel::freed(void* p) {
    last_ = nullptr;
    allocations_.erase((uintptr_t)p);
}
DeviceMemoryModel::Entry* DeviceMemoryModel::find(uintptr_t a) {
    if (last_ && a - last_->first < last_->second.bytes) { return last_; }
    auto it = allocations_.upper_bound(a);
    if (it == allocations_.begin()) { return nullptr; }
    --it;
    return a - it->first < it->second.bytes ? last_ = &*it : nullptr;
}
void DeviceMemoryModel::start_launch(size_t l2_bytes) {
    for (auto& [at, a] : allocations_) { std::fill(a.sector.begin(), a.sector.end(), 0); }
    l2.reset(l2_bytes, 16);
}
unsigned DeviceMemoryModel::count(moba::MemoryCounts& c, moba::KernelCounts& k, const Request& r) {
    std::array<uintptr_t, 64> sector;
    unsigned n = 0, lines = 0;
    for (unsigned i = 0; i < r.lanes; i++) {
        for (uintptr_t x = r.address[i] / 32, last = (r.address[i] + r.size - 1) / 32; x <= last; x++) {
            sector[n++] = x;
        }
    }
    std::sort(sector.begin(), sector.begin() + n);
    n = (unsigned)(std::unique(sector.begin(), sector.begin() + n) - sector.begin());
    for (unsigned i = 0; i < n;) {
        const uintptr_t line = sector[i] / 4;
        unsigned wanted = 0;
        for (; i < n && sector[i] / 4 == line; i++) { wanted |= 1u << sector[i] % 4; }
        lines++;
        const unsigned had = l1.access(line, wanted, false);
        const unsigned beyond = r.write ? wanted : wanted & ~had;  // L1 keeps no writes back
        if (!beyond) { continue; }
        c.l2_sectors += __builtin_popcount(beyond);
        const unsigned missing = beyond & ~l2.access(line, beyond, r.write);
        if (r.write) { continue; }  // counted when they leave L2
        c.dram_sectors += __builtin_popcount(missing);
        k.dram_read += 32 * __builtin_popcount(missing);
    }
    for (unsigned i = 0; i < n; i++) {
        Entry* m = find(sector[i] * 32);
        if (!m) { m = find(sector[i] * 32 + 31); }  // a sector that begins before its allocation
        if (m) { m->second.sector[sector[i] - m->first / 32] |= r.write ? 2 : 1; }
    }
    c.sectors += n, c.lines += lines, c.ideal_sectors += (distinct_bytes(r) + 31) / 32;
    keep_worst(c, r, n);
    return lines;
}
void DeviceMemoryModel::end_launch(moba::KernelCounts& k) {
    l2.write_all_back();
    k.dram_written += 32 * l2.written_back;
    for (const auto& [at, a] : allocations_) {
        for (uint8_t s : a.sector) { k.sectors_read += s & 1, k.sectors_written += s >> 1; }
    }
}

}  // namespace simt

#include "moba/core/device_ops.h"
#include "moba/core/comm.h"
#include "moba/core/parallel.h"
#include <sys/mman.h>

namespace moba {

std::string readable_bytes(size_t bytes) {
    const char* unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 4) { v /= 1024, u++; }
    char text[32];
    std::snprintf(text, sizeof text, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return text;
}

namespace {

char* allocate(size_t bytes) {
    // mmap returns zeroed memory, aligned to a page.
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        throw Error("out of memory: " + readable_bytes(bytes) + " could not be allocated");
    }
    return (char*)p;
}
void release(char* p, size_t bytes) { munmap(p, bytes); }
size_t available() { return SIZE_MAX; }  // unknown: the system assigns pages only at the first access
size_t taken() { return 0; }
size_t reserve() { return 0; }

void zero(const Ctx&, void* dst, size_t bytes) {
    parallel_ranges(bytes, 1 << 20, [&](size_t b, size_t e) { std::memset((char*)dst + b, 0, e - b); });
}
void copy(const Ctx&, void* dst, const void* src, size_t bytes) {
    if (bytes) { std::memcpy(dst, src, bytes); }
}
void parallel_copy(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    parallel_ranges(bytes, 1 << 20,
                    [&](size_t b, size_t e) { copy(ctx, (char*)dst + b, (const char*)src + b, e - b); });
}
const char* name() { return "cpu"; }
void synchronize(const Ctx&) {}
void range_begin(const char*) {}
void range_end() {}
CUstream_st* stream() { return nullptr; }
DeviceCounts counts() { return {}; }
std::unique_ptr<DeviceComm> comm(Comm&) { return nullptr; }

}  // namespace

const DeviceOps cpu_device = {
    .allocate = allocate,
    .release = release,
    .available = available,
    .taken = taken,
    .reserve = reserve,
    .zero = zero,
    .to_device = copy,
    .to_host = copy,
    .copy = parallel_copy,
    .name = name,
    .synchronize = synchronize,
    .range_begin = range_begin,
    .range_end = range_end,
    .stream = stream,
    .graphs = nullptr,
    .counts = counts,
    .comm = comm,
};

}  // namespace moba

#include "moba/core/device_ops.h"
#include "moba/core/parallel.h"
#include <sys/mman.h>

static const unsigned char guard_pattern = 0xC5;

Arena::~Arena() {
    if (base_) { memory_->release(base_, total_bytes_); }
}

Arena::Arena(Arena&& o) noexcept
    : list_(std::move(o.list_)), memory_(o.memory_), base_(o.base_), total_bytes_(o.total_bytes_),
      used_(o.used_), next_(o.next_), tensors_(std::move(o.tensors_)) {
    o.base_ = nullptr;
}

void* Arena::take_bytes(const std::string& name, size_t bytes) {
    const size_t offset = used_;
    used_ += round_up(bytes + guard_bytes, align_bytes);
    if (!base_) {
        tensors_.push_back({name, offset, bytes});
        total_bytes_ = used_;
        return nullptr;
    }
    REQUIRE(next_ < tensors_.size() && tensors_[next_].name == name && tensors_[next_].bytes == bytes,
            "'%s' of %zu bytes to come in the order it was planned", name.c_str(), bytes);
    next_++;
    return base_ + offset;
}

void Arena::allocate() {
    REQUIRE(!base_, "'%s' to be allocated once", list_.c_str());
    used_ = next_ = 0;
    if (!total_bytes_) { return; }
    base_ = memory_->allocate(total_bytes_);
    std::vector<unsigned char> pattern(guard_bytes, guard_pattern);
    for (const Tensor& t : tensors_) {
        memory_->to_device({}, base_ + t.offset + t.bytes, pattern.data(), guard_bytes);
    }
}

bool Arena::guards_intact(std::string* broken) const {
    const std::vector<unsigned char> pattern(guard_bytes, guard_pattern);
    std::vector<unsigned char> there(guard_bytes);
    for (const Tensor& t : tensors_) {
        memory_->to_host({}, there.data(), base_ + t.offset + t.bytes, guard_bytes);
        if (there != pattern) {
            *broken = t.name;
            return false;
        }
    }
    return true;
}

std::string readable_bytes(size_t bytes) {
    const char* unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    int u = 0;
    while (v >= 1024 && u < 4) { v /= 1024, u++; }
    char text[32];
    std::snprintf(text, sizeof text, u ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return text;
}

char* allocate_cpu(size_t bytes) {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                   0);  // zeroed, page-aligned
    if (p == MAP_FAILED) {
        throw Error("out of memory: " + readable_bytes(bytes) + " could not be allocated");
    }
    return (char*)p;
}
void release_cpu(char* p, size_t bytes) { munmap(p, bytes); }
size_t available_cpu() { return SIZE_MAX; }  // pages come when they are touched
size_t taken_cpu() { return 0; }
size_t reserve_cpu() { return 0; }

void zero_cpu(const Ctx&, void* dst, size_t bytes) {
    parallel_ranges(bytes, 1 << 20, [&](size_t b, size_t e) { std::memset((char*)dst + b, 0, e - b); });
}
void copy_cpu(const Ctx&, void* dst, const void* src, size_t bytes) {
    if (bytes) { std::memcpy(dst, src, bytes); }
}
void parallel_copy_cpu(const Ctx& ctx, void* dst, const void* src, size_t bytes) {
    parallel_ranges(bytes, 1 << 20,
                    [&](size_t b, size_t e) { copy_cpu(ctx, (char*)dst + b, (const char*)src + b, e - b); });
}
const char* name_cpu() { return "cpu"; }
void synchronize_cpu(const Ctx&) {}
void range_begin_cpu(const char*) {}
void range_end_cpu() {}
CUstream_st* stream_cpu() { return nullptr; }
DeviceCounts counts_cpu() { return {}; }

#include "moba/core/arena.h"

namespace moba {

static const unsigned char guard_pattern = 0xC5;

Arena::~Arena() {
    if (base_) { device_->release(base_, total_bytes_); }
}

Arena::Arena(Arena&& o) noexcept
    : list_(std::move(o.list_)), device_(o.device_), base_(o.base_), total_bytes_(o.total_bytes_),
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
    base_ = device_->allocate(total_bytes_);
    std::vector<unsigned char> pattern(guard_bytes, guard_pattern);
    for (const Tensor& t : tensors_) {
        device_->to_device({}, base_ + t.offset + t.bytes, pattern.data(), guard_bytes);
    }
}

bool Arena::guards_intact(std::string* broken) const {
    const std::vector<unsigned char> pattern(guard_bytes, guard_pattern);
    std::vector<unsigned char> there(guard_bytes);
    for (const Tensor& t : tensors_) {
        device_->to_host({}, there.data(), base_ + t.offset + t.bytes, guard_bytes);
        if (there != pattern) {
            *broken = t.name;
            return false;
        }
    }
    return true;
}

}  // namespace moba

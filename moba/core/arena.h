/* Memory of tensors: one allocation for each kind, then pointers into it. No tensor is freed alone.

   The list of take() calls is run twice. The first time nothing is allocated yet, and the sizes are added up (a model's plan). The
   second time pointers are handed out. Every tensor starts at a multiple of 256 bytes and is followed by at least 64 bytes of a known
   pattern: guards_intact() finds it unchanged unless something was written past the tensor's end. Memory starts zeroed. */
#pragma once
#include "moba/core/device_ops.h"
#include <vector>

namespace moba {

constexpr size_t align_bytes = 256;  // what cudaMalloc promises; more than any vector load needs
constexpr size_t guard_bytes = 64;

class Arena {
  public:
    Arena(std::string list, const DeviceOps* memory) : list_(std::move(list)), device_(memory) {}
    ~Arena();
    Arena(Arena&& other) noexcept;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    template <class X>
    X* take(const std::string& name, size_t count) {
        return (X*)take_bytes(name, count * sizeof(X));
    }
    void allocate();  // after the first walk; the next take() starts the second
    size_t bytes() const { return total_bytes_; }
    const std::string& list() const { return list_; }
    char* base() const { return base_; }

    struct Tensor {
        std::string name;
        size_t offset, bytes;
    };
    const std::vector<Tensor>& tensors() const { return tensors_; }
    bool guards_intact(std::string* broken) const;  // names the first tensor that was overrun

  private:
    void* take_bytes(const std::string& name, size_t bytes);
    std::string list_;
    const DeviceOps* device_;
    char* base_ = nullptr;
    size_t total_bytes_ = 0, used_ = 0, next_ = 0;
    std::vector<Tensor> tensors_;
};

/* Hands out pieces of a workspace, aligned as tensors are. Without a base it only adds up. */
class BumpAllocator {
  public:
    explicit BumpAllocator(char* base) : base_(base) {}
    template <class X>
    X* take(size_t count) {
        char* p = base_ ? base_ + used_ : nullptr;
        used_ += round_up(count * sizeof(X), align_bytes);
        return (X*)p;
    }
    size_t bytes() const { return used_; }

  private:
    char* base_;
    size_t used_ = 0;
};

}  // namespace moba

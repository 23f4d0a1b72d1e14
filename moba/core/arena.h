/* Memory for tensors: one allocation per arena, and each tensor is a pointer into it. Tensors are not freed
   one by one.

   The list of take() calls runs twice. In the first pass nothing is allocated and the sizes are added up (the
   plan). In the second pass take() returns pointers. Every tensor starts at a multiple of 256 bytes. After
   each tensor lie at least 64 bytes with a known pattern; guards_intact() checks that no write past the end
   of a tensor has changed them. Memory starts zeroed. */
#pragma once
#include "moba/core/device_ops.h"
#include <vector>

namespace moba {

// What cudaMalloc guarantees; more than any vector load needs.
constexpr size_t align_bytes = 256;
constexpr size_t guard_bytes = 64;

class Arena {
  public:
    Arena(std::string list, const DeviceOps* device) : list_(std::move(list)), device_(device) {}
    ~Arena();
    Arena(Arena&& other) noexcept;
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    template <class X>
    X* take(const std::string& name, size_t count) {
        return (X*)take_bytes(name, count * sizeof(X));
    }
    void allocate();  // call it after the first pass of take(); the next take() starts the second pass
    size_t bytes() const { return total_bytes_; }
    const std::string& list() const { return list_; }
    char* base() const { return base_; }

    struct Tensor {
        std::string name;
        size_t offset, bytes;
    };
    const std::vector<Tensor>& tensors() const { return tensors_; }
    // False if something was written past the end of a tensor; `broken` then names the first such tensor.
    bool guards_intact(std::string* broken) const;

  private:
    void* take_bytes(const std::string& name, size_t bytes);
    std::string list_;
    const DeviceOps* device_;
    char* base_ = nullptr;
    size_t total_bytes_ = 0, used_ = 0, next_ = 0;
    std::vector<Tensor> tensors_;
};

/* Cuts a workspace into pieces, aligned like tensors. With a null base it only adds up the sizes. */
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

// A layout is a struct whose constructor, Layout(BumpAllocator&, arguments...), takes its arrays from the
// allocator.
template <class Layout, class... Arguments>
size_t layout_bytes(const Arguments&... arguments) {
    BumpAllocator allocator(nullptr);
    Layout layout(allocator, arguments...);
    return allocator.bytes();
}
// Lays out the workspace of the call.
template <class Layout, class... Arguments>
Layout lay_out_workspace(const Ctx& ctx, const Arguments&... arguments) {
    BumpAllocator allocator(ctx.workspace);
    Layout layout(allocator, arguments...);
    REQUIRE(allocator.bytes() <= ctx.workspace_bytes, "%zu bytes of workspace, have %zu", allocator.bytes(),
            ctx.workspace_bytes);
    return layout;
}

}  // namespace moba

/* Launches that are recorded once and replayed while their shape stays the same: one launch in place of hundreds. On the CPU,
   where it is not allowed, and while a profile takes the times, everything is launched as usual. The bits are the same.

   Use      Recording passes(device->graphs);
            each time: passes.run(ctx, shape, [&] { the launches });
   Order    What has the same shape as the run before it is recorded: its kernels have been loaded by then. */
#pragma once
#include "moba/core/device_ops.h"
#include <functional>
#include <vector>

namespace moba {

class Recording {
  public:
    explicit Recording(const GraphOps*);  // of the device; nullptr: nothing is recorded
    ~Recording();
    Recording(Recording&& other) noexcept;
    Recording& operator=(Recording&& other) noexcept;

    // shape: all that the launches depend on, but for what lies in device memory
    void run(const Ctx&, std::vector<int> shape, const std::function<void()>& launch);
    bool replayed() const { return replayed_; }  // the last run()

  private:
    void release();

    const GraphOps* graphs_;
    CUgraphExec_st* graph_ = nullptr;
    std::vector<int> recorded_shape_, last_shape_;
    bool replayed_ = false;
};

}  // namespace moba
